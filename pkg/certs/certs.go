// Package certs holds the certificates of a TLS listener, by host name, and follows their files.
//
//	store, err := certs.Open(certs.Options{Pairs: []certs.Pair{{CertFile: "a.pem", KeyFile: "a.key"}}})
//	go store.Run(ctx)                      // looks for changes
//	config := store.ServerConfig()         // for tls.NewListener
//
// A change takes effect for the next handshake; connections that stand are not touched. A pair of files
// that cannot be used keeps the one before, and says so loudly. The package knows no listeners and no
// requests.
package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// Pair is the files of one certificate, PEM, the chain from leaf to root.
type Pair struct {
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
}

// Options say what a Store holds. Pairs is required.
type Options struct {
	// Pairs are the certificates. The first one serves clients that name no host, or an unknown one.
	Pairs []Pair
	// ClientCAFile holds the authorities, PEM, one of which must have signed a client's certificate; ""
	// asks for none.
	ClientCAFile string
	// Interval is how often files are looked at; 0 is 5 s.
	Interval time.Duration
	// Log gets reloads and what went wrong with them; nil discards.
	Log *slog.Logger
}

// Store is a set of certificates. All methods are safe for concurrent use.
type Store struct {
	options Options
	state   atomic.Pointer[state]
	last    [][]byte // the files' content of the last attempt, Run's own
	failing bool     // the last attempt failed, Run's own
}

// state is one generation.
type state struct {
	first    *tls.Certificate
	byName   map[string]*tls.Certificate // lower case; "*.example.com" for wildcards
	clientCA *x509.CertPool
}

// Open reads all files. An error names the file and what is wrong with it.
func Open(o Options) (*Store, error) {
	if len(o.Pairs) == 0 {
		return nil, errors.New("open certificates: none is named")
	}
	if o.Interval == 0 {
		o.Interval = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{options: o}
	files, err := s.read()
	if err != nil {
		return nil, err
	}
	next, err := s.parse(files)
	if err != nil {
		return nil, err
	}
	s.state.Store(next)
	s.last = files
	return s, nil
}

// Run looks for changed files until ctx is done.
func (s *Store) Run(ctx context.Context) error {
	t := time.NewTicker(s.options.Interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			s.reload()
		}
	}
}

// reload takes in changed files, all of them or none.
func (s *Store) reload() {
	files, err := s.read()
	if err == nil && equal(files, s.last) {
		return
	}
	var next *state
	if err == nil {
		s.last = files
		next, err = s.parse(files)
	}
	if err != nil {
		if !s.failing {
			s.options.Log.Error("changed certificates cannot be used, the ones before stay", "err", err)
		}
		s.failing = true
		return
	}
	s.failing = false
	s.state.Store(next)
	s.options.Log.Info("certificates reloaded", "expire", next.first.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

func equal(a, b [][]byte) bool {
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// read returns the content of all files, in a fixed order.
func (s *Store) read() ([][]byte, error) {
	var names []string
	for _, p := range s.options.Pairs {
		names = append(names, p.CertFile, p.KeyFile)
	}
	if s.options.ClientCAFile != "" {
		names = append(names, s.options.ClientCAFile)
	}
	files := make([][]byte, len(names))
	for i, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		files[i] = b
	}
	return files, nil
}

func (s *Store) parse(files [][]byte) (*state, error) {
	next := &state{byName: map[string]*tls.Certificate{}}
	for i, p := range s.options.Pairs {
		cert, err := tls.X509KeyPair(files[2*i], files[2*i+1])
		if err != nil {
			return nil, fmt.Errorf("read certificate %q with key %q: %w", p.CertFile, p.KeyFile, err)
		}
		if next.first == nil {
			next.first = &cert
		}
		for _, name := range cert.Leaf.DNSNames {
			if name = strings.ToLower(name); next.byName[name] == nil {
				next.byName[name] = &cert
			}
		}
		for _, ip := range cert.Leaf.IPAddresses {
			if next.byName[ip.String()] == nil {
				next.byName[ip.String()] = &cert
			}
		}
	}
	if s.options.ClientCAFile != "" {
		next.clientCA = x509.NewCertPool()
		if !next.clientCA.AppendCertsFromPEM(files[len(files)-1]) {
			return nil, fmt.Errorf("read client authorities %q: no certificate in it", s.options.ClientCAFile)
		}
	}
	return next, nil
}

// ServerConfig returns what a listener needs: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, and the certificates
// of the moment of each handshake.
func (s *Store) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := s.state.Load()
			c := &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
				GetCertificate: now.certificate,
			}
			if now.clientCA != nil {
				c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, now.clientCA
			}
			return c, nil
		},
	}
}

// certificate chooses by the host name that the client asks for.
func (s *state) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if c := s.byName[name]; c != nil {
		return c, nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if c := s.byName["*."+parent]; c != nil {
			return c, nil
		}
	}
	return s.first, nil
}
