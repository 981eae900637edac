package service

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/registry"
)

const (
	dialTimeout = time.Second
	idlePerNode = 64
	idleAtMost  = time.Minute // of a connection to a node that allows more
)

// upstream is how Call speaks to one node. It may change when the node comes back at
// the same address as another.
type upstream struct {
	link    atomic.Pointer[link]
	unheard atomic.Bool // the last connection that could not be made had no word of the node in time
}

func upstreamOf(n *lb.Node) *upstream { return n.Data.(*upstream) } //nolint:forcetypeassert // see newUpstream

// link is one way to speak to a node.
type link struct {
	scheme    string // http or https: a node that publishes TLS is not spoken to plain
	transport *http.Transport
}

// control is asked about each address before it is connected to.
type control func(network, address string, c syscall.RawConn) error

// learn takes in what the node says of itself.
func (u *upstream) learn(n registry.Node, nodeTLS *tls.Config, allow control) {
	idle, scheme := min(idleAtMost, n.Reusable()), "http"
	if n.TLS {
		scheme = "https"
	}
	old := u.link.Load()
	if old != nil && old.scheme == scheme && old.transport.IdleConnTimeout == idle {
		return
	}
	u.link.Store(&link{scheme, newTransport(n, idle, nodeTLS, allow)})
	if old != nil {
		old.transport.CloseIdleConnections()
	}
}

// close closes what is idle; what is in use is closed when it has ended.
func (u *upstream) close() { u.link.Load().transport.CloseIdleConnections() }

// newTransport returns the Transport for one node. It uses no proxy, asks for no
// compression, connects only where it is allowed, and drops an idle connection before the
// node does. The kernel finds out, after some seconds of silence, that a node's host has
// vanished.
func newTransport(n registry.Node, idle time.Duration, nodeTLS *tls.Config, allow control) *http.Transport {
	dialer := &net.Dialer{
		Timeout: dialTimeout, Control: allow,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 3 * time.Second, Interval: time.Second, Count: 3},
	}
	secure := n.ClientTLS(nodeTLS)
	return &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, &dialError{err}
			}
			return conn, nil
		},
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			conn, err := dialTLS(ctx, dialer, network, addr, secure)
			if err != nil {
				return nil, &dialError{err}
			}
			return conn, nil
		},
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idlePerNode,
		IdleConnTimeout:        idle,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ExpectContinueTimeout:  time.Second,
	}
}

func dialTLS(ctx context.Context, dialer *net.Dialer, network, addr string, secure *tls.Config) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := tls.Client(conn, secure)
	if err := c.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("make TLS connection to %s, expected to be %q: %w", addr, secure.ServerName, err)
	}
	return c, nil
}

// dialError is a connection that was not made: nothing reached the node.
type dialError struct{ err error }

// Error returns the cause.
func (e *dialError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *dialError) Unwrap() error { return e.err }

// timeout reports whether nothing was heard in time.
func (e *dialError) timeout() bool {
	t, ok := errors.AsType[net.Error](e.err)
	return ok && t.Timeout()
}

// replay is a request's body that can be sent again: always when it is in memory, and
// as long as nothing was read of it when it is not.
type replay struct {
	reader io.Reader
	data   []byte // when inMemory
	inMem  bool
	read   atomic.Bool
}

func newReplay(r io.Reader) *replay {
	switch v := r.(type) {
	case nil:
		return &replay{inMem: true}
	case *bytes.Buffer:
		return &replay{inMem: true, data: v.Bytes()}
	case *bytes.Reader, *strings.Reader:
		// Reading from memory does not fail.
		data, _ := io.ReadAll(v)
		return &replay{inMem: true, data: data}
	}
	return &replay{reader: r}
}

// again reports whether the body can be sent once more.
func (b *replay) again() bool { return b.inMem || !b.read.Load() }

// attach makes b the body of r.
func (b *replay) attach(r *http.Request) {
	switch {
	case b.inMem && len(b.data) == 0 && idempotent(r.Method):
		r.Body = http.NoBody
	case b.inMem:
		r.ContentLength = int64(len(b.data))
		if idempotent(r.Method) { // net/http would repeat others too, when they have an Idempotency-Key
			r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.data)), nil }
		}
		r.Body = io.NopCloser(bytes.NewReader(b.data))
	default:
		r.ContentLength = -1
		r.Body = io.NopCloser(b)
	}
}

// Read notes that the body has begun to leave.
func (b *replay) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.reader.Read(p)
}

// splitTokens splits a comma-separated header.
func splitTokens(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for token := range strings.SplitSeq(s, ",") {
			if token = strings.TrimSpace(token); token != "" && !yield(token) {
				return
			}
		}
	}
}
