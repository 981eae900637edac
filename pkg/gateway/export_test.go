package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

// PanicAt makes requests for path panic, on connections that are accepted from now on.
func (g *Gateway) PanicAt(path string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endpoints[path] = func(*exchange) *local { panic("for the test") }
}

// RequestHead returns the head that a node would see of the request at the beginning of text; nil when
// the request is refused, incomplete, or answered by the gateway itself.
func (g *Gateway) RequestHead(text []byte) []byte {
	x := g.exchange()
	defer g.release(x)
	x.reqScan.Reset()
	end, err := x.reqScan.Scan(text)
	if err != nil || end == 0 || x.begin(text[:end]) != nil {
		return nil
	}
	return x.appendRequest(nil, text[:end], g.tracer.Child(x.trace), "127.0.0.1:1")
}

// RateWindow makes gateways that are made during the test judge the pace of clients over d.
func RateWindow(t testing.TB, d time.Duration) {
	was := rateWindow
	rateWindow = d
	t.Cleanup(func() { rateWindow = was })
}

// CloseTime gives WebSockets d to end when a gateway stops during the test.
func CloseTime(t testing.TB, d time.Duration) {
	was := closeTime
	closeTime = d
	t.Cleanup(func() { closeTime = was })
}

// ProxyHeader is proxyHeader.
var ProxyHeader = proxyHeader

// NodeConn is a connection to a node, as the gateway keeps it.
type NodeConn struct{ c *upstreamConn }

// NodeDialer returns what connects to a node that publishes TLS.
func NodeDialer(n registry.Node, nodeTLS *tls.Config) func() (NodeConn, error) {
	u := &upstream{dialer: newDialer(nil), addr: n.HTTPAddr}
	u.learn(n, nodeTLS)
	return func() (NodeConn, error) {
		c, err := u.dial(context.Background(), 5*time.Second)
		return NodeConn{c}, err
	}
}

// Quiet is what decides whether an idle connection is used.
func (n NodeConn) Quiet() bool { return n.c.quiet() }

// Waiting reports whether the socket has something to read.
func (n NodeConn) Waiting() bool { return n.c.probe.readable() }

// Conn is the connection itself.
func (n NodeConn) Conn() net.Conn { return n.c.nc }

// Leaving reports whether a WebSocket has been asked to end.
func (g *Gateway) Leaving() bool {
	for _, c := range g.snapshotConns(nil) {
		if ws := c.ws.Load(); ws != nil && ws.leaving.Load() {
			return true
		}
	}
	return false
}

// Frames follows the frames of a client, or of a node.
type Frames struct{ f frames }

// FramesOf returns one that has seen nothing.
func FramesOf(client bool) *Frames { return &Frames{frames{masked: client}} }

// Next is next; Between, Ended and Broken tell the state.
func (f *Frames) Next(b []byte) int { return f.f.next(b) }

// Between is between.
func (f *Frames) Between() bool { return f.f.between() }

// Ended is ended.
func (f *Frames) Ended() bool { return f.f.ended }

// Broken is broken.
func (f *Frames) Broken() bool { return f.f.broken }

// Remembered returns of how many routes and services there are figures.
func (g *Gateway) Remembered() (routes, budgets int) {
	g.metrics.mu.Lock()
	defer g.metrics.mu.Unlock()
	return len(g.metrics.routes), len(g.metrics.budgets)
}

// Source is what a plain connection is read from and written to by.
type Source struct{ s *source }

// SourceOf returns that of nc.
func SourceOf(nc net.Conn) Source { return Source{newSource(nc)} }

// ErrStale is errStale.
var ErrStale = errStale

// Ask is ask; what came back is a copy.
func (s Source) Ask(request []byte) (sent int, answer string, err error) {
	sent, buf, n, err := s.s.ask(request, readBuffer, readBuffer)
	answer = string(buf[:n])
	giveBuffer(buf)
	return sent, answer, err
}

// Put is put.
func (s Source) Put(b []byte) error { return s.s.put(b) }
