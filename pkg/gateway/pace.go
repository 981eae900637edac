package gateway

import "time"

// rateWindow is the time over which a client's pace is judged: so long may any body begin to come slowly.
var rateWindow = 10 * time.Second

// pace follows how fast a client moves a body. Only the time in which the gateway waits for the client
// counts, sampled by the sweep, so that a slow node is not held against its clients. The fields are the
// sweep's own.
type pace struct {
	body   int64         // which body: when it began
	waited time.Duration // for the client, in this window
	mark   uint64        // bytes that had passed when the window began
}

// slow takes in one sample in which the client was waited for. It reports whether, at the end of a
// window, less than rate has passed.
func (p *pace) slow(moved func() uint64, window time.Duration, rate int64) bool {
	if p.waited += sweepInterval; p.waited < window {
		return false
	}
	now := moved()
	late := float64(now-p.mark) < float64(rate)*window.Seconds()
	p.waited, p.mark = 0, now
	return late
}

// checkPace is the sweep's look at how fast the client sends the request's body, and reads the answer's.
func (c *conn) checkPace() {
	if c.unhurried.Load() {
		return // a stream of events or messages: who is slow may only be silent
	}
	set := c.gw.set()
	if began := c.began.Load(); began != 0 && c.upload.Load() > 0 && set.MinBodyRate > 0 {
		if c.sending.body != began {
			c.sending = pace{body: began, mark: c.received()}
		}
		if c.awaitsBody() && c.sending.slow(c.received, c.gw.window, int64(set.MinBodyRate)) {
			c.end(endSlow)
		}
	}
	if p := c.phase.Load(); (p == phaseWriting || p == phaseStreaming) && set.MinReadRate > 0 {
		if c.watch().full() && c.reading.slow(c.acknowledged, c.gw.window, int64(set.MinReadRate)) {
			c.end(endSlow)
		}
	}
}

// awaitsBody reports whether more of the request's body could be passed on, had the client sent it.
func (c *conn) awaitsBody() bool {
	if c.spliced.Load() {
		return !c.watch().readable()
	}
	return c.hungry.Load()
}

// received counts the bytes of bodies that have come. When the kernel takes over, it jumps by what else
// has come on the connection: that window is lenient.
func (c *conn) received() uint64 {
	n := uint64(c.got.Load())
	if c.spliced.Load() {
		_, in := transferred(c.nc)
		n += in
	}
	return n
}

// acknowledged counts the bytes that the client has taken.
func (c *conn) acknowledged() uint64 {
	out, _ := transferred(c.nc)
	return out
}
