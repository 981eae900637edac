package gateway

import (
	"io"
	"net"
	"sync"

	"github.com/goms-io/goms/pkg/http1"
)

// tunnel answers 101 and then carries bytes both ways until one side ends. Only a node's 101 to a
// request that asked for an upgrade opens one.
func (c *conn) tunnel(x *exchange, up *upstreamConn, head []byte) error {
	x.status, x.close, x.sent = 101, true, true
	x.out = x.appendUpgrade(x.out[:0], head)
	first := x.ans[x.ansR:x.ansW]
	x.out = append(x.out, first...)
	x.ansR = x.ansW
	if err := c.writeClient(x.out); err != nil {
		return err
	}
	early := c.buf[c.r:c.w]
	c.r = c.w
	if len(early) > 0 {
		if _, err := up.nc.Write(early); err != nil {
			return nil // the node left a tunnel that stood: not a failed request
		}
	}
	c.gw.metrics.tunnels.Add(1)
	defer c.gw.metrics.tunnels.Add(-1)
	c.arm(c.gw.clock(), c.gw.set().StreamTimeout)
	c.flowing(phaseTunnel)
	up.wait(max(vanishedAfter, c.gw.set().BodyTimeout))
	var err error
	if http1.EqualFold(x.req.Upgrade, "websocket") {
		err = c.webSocket(up.nc, first, early)
	} else {
		err = c.bothWays(func() { c.carry(up.nc, c.nc) }, func() { c.carry(c.nc, up.nc) })
	}
	c.phase.Store(phaseBusy)
	return err
}

// bothWays runs both directions of a tunnel to their end. The error is a fault in the first, which has a goroutine of its own.
func (c *conn) bothWays(toNode, toClient func()) (fault error) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer c.gw.caught(func(err error) {
			fault = err
			c.end(endClientGone) // nothing more comes from there
		})
		toNode()
	})
	toClient()
	wg.Wait()
	return fault
}

// carry copies one way until the end, then tells the other side.
func (c *conn) carry(dst, src net.Conn) {
	if canSplice && passed(c.nc) > 0 { // else nothing would show that it is alive
		io.Copy(dst, src) //nolint:errcheck // either side may end a tunnel at any time
	} else {
		c.carryBuffered(dst, src)
	}
	c.halfClose(dst)
}

// halfClose tells one side of a tunnel that the other has ended.
func (c *conn) halfClose(dst net.Conn) {
	if t, ok := dst.(interface{ CloseWrite() error }); ok {
		t.CloseWrite() //nolint:errcheck // either side may end a tunnel at any time
	}
	// The other way gets as long as a body may stand still, unless bytes still pass.
	c.flowing(phaseStreaming)
	c.arm(c.gw.clock(), c.gw.set().BodyTimeout)
}

// carryBuffered copies through a buffer, so that every piece shows that the tunnel is alive.
func (c *conn) carryBuffered(dst, src net.Conn) {
	bp := relayBuffers.Get().(*[]byte) //nolint:forcetypeassert // see New
	defer relayBuffers.Put(bp)
	for {
		n, err := src.Read(*bp)
		if n > 0 {
			c.arm(c.gw.clock(), c.gw.set().StreamTimeout)
			if _, err := dst.Write((*bp)[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// tunnelBuffer is what one way of a tunnel copies through: little while small messages pass, or none,
// since most tunnels say nothing most of the time.
type tunnelBuffer struct {
	small [2 << 10]byte
	large *[]byte
}

var tunnelBuffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// bytes returns the buffer to read into.
func (t *tunnelBuffer) bytes() []byte {
	if t.large != nil {
		return *t.large
	}
	return t.small[:]
}

// fit makes the buffer fit for what comes, judged by what a read into it gave.
func (t *tunnelBuffer) fit(n int) {
	switch {
	case t.large == nil && n == len(t.small):
		t.large = tunnelBuffers.Get().(*[]byte) //nolint:forcetypeassert // see New
	case t.large != nil && n <= len(t.small):
		t.release()
	}
}

// release gives back what was taken.
func (t *tunnelBuffer) release() {
	if t.large != nil {
		tunnelBuffers.Put(t.large)
		t.large = nil
	}
}
