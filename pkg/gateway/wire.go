package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
)

// wire is the TCP connection beneath a TLS connection to a node. What waits on the socket says little about
// TLS: it may be a session ticket, which is no answer, and what TLS has read already waits there no more. So
// an idle connection is looked at by reading from it, while the wire gives only what is there.
type wire struct {
	*net.TCPConn
	probe *probe
	look  bool // a read must not wait
	ended bool // the socket's end was read, and before it no word that the node ends here
	one   [1]byte
}

// Read implements net.Conn.
func (w *wire) Read(b []byte) (int, error) {
	if w.look && !w.probe.readable() {
		return 0, os.ErrDeadlineExceeded // TLS goes on after it
	}
	n, err := w.TCPConn.Read(b)
	if err != nil && errors.Is(err, io.EOF) {
		w.ended = true
	}
	return n, err
}

// quiet reports whether nc, the TLS connection on w, stands and has nothing to say. Tickets and the like are
// taken in.
func (w *wire) quiet(nc net.Conn) bool {
	w.look = true
	n, err := nc.Read(w.one[:])
	w.look = false
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// handshake puts TLS on a new connection.
func (c *upstreamConn) handshake(ctx context.Context) error {
	tcp, ok := c.nc.(*net.TCPConn)
	if !ok {
		panic("BUG: a node is dialed over something that is not TCP")
	}
	c.wire = &wire{TCPConn: tcp, probe: c.probe}
	secure := tls.Client(c.wire, c.secure)
	if err := secure.HandshakeContext(ctx); err != nil {
		return &handshakeError{fmt.Errorf("make TLS connection to %s, expected to be %q: %w", c.from.addr, c.secure.ServerName, err)}
	}
	c.nc = secure
	return nil
}

// handshakeError is a node with TLS that is there, but could not be spoken to.
type handshakeError struct{ error }

// Unwrap returns the cause.
func (e *handshakeError) Unwrap() error { return e.error }

// truncated reports whether the connection's end may be the work of somebody between: TLS ends with a word
// (RFC 9112 section 9.8).
func (c *upstreamConn) truncated() bool { return c.wire != nil && c.wire.ended }

// refusal are the alerts by which a node turns a client's certificate away. With TLS 1.3 that arrives when
// the client takes the handshake for done; the node has looked at nothing behind it.
var refusal = map[tls.AlertError]bool{
	40: true, 42: true, 43: true, 44: true, 45: true, 46: true, 48: true, 49: true, 51: true, 116: true,
}

// refused reports whether err, of the first read on a new connection, is the end of its handshake.
func (c *upstreamConn) refused(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || !c.fresh || c.wire == nil || op.Op != "remote error" {
		return false
	}
	alert := reflect.ValueOf(op.Err) // a type that crypto/tls keeps to itself
	return alert.Kind() == reflect.Uint8 && refusal[tls.AlertError(alert.Uint())]
}
