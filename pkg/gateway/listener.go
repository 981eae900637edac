package gateway

import (
	"crypto/tls"
	"net"
)

// Listener is where clients connect, and how.
type Listener struct {
	net.Listener

	// TLS makes its connections TLS; nil leaves them plain. HTTP/1.1 inside TLS is served like without;
	// connections that chose HTTP/2 ("h2" in NextProtos) go through net/http's server, and each of their
	// requests to the same life as any other (stream.go).
	TLS *tls.Config
}

// wrap makes what serves a connection.
func (l Listener) wrap(g *Gateway, nc net.Conn) *conn {
	if l.TLS == nil {
		return newConn(g, nc)
	}
	c := newConn(g, tls.Server(nc, l.TLS))
	c.tls = true
	return c
}
