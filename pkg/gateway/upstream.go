package gateway

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// upstream holds the idle connections to one node, the youngest on top.
type upstream struct {
	addr   string
	remote netip.AddrPort // addr, when it is no host name

	out atomic.Bool // that the node is left out has been told

	mu   sync.Mutex // guards what follows
	idle []*upstreamConn
	gone bool // the node left: what comes back is closed
}

// upstreamConn is one connection to a node. It is owned by one request, or idle.
type upstreamConn struct {
	nc    net.Conn
	probe *probe
	from  *upstream
	fresh bool  // not used by a request before
	since int64 // when it became idle, in the sweep's clock
}

// take returns the connection that was used last, or nil when none is idle.
func (u *upstream) take() *upstreamConn {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.idle)
	if n == 0 {
		return nil
	}
	c := u.idle[n-1]
	u.idle[n-1] = nil
	u.idle = u.idle[:n-1]
	return c
}

// put keeps a connection whose last exchange ended cleanly, or closes it when there are enough or the
// node left.
func (u *upstream) put(c *upstreamConn, now int64, most int) {
	c.fresh, c.since = false, now
	u.mu.Lock()
	keep := !u.gone && len(u.idle) < most
	if keep {
		u.idle = append(u.idle, c)
	}
	u.mu.Unlock()
	if !keep {
		c.nc.Close()
	}
}

// leave closes what is idle; what is in use is closed when it comes back.
func (u *upstream) leave() {
	u.mu.Lock()
	u.gone = true
	idle := u.idle
	u.idle = nil
	u.mu.Unlock()
	for _, c := range idle {
		c.nc.Close()
	}
}

// drop closes what is idle, because the node has begun to leave; new connections may still be made.
func (u *upstream) drop() {
	u.mu.Lock()
	idle := u.idle
	u.idle = nil
	u.mu.Unlock()
	for _, c := range idle {
		c.nc.Close()
	}
}

// expire closes connections idle since before the given time. The oldest lie at the bottom.
func (u *upstream) expire(before int64) {
	u.mu.Lock()
	n := 0
	for n < len(u.idle) && u.idle[n].since < before {
		n++
	}
	var late []*upstreamConn
	if n > 0 {
		late = append(late, u.idle[:n]...)
		rest := copy(u.idle, u.idle[n:])
		clear(u.idle[rest:])
		u.idle = u.idle[:rest]
	}
	u.mu.Unlock()
	for _, c := range late {
		c.nc.Close()
	}
}

// count returns how many connections are idle.
func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.idle)
}

// dial makes a new connection.
func (u *upstream) dial(ctx context.Context, timeout time.Duration) (*upstreamConn, error) {
	d := net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", u.addr)
	if err != nil {
		return nil, err
	}
	return &upstreamConn{nc: nc, probe: newProbe(nc), from: u, fresh: true}, nil
}
