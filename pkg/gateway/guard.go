package gateway

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// guard keeps the times of one client connection without a timer for each: the connection says until
// when it may wait, and the gateway's sweep, ten times a second, ends the wait of those that are late.
//
// A wait ends by setting the deadline of the client's connection, and of the node's connection in use,
// to the past. They are set back only where a request crosses the end of an idle connection (wake): any
// other connection whose wait was ended is closed.
type guard struct {
	deadline atomic.Int64 // when to end the wait, in the sweep's clock; 0 never, expired when it has ended
	phase    atomic.Int32
	upload   atomic.Int64 // the same for the request's body, while it is passed on beside the answer; 0 when it is not
	spliced  atomic.Bool  // the kernel moves the request's body
	movable  atomic.Int64 // since when an answer is awaited that another node may give, in the sweep's clock; 0 none is, expired when that has ended

	began     atomic.Int64 // when the request's body began to come, in the sweep's clock; 0 not yet
	got       atomic.Int64 // bytes of bodies that were copied, over the connection's life
	hungry    atomic.Bool  // the copying waits for the client, not for the node
	unhurried atomic.Bool  // the answer is a stream of events or messages: neither side has to be fast

	sending, reading pace   // see checkPace
	view             *probe // the sweep's own, made when it is first needed

	mu   sync.Mutex // guards what follows
	nc   net.Conn
	up   *upstreamConn // the node's connection in use, so that a late one can be ended too
	flow uint64        // bytes that had passed when the deadline was last put off
	why  ending
	soft bool // the deadline is that of one attempt, not of the request
}

// expired marks a deadline that the sweep has taken.
const expired = -1

// The phases that the sweep must tell apart.
const (
	phaseBusy      int32 = iota
	phaseIdle            // between two requests: ended when the gateway drains
	phaseOpened          // before the first request: ended when the gateway drains, but not at once
	phaseAnswer          // waiting for a node: ended when the client goes away
	phaseStreaming       // the kernel moves the bytes: progress puts the deadline off
	phaseTunnel          // as streaming; ended with the drain's limit
	phaseWriting         // a piece of an answer's body waits for the client to read
	phaseHTTP2           // net/http's server keeps the connection, and its times
)

// ending says why a wait was ended.
type ending int32

const (
	endNone ending = iota
	endLate
	endClientGone
	endDrain
	endUpload  // the request's body failed while its answer was awaited
	endSlow    // the client sends or reads a body too slowly
	endAttempt // the time of one attempt was over: the request may go on with another
	endSilent  // so it may when nothing is heard of the node
)

// arm lets the connection wait until d from now.
func (g *guard) arm(now int64, d time.Duration) { g.deadline.Store(now + int64(d)) }

// flowing begins a phase in which only the peer's progress shows.
func (g *guard) flowing(phase int32) {
	g.mu.Lock()
	g.flow = passed(g.nc)
	g.mu.Unlock()
	g.phase.Store(phase)
}

// attach names the node's connection in use.
func (g *guard) attach(up *upstreamConn) {
	g.mu.Lock()
	g.up = up
	g.mu.Unlock()
}

// attached returns the node's connection in use, nil when there is none.
func (g *guard) attached() *upstreamConn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.up
}

// detach takes the node's connection back. It reports whether it may be used again: not when its
// wait was ended.
func (g *guard) detach() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.up = nil
	g.movable.Store(0)
	return g.why == endNone
}

// ended says why the wait was ended; endNone when it was not.
func (g *guard) ended() ending {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why
}

var past = time.Unix(1, 0)

// end ends whatever the connection waits for. The first reason stays.
func (g *guard) end(why ending) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endLocked(why)
}

// endLate ends a wait that the sweep found late, unless the connection moved on since.
func (g *guard) endLate(deadline *atomic.Int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case deadline.Load() != expired:
	case g.soft && deadline == &g.deadline:
		g.endUpstreamLocked(endAttempt)
	default:
		g.endLocked(endLate)
	}
}

func (g *guard) endLocked(why ending) {
	if g.why == endNone || g.why == endSilent { // what ends the request outweighs what ends an attempt
		g.why = why
	}
	g.nc.SetDeadline(past)
	if g.up != nil {
		g.up.nc.SetDeadline(past)
	}
}

// endIdle ends the wait for another request, because the gateway stops; also that for a first one, if opened.
func (g *guard) endIdle(opened bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if phase := g.phase.Load(); (phase == phaseIdle || opened && phase == phaseOpened) && g.why == endNone {
		g.why = endDrain
		g.nc.SetDeadline(past)
	}
}

// wake ends the idle phase. When the wait was ended at the same time, it returns why, and takes the end
// back: the caller decides.
func (g *guard) wake() ending {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.phase.Store(phaseBusy)
	g.deadline.Store(0)
	why := g.why
	if why != endNone {
		g.why = endNone
		g.nc.SetDeadline(time.Time{})
	}
	return why
}

// endUpstream ends only what is waited for on the node's side.
func (g *guard) endUpstream(why ending) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endUpstreamLocked(why)
}

func (g *guard) endUpstreamLocked(why ending) {
	if g.why == endNone {
		g.why = why
	}
	if g.up != nil {
		g.up.nc.SetDeadline(past)
	}
}

// beginAttempt makes the deadline that is set next that of one attempt.
func (g *guard) beginAttempt() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.soft = true
}

// answered says that the attempt has its answer: from now on nothing ends it alone. It reports false when
// it was ended already.
func (g *guard) answered() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.soft = false
	return g.why != endAttempt
}

// leaveSilent ends an attempt that nothing will come of: nothing is heard of its node, and it may go on at another.
func (g *guard) leaveSilent() {
	since := g.movable.Load()
	if since <= 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.up != nil && g.up.from.silent(since) && g.movable.CompareAndSwap(since, expired) {
		g.endUpstreamLocked(endSilent)
	}
}

// stays says that the answer has begun, so that leaveSilent comes too late. It reports false when that came first.
func (g *guard) stays() bool { return g.movable.Load() == 0 || g.movable.Swap(0) != expired }

// resume takes the end of an attempt back, if it was ended, so that the request can go on until its limit.
func (g *guard) resume(limit int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.soft = false
	if g.why == endAttempt || g.why == endSilent {
		g.why = endNone
	}
	if g.why == endNone { // also when the attempt was not ended: its time must not end the request later
		g.deadline.Store(limit)
	}
}

// check is the sweep's look at one connection. The times say how long a body and a tunnel may stand still.
func (g *guard) check(now int64, body, tunnel time.Duration) {
	if g.upload.Load() != 0 {
		// As long as the request's body passes, its answer may wait.
		if g.unhurried.Load() {
			now -= int64(tunnel - body) // the body is one half of a stream, and may be as silent
			body = tunnel
		}
		g.late(&g.upload, now, body, g.spliced.Load())
		return
	}
	switch g.phase.Load() {
	case phaseAnswer:
		if g.gone() {
			g.end(endClientGone)
			return
		}
		g.leaveSilent()
		g.late(&g.deadline, now, 0, false)
	case phaseStreaming, phaseWriting:
		g.late(&g.deadline, now, body, true)
	case phaseTunnel:
		g.late(&g.deadline, now, tunnel, true)
	default:
		g.late(&g.deadline, now, 0, false)
	}
}

// gone reports whether the client has left.
func (g *guard) gone() bool {
	if s, ok := g.nc.(*streamConn); ok {
		return s.Gone()
	}
	return g.watch().hungUp()
}

// watch returns the sweep's own look at the client's connection; nil where there is none.
func (g *guard) watch() *probe {
	if g.view == nil {
		g.view = newProbe(g.nc)
	}
	return g.view
}

// late ends the wait when its time is over. Where the kernel moves the bytes, it is given more when some
// have passed since it was last given some.
func (g *guard) late(deadline *atomic.Int64, now int64, more time.Duration, streaming bool) {
	d := deadline.Load()
	if d <= 0 || now <= d {
		return
	}
	if streaming && g.progress() {
		deadline.CompareAndSwap(d, now+int64(more))
		return
	}
	if deadline.CompareAndSwap(d, expired) {
		g.endLate(deadline)
	}
}

// progress reports whether bytes have passed since it was last asked.
func (g *guard) progress() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	moved := passed(g.nc)
	progress := moved != g.flow
	g.flow = moved
	return progress
}

// passed counts the bytes that the peer of nc has taken and sent.
func passed(nc net.Conn) uint64 {
	out, in := transferred(nc)
	return out + in
}
