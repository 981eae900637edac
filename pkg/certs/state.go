package certs

import (
	"crypto/tls"
	"net"
	"strings"
)

// state is one generation of what files say. It does not change once it is in use.
type state struct {
	all    []*tls.Certificate          // as Pairs
	byName map[string]*tls.Certificate // lower case; "*.example.com" for wildcards; addresses
	config *tls.Config
	acme   *issuer // nil without ACME
}

// add takes in one more certificate. A name that an earlier one has stays with that.
func (s *state) add(cert *tls.Certificate) {
	s.all = append(s.all, cert)
	names := make([]string, 0, len(cert.Leaf.DNSNames)+len(cert.Leaf.IPAddresses))
	for _, name := range cert.Leaf.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for _, ip := range cert.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	for _, name := range names {
		if s.byName[name] == nil {
			s.byName[name] = cert
		}
	}
}

// certificate chooses by the host name that the client asks for. Neither a certificate nor an error is a
// refusal that tells the client that the name is unknown.
func (s *state) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	if name == "" {
		name = localIP(hello.Conn)
	}
	if c := s.acme.certificate(name); c != nil {
		return c, nil
	}
	if c := s.byName[name]; c != nil {
		return c, nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if c := s.byName["*."+parent]; c != nil {
			return c, nil
		}
	}
	if len(s.all) > 0 {
		return s.all[0], nil
	}
	return s.acme.fallback(), nil
}

// localIP is the address that the client connected to, "" for none.
func localIP(c net.Conn) string {
	if c == nil {
		return ""
	}
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return a.IP.String()
	}
	return ""
}
