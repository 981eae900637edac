package registry

import (
	"crypto/tls"
	"net"
)

// ClientTLS returns how to speak TLS with the HTTP port of n, which publishes it: as base says, nil being the system's
// authorities, and checking the certificate against the host of HTTPAddr unless base has a name. Only HTTP/1.1 is offered, and
// sessions are resumed. base is not changed; the result is the caller's, and safe for many connections at once.
func (n Node) ClientTLS(base *tls.Config) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		c = base.Clone()
	}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(n.HTTPAddr) // a valid node has a good one
	}
	c.NextProtos = []string{"http/1.1"}
	c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	return c
}
