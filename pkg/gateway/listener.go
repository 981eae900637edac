package gateway

import (
	"crypto/tls"
	"net"
	"net/netip"
)

// Listener is where clients connect, and how.
type Listener struct {
	// Listener is one of TCP or Unix connections. The peer of a Unix connection has no address and counts
	// as 127.0.0.1: it is a process of this machine, which the file's mode let in, and TrustedProxies,
	// ClusterNetworks and ProxyProtocol mean it when they mean loopback. Nor can a Unix connection be reset:
	// to a client of HTTP/1.0 an answer whose length is not known looks whole where it broke off, so proxies
	// speak HTTP/1.1 here.
	net.Listener

	// TLS makes its connections TLS; nil leaves them plain. HTTP/1.1 inside TLS is served like without;
	// connections that chose HTTP/2 ("h2" in NextProtos) go through net/http's server, and each of their
	// requests to the same life as any other (stream.go).
	TLS *tls.Config

	// ProxyProtocol are the networks of proxies whose connections begin with a PROXY header, version 1 or 2,
	// before TLS if there is any: the source it names is the peer from there on, as if it had connected
	// itself. A connection of theirs without a good header, of at most 536 bytes and within HeadTimeout, is
	// closed without an answer. Everybody else's connections begin as usual, and a PROXY header in them is a
	// malformed request. Empty: nobody's do.
	ProxyProtocol []netip.Prefix

	// H2C takes HTTP/2 without TLS from clients that begin with it ("prior knowledge", RFC 9113 section 3.3),
	// beside HTTP/1.1. It is for a listener without TLS.
	H2C bool

	// Closing is called before the listener takes the last connections out of its backlog and closes; nil does nothing. Who keeps
	// another descriptor of the socket closes it here, for it would go on to take connections that nobody serves. It is called once
	// for each Serve, from several goroutines.
	Closing func()
}

// wrap makes what serves a connection.
func (l Listener) wrap(g *Gateway, nc net.Conn) *conn {
	limitUnsent(nc)
	c := newConn(g, nc)
	c.proxied = contains(l.ProxyProtocol, c.peer.Addr())
	c.secure, c.tls = l.TLS, l.TLS != nil
	c.h2c = l.H2C && !c.tls
	return c
}

// admit takes what comes before the handshake. It reports whether the connection goes on.
func (c *conn) admit() bool {
	if c.proxied && !c.readProxy() {
		return false
	}
	if c.secure != nil {
		nc := tls.Server(c.handover(), c.secure)
		c.mu.Lock() // the sweep and Shutdown look at it
		c.nc = nc
		c.mu.Unlock()
		c.tcp, c.src = nil, nil
	}
	return true
}

// handover returns the connection for another to read from its beginning: with the bytes that were read
// already, which are no longer here, and the address of the client.
func (c *conn) handover() net.Conn {
	own := addrPort(c.nc.RemoteAddr())
	if c.r == c.w && own == c.peer {
		if _, ok := c.nc.RemoteAddr().(*net.TCPAddr); ok {
			return c.nc
		}
	}
	h := &handedOver{Conn: c.nc, client: net.TCPAddrFromAddrPort(c.peer), rest: append([]byte(nil), c.buf[c.r:c.w]...)}
	c.r, c.w = 0, 0
	return h
}

// handedOver is a connection of which some bytes were read already, or whose client is not its peer.
type handedOver struct {
	net.Conn
	client net.Addr
	rest   []byte
}

// Read reads what was read already, then from the connection.
func (h *handedOver) Read(b []byte) (int, error) {
	if len(h.rest) == 0 {
		return h.Conn.Read(b)
	}
	n := copy(b, h.rest)
	if h.rest = h.rest[n:]; len(h.rest) == 0 {
		h.rest = nil
	}
	return n, nil
}

// RemoteAddr returns the address of the client.
func (h *handedOver) RemoteAddr() net.Addr { return h.client }

// NetConn returns the connection itself.
func (h *handedOver) NetConn() net.Conn { return h.Conn }

// socketOf returns the connection of the system that carries nc.
func socketOf(nc net.Conn) net.Conn {
	for {
		over, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = over.NetConn()
	}
}

// localPeer stands for the peer of a Unix connection; see Listener.
var localPeer = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)

// addrPort returns an address as the gateway compares it; the zero one when it cannot.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
	case *net.UnixAddr:
		return localPeer
	}
	return netip.AddrPort{}
}
