package gateway

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// try tries one connection of a node: a new one if fresh. reused says that it was not, and that it ended
// before a byte of an answer.
func (c *conn) try(x *exchange, node *lb.Node, u *upstream, fresh bool) (how again, reused bool, err error) {
	patience, hurried := x.connectTimeout()
	var up *upstreamConn
	for {
		up, err = c.connect(c.gw.base, u, fresh, patience)
		if err != nil {
			if hurried && timedOut(err) {
				return againAny, false, &failure{ReasonNodeTimeout, err} // the request had less time than a node is given
			}
			u.unheard.Store(timedOut(err))
			c.gw.failed(x.pool, node, err)
			c.gw.metrics.connectFailures.Add(1)
			return againAny, false, &failure{ReasonConnectFailed, err}
		}
		c.attach(up)
		x.ansR, x.ansW, x.unread = 0, 0, nil
		if how, err = c.converse(x, up); err != errStale { //nolint:errorlint // converse returns it as it is
			break
		}
		c.detach()
		c.resume(0)
		up.nc.Close()
	}
	closed := err != nil && reasonOf(err) == ReasonNodeClosed
	switch {
	case err == nil: // counted when its head came
	case closed && up.fresh, how == againAny && reasonOf(err) == ReasonConnectFailed, c.ended() == endAttempt, c.overdue(x, x.asking, err):
		c.gw.failed(x.pool, node, err)
	}
	c.finishUpstream(x, up, err == nil || how == againRefused)
	return how, closed && !up.fresh && how != againNever, err
}

func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// connect takes an idle connection to the node, or makes one: always if fresh.
func (c *conn) connect(ctx context.Context, u *upstream, fresh bool, patience time.Duration) (*upstreamConn, error) {
	if !fresh {
		if up := u.take(c.gw.set().UpstreamIdleTimeout); up != nil {
			return up, nil
		}
	}
	return u.dial(ctx, patience)
}

// converse sends the request and takes the answer. An idle connection is looked at first: the error is errStale itself
// when it has ended, or holds bytes that nobody asked for.
func (c *conn) converse(x *exchange, up *upstreamConn) (again, error) {
	sent, asked := 0, false
	if x.whole && !up.fresh && up.src != nil {
		var err error
		sent, err = c.ask(x, up)
		asked = sent == len(x.out) || x.unread != nil
		if err != nil {
			return c.unsent(x, sent, err)
		}
	} else if !up.fresh && !up.quiet() {
		return againAny, errStale
	}
	if !asked {
		c.phase.Store(phaseBusy)
		c.arm(c.gw.clock(), c.gw.set().BodyTimeout)
		n, err := up.nc.Write(x.out[sent:])
		if err != nil {
			return c.unsent(x, sent+n, err)
		}
		x.asking = time.Now()
		c.awaitAnswer(x)
	}
	if !x.whole {
		x.tidy()
		c.startUpload(x, up)
	}
	how, err := c.takeAnswer(x, up)
	c.phase.Store(phaseBusy)
	if how == againIdempotent && x.whole && up.untaken(err, len(x.out)) {
		how = againAny
	}
	return how, err
}

// ask sends the request over a connection that was idle, and waits for the beginning of the answer, at the least cost.
// An error is that of the sending, a failed read is left in x.unread. Without either, less may have been sent than
// there is.
func (c *conn) ask(x *exchange, up *upstreamConn) (sent int, err error) {
	x.asking = x.began // nothing was waited for since
	c.awaitAnswer(x)
	c.sizeAnswer(x)
	x.tidyAnswer()
	sent, x.ans, x.ansW, err = up.src.ask(x.out, x.ansSize, x.mostAnswer())
	if err != nil && (sent == len(x.out) || c.ended() != endNone) {
		x.unread = err
		return sent, nil
	}
	if sent < len(x.out) {
		x.asking = time.Time{}
	}
	return sent, err
}

// unsent says what it means that only so many bytes of the request could be sent.
func (c *conn) unsent(x *exchange, sent int, err error) (again, error) {
	c.phase.Store(phaseBusy)
	if err == errStale { //nolint:errorlint // source returns it as it is
		return againAny, err
	}
	err = c.upstreamError(x, err)
	switch {
	case reasonOf(err) != ReasonNodeClosed:
		return againNever, err
	case sent == 0:
		return againAny, err
	}
	return againIdempotent, err
}

// awaitAnswer begins the wait for the head of the answer.
func (c *conn) awaitAnswer(x *exchange) {
	limit := x.limit
	if x.attemptLimit != 0 {
		limit = x.attemptLimit
		c.beginAttempt()
	}
	c.deadline.Store(limit)
	if x.movable() && x.othersLeft() {
		c.movable.Store(instant(x.asking))
	}
	c.phase.Store(phaseAnswer)
}

// upstreamError says what an error on the node's connection means.
func (c *conn) upstreamError(x *exchange, err error) error {
	switch c.ended() {
	case endAttempt, endSilent:
		return &failure{ReasonNodeTimeout, err}
	case endLate, endDrain:
		if x.upload.active && !x.upload.read.Load() && (c.hungry.Load() || c.spliced.Load() && !newProbe(c.nc).readable()) {
			return &failure{ReasonClientTimeout, err}
		}
		return &failure{ReasonNodeTimeout, err}
	case endSlow:
		return &failure{ReasonClientTimeout, err}
	case endClientGone:
		return &failure{ReasonClientGone, err}
	case endUpload:
		return x.upload.err
	}
	return &failure{ReasonNodeClosed, err}
}

// finishUpstream gives the node's connection back, or closes it when it may not be used again.
func (c *conn) finishUpstream(x *exchange, up *upstreamConn, clean bool) {
	clean = c.stopUpload(x, up) && clean
	if c.ended() == endSilent && x.whole && x.ansW == 0 && up.from.listen(up) {
		c.detach()
		return
	}
	if c.detach() && clean && x.reusable() {
		up.from.put(up, c.gw.set().MaxIdleUpstream)
		return
	}
	up.cut()
}
