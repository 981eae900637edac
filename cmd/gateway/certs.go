package main

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/goms-io/goms/pkg/certs"
	"github.com/goms-io/goms/pkg/gateway"
)

// ACME says which certificates to obtain from an authority. To name hosts is to agree to its terms.
type ACME struct {
	Hosts     []string `yaml:"hosts"`     // a certificate for each, and for no other; none: no ACME
	Email     string   `yaml:"email"`     // where the authority writes to
	Directory string   `yaml:"directory"` // the authority's URL; "" is Let's Encrypt
	CAFile    string   `yaml:"caFile"`    // who signed the directory's own certificate; "" is the system's authorities
	CacheDir  string   `yaml:"cacheDir"`  // keeps certificates on this machine; "" keeps them in etcd, for all gateways
}

// options returns what a certificate store needs to know; nil without hosts.
func (a ACME) options(cache certs.Cache) *certs.ACME {
	if len(a.Hosts) == 0 {
		return nil
	}
	return &certs.ACME{Directory: a.Directory, Email: a.Email, Hosts: a.Hosts, Cache: cache, CAFile: a.CAFile}
}

// unused reports whether something is said that hosts would need.
func (a ACME) unused() bool {
	return len(a.Hosts) == 0 && (a.Email != "" || a.Directory != "" || a.CAFile != "" || a.CacheDir != "")
}

func (t TLS) options(cache certs.Cache, log *slog.Logger) certs.Options {
	return certs.Options{Pairs: t.Certificates, ClientCAFile: t.ClientCAFile, ACME: t.ACME.options(cache), Log: log}
}

// validate complains of what cannot work. It asks neither etcd nor an authority, and makes no directory.
func (t TLS) validate(complain func(key, format string, args ...any)) {
	if t.ACME.unused() {
		complain("gateway.tls.acme.hosts", "there is none, and what else is said of ACME needs one")
	}
	if !t.enabled() {
		if t.ClientCAFile != "" || t.RedirectPort >= 0 {
			complain("gateway.tls.certificates", "there is none, and no acme.hosts, and what else is said of TLS needs one")
		}
		return
	}
	unread := certs.KVCache(nil) // Open does not look into it
	if acme := t.ACME.options(unread); acme != nil {
		if _, err := certs.Open(certs.Options{ACME: acme}); err != nil {
			complain("gateway.tls.acme", "%v", err)
			return
		}
		if t.ClientCAFile != "" && t.RedirectPort < 0 {
			complain("gateway.tls.acme", "an authority has no client certificate: it needs gateway.tls.redirectPort, which it reaches at port 80")
		}
	}
	if _, err := certs.Open(t.options(unread, nil)); err != nil {
		complain("gateway.tls.certificates", "%v", err)
	}
}

// acmeArea is where certificates are in etcd. Beside the nodes, under "{project}/acme/", so that a role for
// nodes cannot read the keys of certificates.
const acmeArea = "acme"

// openCerts makes the certificates of the TLS listeners, if there are any, and what redirects to them.
func (p *process) openCerts() (err error) {
	t := &p.config.Gateway.TLS
	if !t.enabled() {
		return nil
	}
	cache := certs.KVCache(p.registry.KV(acmeArea))
	if dir := t.ACME.CacheDir; dir != "" && len(t.ACME.Hosts) > 0 {
		if cache, err = certs.DirCache(dir); err != nil {
			return err
		}
	}
	if p.certs, err = certs.Open(t.options(cache, p.log)); err != nil {
		return err
	}
	if p.plain != nil {
		p.redirect = p.server(p.certs.HTTPHandler(gateway.Redirect(p.httpsPort)))
	}
	return nil
}

// certMetrics are the figures of certificates.
type certMetrics struct{ store *certs.Store }

var (
	expiryDesc  = prometheus.NewDesc("goms_certificate_expiry_timestamp_seconds", "When the certificate in use expires, in Unix time; 0 when there is none yet.", []string{"certificate"}, nil)
	failingDesc = prometheus.NewDesc("goms_certificate_failing", "1 while the certificate cannot be obtained, or its changed file cannot be used.", []string{"certificate"}, nil)
)

// Describe implements prometheus.Collector.
func (m certMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- expiryDesc
	ch <- failingDesc
}

// Collect implements prometheus.Collector.
func (m certMetrics) Collect(ch chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, s := range m.store.Status() {
		if seen[s.Name] {
			continue // a file may be named twice
		}
		seen[s.Name] = true
		expires, failing := 0.0, 0.0
		if !s.Expires.IsZero() {
			expires = float64(s.Expires.Unix())
		}
		if s.Failing {
			failing = 1
		}
		ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, expires, s.Name)
		ch <- prometheus.MustNewConstMetric(failingDesc, prometheus.GaugeValue, failing, s.Name)
	}
}
