package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/registry"
)

// A node whose host vanished without a word is found out by what it does not acknowledge: the kernel asks
// on a silent connection, and gives up on one that has had no sign of life for this long. Together with
// connectTimeout it bounds what a lost host costs a request.
const (
	vanishedAfter = 6 * time.Second
	askAfter      = 3 * time.Second
	askEvery      = time.Second
)

// upstream holds the idle connections to one node, the youngest on top.
type upstream struct {
	dialer *net.Dialer
	node   *lb.Node
	addr   string
	remote netip.AddrPort // addr, when it is no host name

	out      atomic.Bool // that the node is left out has been told
	unproven atomic.Bool // that TLS to it fails has been told
	unheard  atomic.Bool // the last connection that failed had no word of it in time

	reuse  atomic.Int64               // how old the last use of a connection may be, at its beginning, for another, as the node has it, in nanoseconds
	secure atomic.Pointer[tls.Config] // nil for a node that is spoken to plain

	kept atomic.Pointer[upstreamConn] // of an attempt that was given up, listened to; see listen

	mu   sync.Mutex // guards what follows
	idle []*upstreamConn
	gone bool // the node left: what comes back is closed
}

// upstreamConn is one connection to a node. It is owned by one request, or idle.
type upstreamConn struct {
	nc       net.Conn
	probe    *probe
	src      *source // nil where reads cannot wait without a buffer
	from     *upstream
	secure   *tls.Config   // what it was made with, nil when it is plain
	wire     *wire         // what TLS runs on, nil when it is plain
	fresh    bool          // not used by a request before
	since    int64         // when it was last taken into use, by exactly: the node counts its idle time from later
	patience time.Duration // how long what was sent may go unacknowledged
}

// errStale is an idle connection that has ended, or holds bytes that nobody asked for.
var errStale = errors.New("the idle connection is of no use any more")

// learn takes in what the node says of itself. Connections of the other kind are given up.
func (u *upstream) learn(n registry.Node, nodeTLS *tls.Config) {
	u.reuse.Store(int64(n.Reusable()))
	if n.TLS == (u.secure.Load() != nil) {
		return
	}
	if n.TLS {
		u.secure.Store(n.ClientTLS(nodeTLS))
	} else {
		u.secure.Store(nil)
	}
	u.drop()
}

// take returns the connection that was used last, or nil when none is idle that the node still keeps and whose
// last use began within most.
func (u *upstream) take(most time.Duration) *upstreamConn {
	reuse := min(u.reuse.Load(), int64(most))
	for {
		c := u.pop()
		if c == nil {
			return nil
		}
		if now := exactly(); c.secure == u.secure.Load() && now-c.since < reuse {
			c.since = now
			return c
		}
		c.nc.Close()
	}
}

func (u *upstream) pop() *upstreamConn {
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
func (u *upstream) put(c *upstreamConn, most int) {
	c.fresh = false
	c.wait(vanishedAfter)
	u.mu.Lock()
	keep := !u.gone && len(u.idle) < most && c.secure == u.secure.Load()
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
	kept := u.kept.Swap(nil)
	u.mu.Unlock()
	for _, c := range idle {
		c.nc.Close()
	}
	if kept != nil {
		kept.cut()
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

// expire closes connections that the node will soon close, or whose last use is longer ago than most. The oldest
// lie at the bottom, or nearly so.
func (u *upstream) expire(now int64, most time.Duration) {
	before := now - min(u.reuse.Load(), int64(most))
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

// newDialer makes what connects to nodes, at addresses that control allows; how long it may take is in the context.
func newDialer(control func(network, address string, c syscall.RawConn) error) *net.Dialer {
	return &net.Dialer{Control: control, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: askAfter, Interval: askEvery, Count: int((vanishedAfter - askAfter) / askEvery),
	}}
}

// dial makes a new connection, with TLS if the node publishes it: such a node is not spoken to plain. When
// it fails, nothing of a request has reached the node.
func (u *upstream) dial(ctx context.Context, timeout time.Duration) (*upstreamConn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := u.dialer.DialContext(ctx, "tcp", u.addr)
	if err != nil {
		return nil, err
	}
	c := &upstreamConn{nc: nc, probe: newProbe(nc), from: u, secure: u.secure.Load(), fresh: true, since: exactly()}
	c.wait(vanishedAfter)
	if c.secure == nil {
		c.src = newSource(nc)
		return c, nil
	}
	if err := c.handshake(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// answered notes that an answer has begun: whatever TLS wanted of us, it has.
func (c *upstreamConn) answered() {
	if c.wire != nil && c.from.unproven.Load() {
		c.from.unproven.Store(false)
	}
}

// wait says how long the node may leave unacknowledged what it was sent. A node that takes nothing, though
// it is there, counts as silent too: where a body is on its way it is given a body's time.
func (c *upstreamConn) wait(d time.Duration) {
	if c.patience != d {
		c.patience = d
		c.probe.unacknowledged(d)
	}
}

// quiet reports whether a connection that was idle can be used: it has not ended, and holds nothing that
// nobody asked for.
func (c *upstreamConn) quiet() bool {
	if c.wire != nil {
		return c.wire.quiet(c.nc)
	}
	return !c.probe.readable()
}

// untaken reports whether err, of the first read after n bytes of a request, proves that the node has seen none of them: its end of the connection
// was read, and what came with that acknowledges not one. So the node had closed before its system knew of the request, and would be reset
// by it. A reset alone proves nothing, since it acknowledges nothing either, nor does the end of TLS, which is said on a connection that stands.
func (c *upstreamConn) untaken(err error, n int) bool {
	return c.wire == nil && errors.Is(err, io.EOF) && n > 0 && c.probe.outstanding() >= n
}

// cut closes a connection that something may still be under way on, without a word to the node.
func (c *upstreamConn) cut() {
	if c.wire != nil {
		c.wire.Close() //nolint:errcheck // as with any connection that is given up
		return
	}
	c.nc.Close()
}
