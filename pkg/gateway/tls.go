package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"time"
)

// handshakeTimeout is a client's time for a TLS handshake.
const handshakeTimeout = 10 * time.Second

// handshake does the TLS handshake of a connection and reports whether it is for this driver: an HTTP/2
// connection is served to its end, by another.
func (c *conn) handshake() bool {
	secure, ok := c.nc.(*tls.Conn)
	if !ok {
		return true
	}
	ctx, cancel := context.WithTimeout(c.gw.base, handshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		c.gw.metrics.handshakeFailures.Add(1)
		return false
	}
	switch secure.ConnectionState().NegotiatedProtocol {
	case "h2":
		c.serveHTTP2(secure)
		return false
	case "acme-tls/1": // the handshake was all there was to it (RFC 8737 section 3)
		return false
	}
	return true
}

// Redirect answers every request with the same address on HTTPS, at the port given; 443 is left out. It
// is a handler for a plain listener that has no other purpose.
func Redirect(port string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if host == "" || r.URL.Path == "" || r.URL.Path[0] != '/' {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		host = strings.Trim(host, "[]")
		switch {
		case port != "443":
			host = net.JoinHostPort(host, port)
		case strings.Contains(host, ":"):
			host = "[" + host + "]"
		}
		w.Header().Set("Location", "https://"+host+r.URL.RequestURI())
		w.WriteHeader(http.StatusPermanentRedirect)
	})
}
