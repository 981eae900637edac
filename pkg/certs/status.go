package certs

import (
	"sync/atomic"
	"time"
)

// Status is what is known of one certificate.
type Status struct {
	Name    string    // the host of an ACME certificate, the file of another
	Expires time.Time // when the one in use does; zero when there is none yet
	Failing bool      // it could not be obtained, or its changed file could not be used, the last time
}

// Status returns what is known of all certificates, those of files first, in the order of the Options.
func (s *Store) Status() []Status {
	var list []Status
	now := s.state.Load()
	for i, pair := range s.options.Pairs {
		list = append(list, Status{Name: pair.CertFile, Expires: now.all[i].Leaf.NotAfter, Failing: s.failing.Load()})
	}
	if s.acme == nil {
		return list
	}
	for _, name := range s.acme.options.Hosts {
		h := s.acme.hosts[name]
		one := Status{Name: name, Failing: h.failing.Load()}
		if cert := h.cert.Load(); cert != nil {
			one.Expires = cert.Leaf.NotAfter
		}
		list = append(list, one)
	}
	return list
}

// trouble is something that fails for a while: it is logged when it begins, and others may look.
type trouble struct{ atomic.Bool }

// begin reports whether it is new.
func (t *trouble) begin() bool { return !t.Swap(true) }

// end reports whether there was any.
func (t *trouble) end() bool { return t.Swap(false) }
