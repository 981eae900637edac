package certs_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goms-io/goms/pkg/certs"
)

func TestCertificateByName(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	first := a.pair(dir, "first", "first.test")
	wild := a.pair(dir, "wild", "*.example.test", "Example.test")
	exact := a.pair(dir, "exact", "www.example.test", "first.test", "xn--bcher-kva.test")
	addr := serve(t, open(t, certs.Options{Pairs: []certs.Pair{first, wild, exact}}).ServerConfig())

	f := func(name string, want certs.Pair) {
		t.Helper()
		got, err := leaf(addr, name)
		if err != nil {
			t.Errorf("handshake for %q: %v", name, err)
		} else if !got.Equal(inFile(t, want.CertFile)) {
			t.Errorf("handshake for %q got the certificate for %q, want %s", name, got.DNSNames, want.CertFile)
		}
	}
	f("first.test", first) // although a later one has the name too
	f("www.example.test", exact)
	f("WWW.Example.TEST", exact)
	f("xn--bcher-kva.test", exact)
	f("XN--Bcher-kva.test", exact)
	f("api.example.test", wild)
	f("API.EXAMPLE.test", wild)
	f("example.test", wild)         // it has this name too
	f("a.b.example.test", first)    // a wildcard is for one label
	f("*.example.test.test", first) // a wildcard is no name
	f("unknown.test", first)
	f("test", first)
	f("127.0.0.1", first) // sends no name
	f("", first)
}

func TestCertificateByAddress(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	first := a.pair(dir, "first", "first.test", "192.0.2.1")
	local := a.pair(dir, "local", "127.0.0.1", "::1")
	addr := serve(t, open(t, certs.Options{Pairs: []certs.Pair{first, local}}).ServerConfig())
	c, err := dial(addr, &tls.Config{RootCAs: a.Pool(), ServerName: "127.0.0.1"})
	if err != nil {
		t.Fatalf("handshake by address = %v, want the certificate of the address", err)
	}
	_ = c.Close()
	wantServed(t, addr, "unknown.test", first.CertFile)
}

func TestProtocols(t *testing.T) {
	a := newAuthority(t)
	addr := serve(t, open(t, certs.Options{Pairs: []certs.Pair{a.pair(t.TempDir(), "a", "a.test")}}).ServerConfig())
	f := func(lo, hi uint16, offer []string, want string) {
		t.Helper()
		c, err := dial(addr, &tls.Config{RootCAs: a.Pool(), ServerName: "a.test", MinVersion: lo, MaxVersion: hi, NextProtos: offer})
		if want == "refused" {
			if err == nil {
				t.Errorf("handshake with versions %x to %x, protocols %q succeeded", lo, hi, offer)
			}
			return
		}
		if err != nil {
			t.Errorf("handshake with versions %x to %x, protocols %q: %v", lo, hi, offer, err)
			return
		}
		defer c.Close()
		if got := c.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("protocol of offer %q = %q, want %q", offer, got, want)
		}
	}
	f(tls.VersionTLS10, tls.VersionTLS11, nil, "refused")
	f(tls.VersionTLS11, tls.VersionTLS11, nil, "refused")
	f(tls.VersionTLS12, tls.VersionTLS12, []string{"h2", "http/1.1"}, "h2")
	f(tls.VersionTLS13, tls.VersionTLS13, []string{"http/1.1", "h2"}, "h2")
	f(tls.VersionTLS13, tls.VersionTLS13, []string{"http/1.1"}, "http/1.1")
	f(tls.VersionTLS13, tls.VersionTLS13, nil, "")
	f(tls.VersionTLS13, tls.VersionTLS13, []string{"acme-tls/1"}, "refused") // no ACME

	addr = serve(t, open(t, certs.Options{Pairs: []certs.Pair{a.pair(t.TempDir(), "a", "a.test")}, Protocols: []string{"http/1.1"}}).ServerConfig())
	f(tls.VersionTLS12, tls.VersionTLS13, []string{"h2", "http/1.1"}, "http/1.1")
	f(tls.VersionTLS12, tls.VersionTLS13, []string{"h2"}, "refused")
}

func TestReload(t *testing.T) {
	a, dir, l := newAuthority(t), t.TempDir(), &logs{}
	p := a.pair(dir, "a", "a.test")
	addr := serve(t, open(t, certs.Options{Pairs: []certs.Pair{p}, Log: l.logger()}).ServerConfig())
	sessions := tls.NewLRUClientSessionCache(1)
	config := &tls.Config{RootCAs: a.Pool(), ServerName: "a.test", ClientSessionCache: sessions}
	standing, err := dial(addr, config)
	must(t, err)
	defer standing.Close()

	a.pair(dir, "a", "a.test")
	wantServed(t, addr, "a.test", p.CertFile)
	if err := echo(standing); err != nil {
		t.Errorf("connection from before the reload: %v", err)
	}
	resumed, err := dial(addr, config)
	must(t, err)
	defer resumed.Close()
	if !resumed.ConnectionState().DidResume {
		t.Error("session from before the reload was not resumed")
	}
	if n := l.count("certificates reloaded"); n != 1 {
		t.Errorf("%d reloads logged, want 1:\n%s", n, l)
	}
}

func TestBrokenChange(t *testing.T) {
	a, dir, l := newAuthority(t), t.TempDir(), &logs{}
	p := a.pair(dir, "a", "a.test")
	before := inFile(t, p.CertFile)
	key := read(t, p.KeyFile)
	addr := serve(t, open(t, certs.Options{Pairs: []certs.Pair{p}, Log: l.logger()}).ServerConfig())
	complaints := func() int { return l.count("changed certificates cannot be used") }

	other := a.pair(dir, "other", "a.test")
	write(t, p.KeyFile, read(t, other.KeyFile)) // of another certificate
	eventually(t, "complaint", func() bool { return complaints() == 1 })
	write(t, p.CertFile, []byte("-----BEGIN CERTIFICATE-----\n")) // broken otherwise
	write(t, p.KeyFile, nil)
	for range 20 { // some looks more
		if got, err := leaf(addr, "a.test"); err != nil || !got.Equal(before) {
			t.Fatalf("handshake while files are broken: %v, %v; want the certificate from before", got, err)
		}
	}
	must(t, os.Remove(p.KeyFile))
	for range 20 {
		if got, err := leaf(addr, "a.test"); err != nil || !got.Equal(before) {
			t.Fatalf("handshake while a file is gone: %v, %v; want the certificate from before", got, err)
		}
	}
	if n := complaints(); n != 1 {
		t.Errorf("%d complaints, want 1:\n%s", n, l)
	}
	noKey(t, l.String(), key)
	noKey(t, l.String(), read(t, other.KeyFile))

	p = a.pair(dir, "a", "a.test")
	wantServed(t, addr, "a.test", p.CertFile)
	good, goodKey := read(t, p.CertFile), read(t, p.KeyFile)
	must(t, os.Remove(p.KeyFile))
	eventually(t, "complaint about the second failure", func() bool { return complaints() == 2 })
	write(t, p.KeyFile, goodKey) // as before
	eventually(t, "end of the second failure", func() bool { return l.count("certificates can be used again") == 1 })
	write(t, p.CertFile, good[:len(good)/2])
	eventually(t, "complaint about the third failure", func() bool { return complaints() == 3 })
}

// A look between the writing of two files, or in the middle of one, does no harm.
func TestHalfWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir, l := newAuthority(t), t.TempDir(), &logs{}
		p, next := a.pair(dir, "a", "a.test"), a.pair(dir, "next", "a.test")
		s, err := certs.Open(certs.Options{Pairs: []certs.Pair{p}, Interval: time.Minute, Log: l.logger()})
		must(t, err)
		run(t, s)
		check := func(reloaded int) {
			t.Helper()
			synctest.Wait()
			if n := l.count("certificates reloaded"); n != reloaded || l.count("level=ERROR") != 0 {
				t.Fatalf("%d reloads, want %d and no error:\n%s", n, reloaded, l)
			}
		}
		time.Sleep(time.Second)
		write(t, p.CertFile, read(t, next.CertFile))
		time.Sleep(time.Minute)
		check(0)
		write(t, p.KeyFile, read(t, next.KeyFile))
		time.Sleep(time.Minute)
		check(0)
		time.Sleep(time.Minute)
		check(1)
		time.Sleep(time.Hour)
		check(1)
	})
}

func TestConcurrentHandshakes(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	p := a.pair(dir, "a", "a.test")
	addr := serve(t, open(t, certs.Options{Pairs: []certs.Pair{p}}).ServerConfig())
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			config := &tls.Config{RootCAs: a.Pool(), ServerName: "a.test"}
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := dial(addr, config)
				if err != nil {
					t.Errorf("handshake during reloads: %v", err)
					return
				}
				_ = c.Close()
			}
		})
	}
	for range 10 {
		a.pair(dir, "a", "a.test")
		wantServed(t, addr, "a.test", p.CertFile)
	}
	close(stop)
	all.Wait()
}

func TestClientCertificates(t *testing.T) {
	a, clients, strangers, dir, l := newAuthority(t), newAuthority(t), newAuthority(t), t.TempDir(), &logs{}
	ca := filepath.Join(dir, "clients.PEM")
	write(t, ca, clients.PEM)
	addr := serve(t, open(t, certs.Options{
		Pairs: []certs.Pair{a.pair(dir, "a", "a.test")}, ClientCAFile: ca, Log: l.logger(),
	}).ServerConfig())
	accepted := func(version uint16, sessions tls.ClientSessionCache, cert ...tls.Certificate) (ok, resumed bool) {
		config := &tls.Config{
			RootCAs: a.Pool(), ServerName: "a.test", ClientSessionCache: sessions, MinVersion: version, MaxVersion: version,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(cert) == 0 {
					return &tls.Certificate{}, nil
				}
				return &cert[0], nil // although the server did not name its authority
			},
		}
		c, err := dial(addr, config)
		if err != nil {
			return false, false
		}
		defer c.Close()
		return true, c.ConnectionState().DidResume
	}
	known, stranger := clients.client(), strangers.client()
	sessions := map[uint16]tls.ClientSessionCache{}
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		sessions[v] = tls.NewLRUClientSessionCache(1)
		if ok, _ := accepted(v, nil); ok {
			t.Errorf("version %x: client without certificate was let in", v)
		}
		if ok, _ := accepted(v, nil, stranger); ok {
			t.Errorf("version %x: client with a certificate of another authority was let in", v)
		}
		if ok, _ := accepted(v, sessions[v], known); !ok {
			t.Errorf("version %x: client with a certificate was refused", v)
		}
		if ok, resumed := accepted(v, sessions[v], known); !ok || !resumed {
			t.Errorf("version %x: again: accepted %v, resumed %v, want both", v, ok, resumed)
		}
	}

	write(t, ca, append(read(t, ca), strangers.PEM[:len(strangers.PEM)/2]...)) // half written
	eventually(t, "complaint", func() bool { return l.count("only 1 of 2 certificates can be read") == 1 })
	if ok, _ := accepted(tls.VersionTLS13, nil, known); !ok {
		t.Error("client was refused while the new authorities are broken")
	}
	write(t, ca, strangers.PEM)
	eventually(t, "new authority", func() bool { ok, _ := accepted(tls.VersionTLS13, nil, stranger); return ok })
	for v, s := range sessions {
		if ok, _ := accepted(v, nil, known); ok {
			t.Errorf("version %x: client of the authority that is gone was let in", v)
		}
		if ok, _ := accepted(v, s, known); ok {
			t.Errorf("version %x: client of the authority that is gone was let in with its session", v)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	good := a.pair(dir, "good", "a.test")
	other := a.pair(dir, "other", "b.test")
	file := func(name string, content ...[]byte) string {
		name = filepath.Join(dir, name)
		write(t, name, bytes.Join(content, nil))
		return name
	}
	key := read(t, good.KeyFile)
	half := file("half.key", key[:len(key)/2])
	text := file("text.pem", []byte("hello"))
	body := file("body.key", bytes.Replace(key, []byte("\n"), []byte("\nAAAA"), 1))
	f := func(o certs.Options, want ...string) {
		t.Helper()
		_, err := certs.Open(o)
		if err == nil {
			t.Errorf("Open(%+v) = nil, want an error", o)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("Open(%+v) = %q, want %q in it", o, err, w)
			}
		}
		noKey(t, err.Error(), key)
		noKey(t, err.Error(), read(t, other.KeyFile))
	}
	pair := func(cert, key string) certs.Options {
		return certs.Options{Pairs: []certs.Pair{{CertFile: cert, KeyFile: key}}}
	}
	f(certs.Options{}, "none is named")
	f(pair(good.CertFile, other.KeyFile), good.CertFile, other.KeyFile, "does not match")
	f(pair(good.KeyFile, good.CertFile), good.KeyFile, good.CertFile)
	f(pair(good.KeyFile, good.KeyFile), good.KeyFile)
	f(pair(good.CertFile, good.CertFile), "found a certificate rather than a key")
	f(pair(good.CertFile, half), good.CertFile, half)
	f(pair(good.CertFile, body), good.CertFile, body)
	f(pair(text, good.KeyFile), text)
	f(pair(good.CertFile, filepath.Join(dir, "none")), filepath.Join(dir, "none"))
	f(pair(good.CertFile, dir), dir)
	f(pair("", ""), "read certificates")
	ca := certs.Options{Pairs: []certs.Pair{good}}
	ca.ClientCAFile = text
	f(ca, text, "no certificate in it")
	ca.ClientCAFile = good.KeyFile
	f(ca, good.KeyFile, "no certificate in it")
	ca.ClientCAFile = file("junk.pem", a.PEM, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f(ca, "junk.pem")
}

// noKey checks that a text has no line of a key in it.
func noKey(t *testing.T, text string, key []byte) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(key))
	for lines.Scan() {
		if line := lines.Text(); !strings.HasPrefix(line, "-----") && len(line) > 8 && strings.Contains(text, line[:8]) {
			t.Errorf("a key is shown in %q", text)
		}
	}
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		a, dir, l := newAuthority(t), t.TempDir(), &logs{}
		p := a.write(dir, "old", a.Sign(&x509.Certificate{
			DNSNames: []string{"a.test"}, NotBefore: time.Now().Add(-20 * day), NotAfter: time.Now().Add(10*day + time.Hour),
		}))
		s, err := certs.Open(certs.Options{Pairs: []certs.Pair{p}, Interval: time.Hour, Log: l.logger()})
		must(t, err)
		run(t, s)
		check := func(soon, expired int) {
			t.Helper()
			synctest.Wait()
			if got := l.count("certificate expires soon"); got != soon {
				t.Errorf("%d warnings, want %d:\n%s", got, soon, l)
			}
			if got := l.count("certificate has expired"); got != expired {
				t.Errorf("%d errors, want %d:\n%s", got, expired, l)
			}
		}
		check(0, 0)
		time.Sleep(5*day + time.Minute) // five days and an hour are left: a sixth of 30 days and a bit
		check(0, 0)
		time.Sleep(5 * day)
		check(5, 0)
		time.Sleep(2 * day)
		check(5, 2)
		if !strings.Contains(l.String(), "level=ERROR msg=\"certificate has expired\" file="+p.CertFile) {
			t.Errorf("file is not named:\n%s", l)
		}
		_, err = certs.Open(certs.Options{Pairs: []certs.Pair{p}, Log: l.logger()}) // is served nevertheless
		must(t, err)
		check(5, 3)
	})
}
