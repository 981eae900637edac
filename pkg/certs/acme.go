package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACME says which certificates to obtain, and from whom. To set it is to agree to the authority's terms.
//
// Certificates are ordered by Run, ahead of use and never by a handshake, with keys for ECDSA, and renewed
// when a third of their life is left, 30 days at most.
type ACME struct {
	// Directory is the URL of the authority's directory; "" is Let's Encrypt.
	Directory string
	// Email is where the authority writes to; "" is nowhere.
	Email string
	// Hosts are the names to have a certificate each: ASCII ("xn--…"), no wildcards, no addresses. Nothing
	// else is ever ordered. Required.
	Hosts []string
	// Cache keeps certificates across restarts, and is what gateways share. Required.
	Cache Cache
	// CAFile holds the authorities, PEM, that signed the directory's own certificate; "" is the system's.
	CAFile string
	// Spread bounds a random wait before the first order of a host, after which the cache is looked at
	// once more: of gateways that start together one orders and the others find. 0 is 15 s.
	Spread time.Duration

	retry time.Duration // after a failed order; autocert remembers it for a minute. 0 is 65 s
}

var (
	hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	token    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)
)

// challengePath is where RFC 8555 has the answers of HTTP-01.
const challengePath = "/.well-known/acme-challenge/"

// HTTPHandler answers the HTTP-01 challenges of ACME's hosts and leaves all else to fallback (nil is 404). It is
// for a plain listener that the authority reaches at port 80. Call it before Run: without it only
// TLS-ALPN-01 is tried. Without ACME it returns fallback.
func (s *Store) HTTPHandler(fallback http.Handler) http.Handler {
	if fallback == nil {
		fallback = http.NotFoundHandler()
	}
	if s.acme == nil {
		return fallback
	}
	answer := s.acme.manager.HTTPHandler(fallback)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, ok := strings.CutPrefix(r.URL.Path, challengePath)
		host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
		if !ok || !token.MatchString(t) || s.acme.hosts[host] == nil {
			fallback.ServeHTTP(w, r)
			return
		}
		r2 := *r
		r2.Host = host // autocert knows it without port
		answer.ServeHTTP(w, &r2)
	})
}

// issuer keeps the certificates of ACME's hosts. Its nil holds none.
type issuer struct {
	options   ACME
	log       *slog.Logger
	look      time.Duration // how often renewed certificates are looked for, in memory
	manager   *autocert.Manager
	transport *transport
	challenge *tls.Config
	hosts     map[string]*host // fixed
}

type host struct {
	name    string
	cert    atomic.Pointer[tls.Certificate] // nil until there is one
	failing trouble                         // it cannot be obtained
}

func newIssuer(o ACME, look time.Duration, log *slog.Logger) (*issuer, error) {
	if o.Cache == nil || len(o.Hosts) == 0 {
		return nil, errors.New("open certificates: acme needs hosts and a cache")
	}
	if o.Directory == "" {
		o.Directory = autocert.DefaultACMEDirectory
	}
	if o.Spread <= 0 {
		o.Spread = 15 * time.Second
	}
	if o.retry <= 0 {
		o.retry = 65 * time.Second
	}
	if !strings.HasPrefix(o.Directory, "https://") {
		return nil, fmt.Errorf("open certificates: acme directory %q is no https URL", o.Directory)
	}
	i := &issuer{options: o, look: look, log: log, hosts: map[string]*host{}}
	names := make([]string, len(o.Hosts))
	for n, name := range o.Hosts {
		name = strings.ToLower(name)
		if _, err := netip.ParseAddr(name); err == nil || len(name) > 253 || !hostName.MatchString(name) {
			return nil, fmt.Errorf("open certificates: acme host %q: want a full ASCII host name, no wildcard, no address", o.Hosts[n])
		}
		names[n], i.hosts[name] = name, &host{name: name}
	}
	i.options.Hosts = names
	var roots *x509.CertPool
	if o.CAFile != "" {
		content, err := os.ReadFile(o.CAFile)
		if err == nil {
			roots, err = authorities(o.CAFile, content)
		}
		if err != nil {
			return nil, fmt.Errorf("read acme authorities %w", err)
		}
	}
	i.transport = newTransport(roots)
	i.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Email: o.Email,
		Cache:      guard{o.Cache, log},
		HostPolicy: autocert.HostWhitelist(names...),
		Client: &acme.Client{
			DirectoryURL: o.Directory, UserAgent: "goms",
			HTTPClient: &http.Client{Transport: i.transport}, RetryBackoff: i.transport.backoff,
		},
	}
	i.challenge = &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{acme.ALPNProto},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if i.hosts[strings.ToLower(hello.ServerName)] == nil {
				return nil, nil // the cache is not asked for what is not ours
			}
			return i.manager.GetCertificate(hello)
		},
	}
	return i, nil
}

// isChallenge reports whether an authority asks, RFC 8737.
func isChallenge(hello *tls.ClientHelloInfo) bool {
	return slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto})
}

// certificate returns that of a host; nil for none.
func (i *issuer) certificate(name string) *tls.Certificate {
	if i == nil {
		return nil
	}
	if h := i.hosts[name]; h != nil {
		return h.cert.Load()
	}
	return nil
}

// fallback returns the certificate of the first host; nil for none.
func (i *issuer) fallback() *tls.Certificate {
	if i == nil {
		return nil
	}
	return i.certificate(i.options.Hosts[0])
}

// warn logs the certificates that are about to expire, because they are not renewed.
func (i *issuer) warn() {
	for _, name := range i.options.Hosts {
		if cert := i.certificate(name); cert != nil {
			warnExpiry(i.log.With("host", name, "reason", i.transport.reason(name)), cert.Leaf)
		}
	}
}

// start keeps all hosts until ctx is done. The function it returns waits for the end of that.
func (i *issuer) start(ctx context.Context) (wait func()) {
	i.transport.run = ctx
	var all sync.WaitGroup
	for _, h := range i.hosts {
		all.Go(func() { i.keep(ctx, h) })
	}
	return func() {
		all.Wait()
		i.transport.base.CloseIdleConnections()
	}
}

// keep obtains a host's certificate and takes over what autocert renews, until ctx is done.
func (i *issuer) keep(ctx context.Context, h *host) {
	// Renewals, by autocert's timers, are spread by autocert, and look into the cache first.
	if _, err := i.manager.Cache.Get(ctx, h.name); errors.Is(err, autocert.ErrCacheMiss) {
		pause(ctx, rand.N(i.options.Spread))
	}
	retry := i.options.retry
	for ctx.Err() == nil {
		cert, err := i.manager.GetCertificate(helloFor(h.name))
		if err != nil {
			if ctx.Err() == nil && h.failing.begin() {
				i.log.Error("certificate cannot be obtained, will try again", "host", h.name,
					"err", err, "reason", i.transport.reason(h.name))
			}
			if errors.Is(err, errCache) {
				pause(ctx, i.look)
				continue
			}
			pause(ctx, retry+rand.N(retry/4+1))
			retry = min(2*retry, time.Hour)
			continue
		}
		h.failing.end()
		retry = i.options.retry
		if old := h.cert.Load(); old == nil || !old.Leaf.Equal(cert.Leaf) {
			h.cert.Store(cert)
			i.log.Info("certificate obtained", "host", h.name, "expire", cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
		pause(ctx, i.look)
	}
}

// helloFor is the hello of a client of our time, which makes autocert order an ECDSA certificate.
func helloFor(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:   name,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
