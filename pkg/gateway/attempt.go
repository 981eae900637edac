package gateway

import (
	"errors"
	"slices"
	"time"

	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/route"
)

// maxAttempts bounds how many nodes one request is tried on, whatever allows it.
const maxAttempts = 1 + route.MaxRetries

// again says which requests may be tried on another node after a failure.
type again uint8

const (
	againNever      again = iota
	againIdempotent       // the node may have begun: only what may be repeated (RFC 9110 section 9.2.2)
	againRefused          // the node had all of the request and has not begun
	againAny              // nothing of the request reached the node
	againBeside           // the node is slow: another may be asked beside it
	againSilent           // as againIdempotent, of a node that is left out because nothing is heard of it
)

// forward carries the request to a node and the answer back. It returns nil when the client got the
// node's answer or nothing more can be sent, else the answer to give in its place.
func (c *conn) forward(x *exchange, head []byte) *local {
	if err := c.takeBody(x); err != nil {
		x.close = true
		return x.refuse(err)
	}
	err := c.attempts(x, head)
	if err == nil {
		return nil
	}
	c.gw.log.Debug("request failed", "service", x.rule.Service, "route", x.rule.Name, "attempt", x.attempts, "err", err)
	status := x.status
	l := x.refuse(err)
	if x.sent || x.reason == ReasonClientGone { // too late to say anything, or nobody to say it to
		x.close = true
		if x.sent {
			x.status = status
			c.breakOff(x)
		}
		return nil
	}
	if c.ended() != endNone {
		x.close = true
		c.unwind()
	}
	return l
}

// takeBody takes what has arrived of the request's body, so that a fault in it is found before a node
// is asked.
func (c *conn) takeBody(x *exchange) (err error) {
	if x.up.kind != bodyNone {
		var n int
		x.first, n, err = x.up.feed(x.first[:0], c.buf[c.r:c.w])
		c.r += n
	}
	x.whole = x.up.done
	return err
}

// attempts tries one node after the other. A nil error means that a node's answer went to the client.
func (c *conn) attempts(x *exchange, head []byte) error {
	err, how := errNoNode, againNever
	x.limit = instant(x.start) + int64(x.total())
	x.stats.budget.Request(c.gw.clock())
	for now := x.start; x.attempts < maxAttempts; now = time.Now() {
		if instant(now) >= x.limit {
			if x.attempts == 0 {
				err = &failure{reason: ReasonDeadline}
			}
			break
		}
		node, refused := c.next(x, how)
		if node == nil {
			if x.attempts == 0 && errors.Is(refused, lb.ErrOverloaded) {
				err = errOverloaded
			}
			break
		}
		x.timeAttempt(now)
		if x.hedged() {
			how, err = c.race(x, head)
			node = x.tried[x.attempts-1]
		} else {
			how, err = c.attempt(x, node, head)
			x.end(node)
		}
		c.count(x, err)
		if err == nil {
			x.pool.Done(node)
			return nil
		}
		c.resume(x.limit)
		if how == againNever || c.ended() != endNone {
			return err
		}
	}
	return err
}

// next takes the node for the next attempt, which has begun then and must be ended; nil when there is to
// be none, with the pool's error if it had none to give. how is what the last attempt allows, if there was
// one.
func (c *conn) next(x *exchange, how again) (*lb.Node, error) {
	if x.attempts > 0 && !x.mayRepeat(how) {
		return nil, nil
	}
	acquire := x.pool.Acquire
	if !x.movable() { // what a silent node may keep is not what tries it
		acquire = x.pool.AcquireOnce
	}
	node, err := acquire(x.tried[:x.attempts], x.key)
	if node == nil {
		return nil, err
	}
	if x.attempts > 0 && !c.affords(x, how) {
		node.End()
		return nil, nil
	}
	x.tried[x.attempts] = node
	x.attempts++
	x.begun(node)
	return node, nil
}

// begun notes an attempt that the pool counts from now on.
func (x *exchange) begun(node *lb.Node) {
	i := slices.Index(x.open[:], nil)
	if i < 0 {
		panic("BUG: more attempts at a time than there can be")
	}
	x.open[i] = node
	if !x.whole {
		x.flow(node) // how long it takes is up to the client
	}
}

// flow notes that an attempt does not stand in a queue before its node, or not any more.
func (x *exchange) flow(node *lb.Node) {
	if x.flows != node {
		x.flows = node
		node.Flow()
	}
}

// end ends the attempt on a node. Each that has begun is ended once, those that a panic left by endAll.
func (x *exchange) end(node *lb.Node) {
	x.open[slices.Index(x.open[:], node)] = nil
	if x.flows == node {
		x.flows = nil
		node.Finish()
		return
	}
	node.End()
}

// endAll ends what has not been ended.
func (x *exchange) endAll() {
	for _, node := range x.open {
		if node != nil {
			x.end(node)
		}
	}
}

// mayRepeat reports whether the request may go to one more node.
func (x *exchange) mayRepeat(how again) bool {
	switch how {
	case againIdempotent, againBeside, againSilent:
		return x.movable()
	case againRefused:
		return x.whole
	}
	return how == againAny
}

// movable reports whether the request may go on at another node, though one may have begun it.
func (x *exchange) movable() bool { return x.whole && x.repeats < x.retries() && x.repeatable() }

// affords asks the retry budget for one more attempt, and counts it. One after an attempt that reached
// nobody, or a node that says it is leaving, cost no node anything: only the others could become a storm. Nor can
// what leaves a node that fell silent: it is what was in flight there, once, and then one request a pause, and it
// goes to nodes that do answer. To deny it would lose at once what the node had taken in a second.
func (c *conn) affords(x *exchange, how again) bool {
	if how != againAny && how != againSilent && !(how == againRefused && x.leaves) {
		b := c.gw.set().RetryBudget
		if !x.stats.budget.Retry(c.gw.clock(), b.Percent, b.Floor) {
			c.gw.metrics.retriesDenied.Add(1)
			return false
		}
		x.granted = true
	}
	if how == againIdempotent || how == againBeside || how == againSilent {
		x.repeats++
	}
	if how == againBeside {
		c.gw.metrics.hedges.Add(1)
	} else {
		c.gw.metrics.retries.Add(1)
	}
	return true
}

// count tells the retry budget what came of the attempt that it granted, if that was one.
func (c *conn) count(x *exchange, err error) {
	if x.granted {
		x.granted = false
		x.stats.budget.Ended(c.gw.clock(), err == nil)
	}
}

// attempt tries one node.
func (c *conn) attempt(x *exchange, node *lb.Node, head []byte) (how again, err error) {
	u := node.Data.(*upstream) //nolint:forcetypeassert // set by newPool
	ctx := c.gw.tracer.Child(x.trace)
	x.nameAttempt()
	x.room(len(head) + len(x.first) + 1<<10)
	x.out = x.appendRequest(x.out[:0], head, ctx, u.addr)
	x.out = append(x.out, x.first...)
	how, reused, err := c.try(x, node, u, false)
	if reused {
		c.gw.metrics.stale.Add(1)
	}
	if reused && (how == againAny || how == againIdempotent && x.whole && x.repeatable()) {
		// An idle connection that the node had given up says nothing of the node.
		how, _, err = c.try(x, node, u, true)
	}
	x.recordAttempt(ctx, u, x.began, err)
	return how, err
}

var (
	errNoNode     error = &failure{reason: ReasonNoNode}
	errOverloaded error = &failure{reason: ReasonOverloaded}
)
