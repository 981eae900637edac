package gateway

import (
	"bytes"
	"errors"
	"net"
)

// HTTP/2 without TLS is for clients that know it is there (RFC 9113 section 3.3): their connection begins
// with the preface. It is never switched to; what asks for that (Upgrade: h2c) is answered like any request.

// preface is how an HTTP/2 connection begins.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// errPreface says that a connection is one of HTTP/2.
var errPreface = errors.New("the connection is HTTP/2")

// sniff compares what a connection began with to the preface: errPreface when it is all there, more when it
// may still become one. Else it is HTTP/1.1, and not looked at again.
func (c *conn) sniff() (more bool, err error) {
	have := c.buf[c.r:c.w]
	switch {
	case len(have) >= len(preface) && string(have[:len(preface)]) == preface:
		return false, errPreface
	case len(have) < len(preface) && bytes.HasPrefix([]byte(preface), have):
		return true, nil
	}
	c.h2c = false
	return false, nil
}

// serveHTTP2 serves the connection as HTTP/2 to its end.
func (c *conn) serveHTTP2(nc net.Conn) {
	giveBuffer(c.buf)
	c.buf = nil
	c.phase.Store(phaseHTTP2)
	c.gw.http2.serve(nc)
}
