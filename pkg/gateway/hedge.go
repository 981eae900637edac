package gateway

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/trace"
)

// A hedged request is one that asks a second node beside the first, when the first has not answered within
// the route's hedge time. The first head of an answer wins, the other attempt is given up. Each of the two
// is a runner, a goroutine; requests of other routes have none and come by here with one comparison.

// runner is one of the attempts of a hedged request: it sends the request and reads until an answer's head
// is there.
type runner struct {
	node  *lb.Node
	up    *upstreamConn // nil when there is none, or no more
	trace trace.Context
	began time.Time
	name  [16]byte // of the attempt, when named
	named bool

	patience time.Duration // to connect
	hurried  bool          // which is less than a node is given

	request []byte
	ans     []byte // what came back: ans[:w]
	w       int
	status  int // of the answer
	how     again
	err     error
}

// hedged reports whether a second node may be asked beside the one that is asked now.
func (x *exchange) hedged() bool {
	return x.rule.Hedge > 0 && x.attempts == 1 && x.idempotent() && !x.req.HasBody() && !x.upgrade && x.retries() > 0 && x.othersLeft()
}

// race runs the attempt that begins, and maybe a second one, and passes on the answer of the winner.
func (c *conn) race(x *exchange, head []byte) (again, error) {
	x.attemptLimit = 0
	return c.win(x, c.compete(x, head))
}

// compete runs the attempts until one has won. The other has ended when it returns.
func (c *conn) compete(x *exchange, head []byte) (winner *runner) {
	ctx, cancel := context.WithCancel(c.gw.base)
	// Whatever ends the wait, the client's leaving or the deadline, ends the runners.
	c.attach(&upstreamConn{nc: stopper{stop: cancel}})
	c.deadline.Store(x.limit)
	c.phase.Store(phaseAnswer)

	done := make(chan *runner, 2)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			c.lose(x, <-done, nil)
		}
		c.detach()
		c.phase.Store(phaseBusy)
	}()
	start := func() *runner {
		r := c.newRunner(x, head)
		r.patience, r.hurried = x.connectTimeout()
		running++
		go c.run(ctx, r, done)
		return r
	}
	first, how := start(), againBeside
	hedge := time.NewTimer(x.rule.Hedge)
	defer hedge.Stop()
	for running > 0 && (winner == nil || winner.err != nil || winner.status >= 500) {
		select {
		case <-hedge.C:
			if winner != nil {
				break
			}
			if how == againBeside || first.silent() {
				if node, _ := c.next(x, how); node != nil {
					x.began = time.Now()
					start()
					break
				}
				how = againSilent // who may not ask beside the node may still leave it, when nothing is heard of it
			}
			hedge.Reset(sweepInterval)
		case r := <-done:
			running--
			winner = c.better(x, winner, r)
		}
	}
	return winner
}

// silent reports whether the runner waits in vain: nothing is heard of its node.
func (r *runner) silent() bool {
	return r.node.Data.(*upstream).silent(instant(r.began)) //nolint:forcetypeassert // see newUpstream
}

// newRunner makes the runner of the attempt that has begun.
func (c *conn) newRunner(x *exchange, head []byte) *runner {
	node := x.tried[x.attempts-1]
	x.nameAttempt()
	r := &runner{node: node, trace: c.gw.tracer.Child(x.trace), began: x.began, name: x.name, named: x.named, ans: takeBuffer(answerBuffer)}
	r.request = x.appendRequest(nil, head, r.trace, node.Addr())
	return r
}

// better decides between the answer that is there, if one is, and the one that came next: an answer
// before none, and one that is no failure of the node's before one that is.
func (c *conn) better(x *exchange, old, r *runner) *runner {
	switch {
	case old == nil:
		return r
	case r.err == nil && (old.err != nil || r.status < 500):
		c.lose(x, old, old.err)
		return r
	}
	c.lose(x, r, r.err)
	return old
}

// lose ends a runner whose answer is not used. err is why it failed by itself; nil when it did not.
func (c *conn) lose(x *exchange, r *runner, err error) {
	x.end(r.node)
	c.blame(x, r, err)
	x.recordAttempt(r.trace, r.node.Data.(*upstream), r.began, err) //nolint:forcetypeassert // see newUpstream
	if r.up != nil {
		r.up.cut()
	}
	giveBuffer(r.ans)
}

// blame counts a failure of a node's connection, or that it did not answer in time.
func (c *conn) blame(x *exchange, r *runner, err error) {
	switch {
	case err == nil:
	case errors.Is(err, errStopped):
		if c.overdue(x, r.began, err) {
			c.gw.failed(x.pool, r.node, err)
		}
	case reasonOf(err) == ReasonConnectFailed:
		c.gw.metrics.connectFailures.Add(1)
		c.gw.failed(x.pool, r.node, err)
	case reasonOf(err) == ReasonNodeClosed:
		c.gw.failed(x.pool, r.node, err)
	}
}

// win makes the winner's answer that of the exchange, and passes it on.
func (c *conn) win(x *exchange, r *runner) (how again, err error) {
	u := r.node.Data.(*upstream) //nolint:forcetypeassert // see newUpstream
	defer x.end(r.node)
	defer func() { x.recordAttempt(r.trace, u, r.began, err) }()
	last := x.attempts - 1
	if x.tried[last] != r.node { // the one that answered stands last
		x.tried[0], x.tried[last] = x.tried[last], x.tried[0]
	}
	if r.err != nil || c.ended() != endNone {
		if r.up != nil {
			r.up.cut()
		}
		giveBuffer(r.ans)
		c.blame(x, r, r.err)
		if c.ended() != endNone {
			return againNever, c.upstreamError(x, r.err)
		}
		return r.how, r.err
	}
	giveBuffer(x.ans)
	x.ans, x.ansR, x.ansW = r.ans, 0, r.w
	x.name, x.named, x.asking = r.name, r.named, r.began
	c.attach(r.up)
	c.phase.Store(phaseAnswer)
	how, err = c.takeAnswer(x, r.up)
	c.phase.Store(phaseBusy)
	c.finishUpstream(x, r.up, err == nil || how == againRefused)
	return how, err
}

// run is the goroutine of a runner. It ends early when ctx does.
func (c *conn) run(ctx context.Context, r *runner, done chan<- *runner) {
	defer func() { done <- r }()
	defer func() {
		if r.err != nil && ctx.Err() != nil { // whatever it came to: the end was not the node's doing
			r.how, r.err = againNever, &failure{ReasonNodeTimeout, errStopped}
		}
	}()
	defer c.gw.caught(func(fault error) { r.how, r.err = againNever, fault })
	u := r.node.Data.(*upstream) //nolint:forcetypeassert // see newUpstream
	for fresh := false; ; fresh = !errors.Is(r.err, errStale) {
		r.up, r.err = c.connect(ctx, u, fresh, r.patience)
		if r.err != nil {
			reason := ReasonConnectFailed
			if r.hurried && timedOut(r.err) {
				reason = ReasonNodeTimeout
			}
			r.how, r.err = againAny, &failure{reason, r.err}
			return
		}
		used := !r.up.fresh
		up := r.up
		stop := context.AfterFunc(ctx, func() { up.nc.SetDeadline(past) })
		r.how, r.err = r.converse()
		if !stop() && r.err == nil { // it was ended and does not know yet
			r.err = errStopped
		}
		if r.err == nil {
			return
		}
		r.up.cut()
		r.up = nil
		if ctx.Err() != nil || !used {
			return
		}
	}
}

// converse sends the request and reads until a final answer's head is there, or enough to tell that there
// will be none.
func (r *runner) converse() (again, error) {
	r.w, r.status = 0, 0
	if !r.up.fresh && !r.up.quiet() {
		return againAny, errStale
	}
	if n, err := r.up.nc.Write(r.request); err != nil {
		if n == 0 {
			return againAny, &failure{ReasonNodeClosed, err}
		}
		return againIdempotent, &failure{ReasonNodeClosed, err}
	}
	var scan http1.Scanner
	from := 0 // of the head that is looked for
	scan.Reset()
	for {
		end, err := scan.Scan(r.ans[from:r.w])
		switch {
		case err != nil, end == 0 && r.w == len(r.ans):
			return againNever, nil // takeAnswer says what is wrong with it
		case end > 0:
			if r.status = statusOfHead(r.ans[from:r.w]); r.status >= 200 || r.status == 101 {
				return againNever, nil
			}
			from += end
			scan.Reset()
			continue
		}
		n, err := r.up.nc.Read(r.ans[r.w:])
		r.w += n
		if n == 0 && err != nil {
			if r.w > 0 {
				return againNever, &failure{ReasonNodeClosed, err}
			}
			return againIdempotent, &failure{ReasonNodeClosed, err}
		}
	}
}

// statusOfHead reads the status of an answer, 0 when it has none.
func statusOfHead(head []byte) int {
	const at = len("HTTP/1.1 ")
	if len(head) < at+3 {
		return 0
	}
	n := 0
	for _, c := range head[at : at+3] {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// errStopped says that an attempt was ended because the wait for it was.
var errStopped = errors.New("the attempt was given up")

// stopper stands for the node's connection while there are two: ending it ends both.
type stopper struct {
	net.Conn
	stop func()
}

// Close ends the runners too.
func (s stopper) Close() error {
	s.stop()
	return nil
}

// SetDeadline ends the runners: the guard sets no other deadline than the past.
func (s stopper) SetDeadline(time.Time) error {
	s.stop()
	return nil
}
