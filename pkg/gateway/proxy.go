package gateway

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// The bounds of a PROXY header: of a line (version 1), and of what every path on the way takes in one piece,
// which is room for the addresses and some of version 2's extensions.
const (
	maxProxyLine   = 107
	maxProxyHeader = 536
	proxyPrefix    = 16 // of version 2: signature, command, family, length
)

var (
	errNoProxyHeader   = errors.New("no PROXY header")
	errLongProxyHeader = errors.New("PROXY header is too long")
	errBadProxyHeader  = errors.New("PROXY header holds what nobody asked for")
)

// proxyHeader reads the PROXY header that b begins with. It returns its length, 0 when more has to be read,
// and the client that it names; none is named by a proxy that speaks for itself or does not know.
func proxyHeader(b []byte) (n int, client netip.AddrPort, err error) {
	if n, err = proxyLength(b); n == 0 || err != nil {
		return 0, client, err
	}
	if b[0] == proxyproto.SIGV2[0] && b[12] == byte(proxyproto.PROXY) && b[13] == byte(proxyproto.UNSPEC) {
		return n, client, nil // what version 1 calls UNKNOWN; the library refuses it here
	}
	br := bufio.NewReaderSize(bytes.NewReader(b[:n]), maxProxyLine+1)
	h, err := proxyproto.Read(br)
	if err != nil {
		return 0, client, err
	}
	if _, err := br.ReadByte(); err == nil || h.TransportProtocol.IsDatagram() {
		return 0, client, errBadProxyHeader
	}
	if a, ok := h.SourceAddr.(*net.TCPAddr); ok && h.Command.IsProxy() {
		p := a.AddrPort()
		client = netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return n, client, nil
}

// proxyLength returns the length of the PROXY header that b begins with; 0 when more has to be read.
func proxyLength(b []byte) (int, error) {
	switch {
	case begins(b, proxyproto.SIGV1):
		if i := bytes.IndexByte(b[:min(len(b), maxProxyLine)], '\n'); i >= 0 {
			return i + 1, nil
		}
		if len(b) >= maxProxyLine {
			return 0, errLongProxyHeader
		}
		return 0, nil
	case begins(b, proxyproto.SIGV2):
		if len(b) < proxyPrefix {
			return 0, nil
		}
		n := proxyPrefix + int(binary.BigEndian.Uint16(b[proxyPrefix-2:]))
		if n > maxProxyHeader {
			return 0, errLongProxyHeader
		}
		if len(b) < n {
			return 0, nil
		}
		return n, nil
	}
	return 0, errNoProxyHeader
}

// begins reports whether b begins with the signature, as far as b goes.
func begins(b, signature []byte) bool {
	n := min(len(b), len(signature))
	return bytes.Equal(b[:n], signature[:n])
}

// readProxy reads the header that the peer owes and takes its word for who the client is. A connection
// that closes before its first byte, as health checks do, is no fault; any other without a good header is
// one, and gets no answer: who speaks first there is not known.
func (c *conn) readProxy() bool {
	limit := c.gw.clock() + int64(c.gw.set().HeadTimeout)
	if !c.await(c.gw.set().HeadTimeout) {
		if c.gw.clock() >= limit {
			c.gw.metrics.proxyFailures.Add(1)
		}
		return false
	}
	n, client, err := proxyHeader(c.buf[c.r:c.w])
	for err == nil && n == 0 {
		c.deadline.Store(limit)
		if err = c.fill(); err == nil {
			n, client, err = proxyHeader(c.buf[c.r:c.w])
		}
	}
	c.deadline.Store(0)
	if err != nil {
		c.gw.metrics.proxyFailures.Add(1)
		c.gw.log.Debug("bad PROXY header", "addr", c.peer.String(), "err", err)
		return false
	}
	c.r += n
	if client.IsValid() {
		c.peer = client
	}
	return true
}
