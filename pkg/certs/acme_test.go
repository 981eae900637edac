package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/certs"
	"github.com/goms-io/goms/test/pebble"
	"github.com/goms-io/goms/test/ports"
)

// kv is a store in memory.
type kv struct {
	mu     sync.Mutex
	values map[string][]byte // guarded by mu
	err    error             // what Get and Put say; guarded by mu
	asked  []string          // keys that Get was asked for; guarded by mu
}

func (k *kv) Get(_ context.Context, key string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, key)
	return bytes.Clone(k.values[key]), k.err
}

func (k *kv) Put(_ context.Context, key string, value []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	if k.values == nil {
		k.values = map[string][]byte{}
	}
	k.values[key] = bytes.Clone(value)
	return nil
}

func (k *kv) Delete(_ context.Context, key string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.values, key)
	return k.err
}

func (k *kv) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *kv) keys() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.values))
}

func (k *kv) wasAsked(part string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.asked, func(s string) bool { return strings.Contains(s, part) })
}

func (k *kv) reads() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.asked)
}

func acmeFor(p *pebble.Server, c certs.Cache, hosts ...string) *certs.ACME {
	return &certs.ACME{Directory: p.Directory, CAFile: p.CAFile, Email: "a@goms.test", Hosts: hosts, Cache: c, Spread: time.Millisecond}
}

// issued waits for a certificate that its authority's root verifies.
func issued(t *testing.T, addr, name string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	var got *x509.Certificate
	eventually(t, "certificate for "+name, func() bool {
		c, err := dial(addr, &tls.Config{ServerName: name, RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			return false
		}
		defer c.Close()
		if p := c.ConnectionState().NegotiatedProtocol; p != "h2" {
			t.Errorf("protocol = %q, want h2", p)
		}
		got = c.ConnectionState().PeerCertificates[0]
		return true
	})
	return got
}

// Two gateways share a store. One of them orders, and the authority asks the other.
func TestACMEByTLS(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	p := pebble.Start(t, port(t, ln.Addr().String()), ports.Free(t), time.Hour)
	store, l := &kv{}, &logs{}
	hosts := []string{"A.goms.test", "xn--bcher-kva.goms.test"}
	one, err := certs.Open(certs.Options{ACME: acmeFor(p, certs.KVCache(store), hosts...), Interval: look, Log: l.logger()})
	must(t, err)
	other, err := certs.Open(certs.Options{ACME: acmeFor(p, certs.KVCache(store), hosts...), Interval: look})
	must(t, err)
	serveOn(t, ln, other.ServerConfig())
	addr := serve(t, one.ServerConfig())

	for _, name := range []string{"a.goms.test", "unknown.goms.test", ""} {
		if _, err := leaf(addr, name); err == nil || (name != "" && !strings.Contains(err.Error(), "unrecognized name")) {
			t.Errorf("handshake for %q before there is a certificate = %v, want unrecognized name", name, err)
		}
	}
	stop := run(t, one)
	got := issued(t, addr, "a.goms.test", p.Roots)
	issued(t, addr, "XN--Bcher-KVA.goms.test", p.Roots)
	for _, name := range []string{"unknown.goms.test", ""} {
		if c, err := leaf(addr, name); err != nil || !c.Equal(got) {
			t.Errorf("handshake for %q: %v, %v; want the first host's certificate", name, c, err)
		}
	}
	if n := p.Issued(); n != 2 {
		t.Errorf("%d certificates were issued, want 2", n)
	}
	if got, want := one.Status()[0], (certs.Status{Name: "a.goms.test", Expires: got.NotAfter}); got != want {
		t.Errorf("Status() = %v, want %v", got, want)
	}
	want := []string{"a.goms.test", "acme_account+key", "xn--bcher-kva.goms.test"}
	eventually(t, "answers are deleted", func() bool { return slices.Equal(store.keys(), want) })
	if n := l.count("certificate obtained"); n != 2 || l.count("level=ERROR") != 0 {
		t.Errorf("%d certificates logged, want 2 and no error:\n%s", n, l)
	}
	for _, key := range want {
		noKey(t, l.String(), store.values[key])
	}

	// The other needs no order, and neither one an authority to serve what it has.
	stop()
	run(t, other)
	if c := issued(t, ln.Addr().String(), "a.goms.test", p.Roots); !c.Equal(got) {
		t.Error("the second gateway has another certificate than the first")
	}
	if c := issued(t, addr, "a.goms.test", p.Roots); !c.Equal(got) {
		t.Error("certificate changed after Run")
	}
	if n := p.Issued(); n != 2 {
		t.Errorf("%d certificates were issued, want 2", n)
	}

	// A challenge for a host that is not ours does not reach the store.
	if _, err := tls.Dial("tcp", addr, &tls.Config{
		ServerName: "evil.goms.test", InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"},
	}); err == nil || store.wasAsked("evil") {
		t.Errorf("challenge for an unknown host = %v, asked %v; want a refusal without asking", err, store.wasAsked("evil"))
	}
}

// With client certificates the authority cannot verify by TLS: HTTP does. It asks the gateway that did not order.
func TestACMEByHTTP(t *testing.T) {
	tlsLn, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer tlsLn.Close()
	httpLn, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer httpLn.Close()
	p := pebble.Start(t, port(t, tlsLn.Addr().String()), port(t, httpLn.Addr().String()), time.Hour)
	a, dir, l := newAuthority(t), t.TempDir(), &logs{}
	ca := filepath.Join(dir, "clients.PEM")
	write(t, ca, a.PEM)
	cache, err := certs.DirCache(filepath.Join(dir, "new", "cache"))
	must(t, err)
	file := a.pair(dir, "a", "*.goms.test")
	o := certs.Options{
		Pairs: []certs.Pair{file}, ACME: acmeFor(p, cache, "a.goms.test"), ClientCAFile: ca, Interval: look, Log: l.logger(),
	}
	one, err := certs.Open(o)
	must(t, err)
	one.HTTPHandler(nil)
	other, err := certs.Open(o)
	must(t, err)
	serveOn(t, tlsLn, one.ServerConfig())
	srv := &http.Server{Handler: other.HTTPHandler(http.RedirectHandler("https://elsewhere.test", http.StatusFound)), ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(httpLn) }()
	defer srv.Close()

	client := a.client()
	get := func(name string) *x509.Certificate {
		t.Helper()
		c, err := dial(tlsLn.Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true, Certificates: []tls.Certificate{client}})
		must(t, err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	if !get("a.goms.test").Equal(inFile(t, file.CertFile)) {
		t.Error("the certificate of the file does not serve before there is another")
	}
	c, err := tls.Dial("tcp", tlsLn.Addr().String(), &tls.Config{ServerName: "a.goms.test", InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}})
	if err == nil {
		_ = c.Close()
		t.Error("a client that plays the authority was let in without certificate")
	}
	run(t, one)
	eventually(t, "certificate by HTTP", func() bool { return !get("a.goms.test").Equal(inFile(t, file.CertFile)) })
	if _, err := get("a.goms.test").Verify(x509.VerifyOptions{DNSName: "a.goms.test", Roots: p.Roots}); err != nil {
		var unknown x509.UnknownAuthorityError // the intermediate is not among the roots
		if !errors.As(err, &unknown) {
			t.Errorf("certificate: %v", err)
		}
	}
	if !get("b.goms.test").Equal(inFile(t, file.CertFile)) {
		t.Error("another name got the certificate of ACME")
	}
	for _, f := range []struct {
		path string
		mode os.FileMode
	}{{"", 0o700}, {"a.goms.test", 0o600}, {"acme_account+key", 0o600}} {
		info, err := os.Stat(filepath.Join(dir, "new", "cache", f.path))
		must(t, err)
		if info.Mode().Perm() != f.mode {
			t.Errorf("mode of %q in the cache = %o, want %o", f.path, info.Mode().Perm(), f.mode)
		}
	}
}

func TestACMERenews(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := pebble.Start(t, port(t, ln.Addr().String()), ports.Free(t), 24*time.Second) // the last third of which is for the renewal
	cache, err := certs.DirCache(filepath.Join(t.TempDir(), "cache"))
	must(t, err)
	s, err := certs.Open(certs.Options{ACME: acmeFor(p, cache, "a.goms.test"), Interval: look})
	must(t, err)
	serveOn(t, ln, s.ServerConfig())
	run(t, s)
	first := issued(t, ln.Addr().String(), "a.goms.test", p.Roots)
	eventually(t, "renewal", func() bool {
		c, err := leaf(ln.Addr().String(), "a.goms.test")
		must(t, err)
		return !c.Equal(first)
	})
	if now := time.Now(); now.After(first.NotAfter) {
		t.Errorf("renewed at %v, after the end of the certificate at %v", now, first.NotAfter)
	}
}

// The authority cannot reach the host: that is said once, with its reason, and the file's certificate serves on.
func TestACMEUnreachable(t *testing.T) {
	p := pebble.Start(t, ports.Free(t), ports.Free(t), time.Hour)
	a, l := newAuthority(t), &logs{}
	file := a.pair(t.TempDir(), "a", "a.goms.test")
	acme := acmeFor(p, certs.KVCache(&kv{}), "a.goms.test")
	acme.SetRetry(10 * time.Millisecond)
	s, err := certs.Open(certs.Options{Pairs: []certs.Pair{file}, ACME: acme, Interval: look, Log: l.logger()})
	must(t, err)
	s.HTTPHandler(nil)
	stop := run(t, s)
	addr := serve(t, s.ServerConfig())
	eventually(t, "complaint", func() bool { return l.count("certificate cannot be obtained") > 0 })
	wantServed(t, addr, "a.goms.test", file.CertFile)
	stop()
	if n := l.count("level=ERROR"); n != 1 {
		t.Errorf("%d errors, want 1:\n%s", n, l)
	}
	want := []certs.Status{{Name: file.CertFile, Expires: inFile(t, file.CertFile).NotAfter}, {Name: "a.goms.test", Failing: true}}
	if got := s.Status(); !slices.Equal(got, want) {
		t.Errorf("Status() = %v, want %v", got, want)
	}
	for _, want := range []string{"host=a.goms.test", "tls-alpn-01: ", "http-01: ", "connection refused"} {
		if !strings.Contains(l.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, l)
		}
	}
}

// Run ends although the authority is silent.
func TestACMEStops(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := ln.Accept(); err == nil {
			accepted <- c
		}
	}()
	p := &pebble.Server{Directory: "https://" + ln.Addr().String() + "/dir"}
	s, err := certs.Open(certs.Options{ACME: acmeFor(p, certs.KVCache(&kv{}), "a.goms.test"), Interval: look})
	must(t, err)
	stop := run(t, s)
	c := <-accepted
	defer c.Close()
	start := time.Now()
	stop()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("Run() took %v to end", d)
	}
}

// A store that is away is not an empty one: nothing is ordered, and what it has is served when it is back.
func TestACMEStoreAway(t *testing.T) {
	var requests atomic.Int32
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer srv.Close()
	a, dir, l := newAuthority(t), t.TempDir(), &logs{}
	file := a.pair(dir, "a", "a.goms.test")
	store := &kv{
		values: map[string][]byte{"a.goms.test": append(read(t, file.KeyFile), read(t, file.CertFile)...)},
		err:    errors.New("store secret-detail away"),
	}
	s, err := certs.Open(certs.Options{ACME: acmeFor(&pebble.Server{Directory: srv.URL}, certs.KVCache(store), "a.goms.test"), Interval: look, Log: l.logger()})
	must(t, err)
	h := s.HTTPHandler(nil)
	run(t, s)
	eventually(t, "complaint and some tries more", func() bool { return l.count("certificate cannot be obtained") > 0 && store.reads() > 5 })
	if n := l.count("certificate cannot be obtained"); n != 1 {
		t.Errorf("%d complaints, want 1:\n%s", n, l)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "http://a.goms.test/.well-known/acme-challenge/abc", nil))
	if w.Code != http.StatusNotFound || strings.Contains(w.Body.String(), "secret-detail") {
		t.Errorf("challenge while the store is away = %d %q, want 404 without the cause", w.Code, w.Body)
	}
	store.fail(nil)
	addr := serve(t, s.ServerConfig())
	eventually(t, "certificate of the store", func() bool {
		c, err := leaf(addr, "a.goms.test")
		return err == nil && c.Equal(inFile(t, file.CertFile))
	})
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests to the authority, want none", n)
	}
	noKey(t, l.String(), read(t, file.KeyFile))
}

// Who plays the authority while an order is under way does not get around client certificates.
func TestChallengeWithClientCertificates(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	file := a.pair(dir, "a", "a.goms.test")
	ca := filepath.Join(dir, "clients.PEM")
	write(t, ca, a.PEM)
	store := &kv{values: map[string][]byte{"a.goms.test+token": append(read(t, file.KeyFile), read(t, file.CertFile)...)}}
	f := func(ca string, want bool) {
		t.Helper()
		s, err := certs.Open(certs.Options{
			Pairs: []certs.Pair{file}, ACME: acmeFor(&pebble.Server{Directory: "https://127.0.0.1:1"}, certs.KVCache(store), "a.goms.test"), ClientCAFile: ca,
		})
		must(t, err)
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		go func() {
			_ = tls.Client(client, &tls.Config{ServerName: "a.goms.test", InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}}).Handshake()
		}()
		err = tls.Server(server, s.ServerConfig()).Handshake()
		if got := err == nil; got != want {
			t.Errorf("challenge with client authorities %q was answered = %v (%v), want %v", ca, got, err, want)
		}
	}
	f("", true)
	f(ca, false)
}

func TestHTTPHandler(t *testing.T) {
	fallback := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	store := &kv{values: map[string][]byte{"abc+http-01": []byte("abc.print"), "a.goms.test": []byte("key")}}
	s, err := certs.Open(certs.Options{ACME: acmeFor(&pebble.Server{}, certs.KVCache(store), "a.goms.test")})
	must(t, err)
	h := s.HTTPHandler(fallback)
	f := func(url string, code int, body string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
		if w.Code != code || (body != "" && w.Body.String() != body) {
			t.Errorf("GET %s = %d %q, want %d %q", url, w.Code, w.Body, code, body)
		}
	}
	const path = "/.well-known/acme-challenge/"
	f("http://a.goms.test"+path+"abc", 200, "abc.print")
	f("http://A.goms.test:8080"+path+"abc", 200, "abc.print")
	f("http://a.goms.test"+path+"none", 404, "")
	f("http://b.goms.test"+path+"abc", 418, "")
	f("http://a.goms.test/abc", 418, "")
	f("http://a.goms.test"+path, 418, "")
	f("http://a.goms.test"+path+"x/abc", 418, "")
	f("http://a.goms.test"+path+"..%2fa.goms.test", 418, "")
	f("http://a.goms.test"+path+"a+b", 418, "")
	f("http://a.goms.test"+path+strings.Repeat("a", 300), 418, "")
	if store.wasAsked("/") || store.wasAsked("aaa") {
		t.Errorf("the store was asked for %q", store.asked)
	}

	a := newAuthority(t)
	s, err = certs.Open(certs.Options{Pairs: []certs.Pair{a.pair(t.TempDir(), "a", "a.test")}})
	must(t, err)
	h = s.HTTPHandler(fallback)
	f("http://a.goms.test"+path+"abc", 418, "")
	h = s.HTTPHandler(nil)
	f("http://a.goms.test/", 404, "")
}

func TestDirCacheErrors(t *testing.T) {
	f := func(dir, want string) {
		t.Helper()
		if _, err := certs.DirCache(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("DirCache(%q) = %v, want %q", dir, err, want)
		}
	}
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o750))
	f(dir, "mode 0750")
	write(t, filepath.Join(dir, "file"), nil)
	f(filepath.Join(dir, "file"), "make certificate cache")
	f("", "make certificate cache")
}

func TestRetryAfter(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got := certs.RetryAfter(s); got != want {
			t.Errorf("RetryAfter(%q) = %q, want %q", s, got, want)
		}
	}
	date := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	f("3", "3")
	f("0", "1")
	f("-1", "1")
	f("3600", "10")
	f("99999999999999999999", "10")
	f("soon", "10")
	f(date(-time.Hour), "1")
	f(date(time.Hour), "10")
}

func TestACMEErrors(t *testing.T) {
	cache := certs.KVCache(&kv{})
	f := func(a certs.ACME, want string) {
		t.Helper()
		if _, err := certs.Open(certs.Options{ACME: &a}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%+v) = %v, want %q", a, err, want)
		}
	}
	f(certs.ACME{Cache: cache}, "needs hosts")
	f(certs.ACME{Hosts: []string{"a.test"}}, "and a cache")
	f(certs.ACME{Hosts: []string{"a.test"}, Cache: cache, Directory: "http://127.0.0.1/dir"}, "no https URL")
	f(certs.ACME{Hosts: []string{"a.test"}, Cache: cache, CAFile: "none.pem"}, "none.pem")
	for _, host := range []string{"", "localhost", "*.a.test", "127.0.0.1", "::1", "bücher.test", "a.test.", "a..test", "a.test:443", "-a.test", "a_b.test", "a/b.test", strings.Repeat("a.", 130) + "test"} {
		f(certs.ACME{Hosts: []string{"a.test", host}, Cache: cache}, fmt.Sprintf("%q", host))
	}
}
