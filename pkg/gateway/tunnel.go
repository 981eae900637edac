package gateway

import (
	"io"
	"net"
	"sync"
)

// tunnel answers 101 and then carries bytes both ways until one side ends. Only a node's 101 to a
// request that asked for an upgrade opens one.
func (c *conn) tunnel(x *exchange, up *upstreamConn, head []byte) error {
	x.status, x.close, x.sent = 101, true, true
	x.out = x.appendUpgrade(x.out[:0], head)
	x.out = append(x.out, x.ans[x.ansR:x.ansW]...)
	x.ansR = x.ansW
	if err := c.writeClient(x.out); err != nil {
		return err
	}
	if early := c.buf[c.r:c.w]; len(early) > 0 {
		c.r = c.w
		if _, err := up.nc.Write(early); err != nil {
			return nil // the node left a tunnel that stood: not a failed request
		}
	}
	c.gw.metrics.tunnels.Add(1)
	defer c.gw.metrics.tunnels.Add(-1)
	c.arm(c.gw.clock(), c.gw.set.StreamTimeout)
	c.flowing(phaseTunnel)
	up.wait(max(vanishedAfter, c.gw.set.BodyTimeout))
	var wg sync.WaitGroup
	wg.Go(func() { c.carry(up.nc, c.nc) })
	c.carry(c.nc, up.nc)
	wg.Wait()
	c.phase.Store(phaseBusy)
	return nil
}

// carry copies one way until the end, then tells the other side.
func (c *conn) carry(dst, src net.Conn) {
	if canSplice && passed(c.nc) > 0 { // else nothing would show that it is alive
		io.Copy(dst, src) //nolint:errcheck // either side may end a tunnel at any time
	} else {
		c.carryBuffered(dst, src)
	}
	if t, ok := dst.(interface{ CloseWrite() error }); ok {
		t.CloseWrite() //nolint:errcheck // as above
	}
	// The other way gets as long as a body may stand still, unless bytes still pass.
	c.flowing(phaseStreaming)
	c.arm(c.gw.clock(), c.gw.set.BodyTimeout)
}

// carryBuffered copies through a buffer, so that every piece shows that the tunnel is alive.
func (c *conn) carryBuffered(dst, src net.Conn) {
	bp := relayBuffers.Get().(*[]byte) //nolint:forcetypeassert // see New
	defer relayBuffers.Put(bp)
	for {
		n, err := src.Read(*bp)
		if n > 0 {
			c.arm(c.gw.clock(), c.gw.set.StreamTimeout)
			if _, err := dst.Write((*bp)[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
