//go:build linux

package faults_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/certs/certstest"
	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// hup tells every gateway that lives to read its configuration again.
func (s *scene) hup() {
	for _, g := range s.gateways {
		if g.Alive() {
			g.Signal(syscall.SIGHUP)
		}
	}
}

// living ends the row when a gateway has ended: what follows would only say so in other words.
func (s *scene) living(r *row) {
	r.Helper()
	for _, g := range s.gateways {
		if !g.Alive() {
			r.Fatalf("%s has ended", g.Name)
		}
	}
}

// TestF34BrokenConfiguration has gateways read configurations that are broken in three ways: each is refused with file and line, and
// the table of before serves on.
func TestF34BrokenConfiguration(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateway: "  accessLog: false\n"})
	l := s.load()
	wait(t, time.Second)
	routes := filepath.Join(s.dir, "configs/services.yml")
	good, err := os.ReadFile(routes)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []struct{ name, text string }{
		{"yaml", "services:\n  count:\n    hit: \"/hit\n  x: [\n"},
		{"unknown_key", "services:\n  count:\n    hit:\n      path: /hit\n      metods: [GET]\n"},
		{"duplicate_route", "services:\n  count:\n    hit: /hit\n    hit: /head\n"},
	} {
		before := make([]int, len(s.gateways))
		complaint := regexp.MustCompile(`services\.yml:\d+`)
		for i, g := range s.gateways {
			before[i] = len(g.Lines(complaint))
		}
		swap(t, routes, broken.text)
		s.hup()
		named := 0
		for i, g := range s.gateways {
			deadline := time.Now().Add(10 * time.Second)
			for g.Alive() && len(g.Lines(complaint)) == before[i] && time.Now().Before(deadline) {
				time.Sleep(20 * time.Millisecond)
			}
			if len(g.Lines(complaint)) > before[i] {
				named++
			}
			if body, err := get("http://" + g.addr() + "/readyz?verbose"); g.Alive() {
				r.must(err == nil && strings.Contains(body, "services.yml:"), "%s: /readyz?verbose does not name the file: %q, %v", broken.name, body, err)
			}
		}
		r.set(broken.name+"_named_by", named)
		r.must(named == len(s.gateways), "%s: %d of %d gateways named file and line", broken.name, named, len(s.gateways))
		s.living(r)
		wait(t, time.Second)
	}
	swap(t, routes, string(good))
	s.hup()
	wait(t, 2*time.Second)
	for _, g := range s.gateways {
		body, err := get("http://" + g.addr() + "/readyz?verbose")
		r.must(err == nil && !strings.Contains(body, "services.yml:"), "with the good file back /readyz?verbose says %q, %v", body, err)
	}
	r.account(l.Stop(), losses{}, s.witnesses()...)
}

// TestF35ReloadStorm has gateways change between two tables, over and over. No request may see half of one and half of the other:
// one table takes GET to /one, the other POST to /two.
func TestF35ReloadStorm(t *testing.T) {
	r := begin(t)
	tables := []string{"  mix:\n    one: {path: /one, methods: [GET]}\n", "  mix:\n    one: {path: /two, methods: [POST]}\n"}
	s := open(r, props{services: tables[0]})
	mixed := s.addNode("mix")
	s.seen("mix", 1)
	l := s.load()
	mix := &load.Load{Addrs: s.front, Path: "/api/mix/one", Rate: 100}
	mix.Start()
	g := s.gateways[0]
	s.routes(tables[1])
	s.hup()
	wait(t, 2*time.Second)
	s.living(r)
	g.collect()
	rss, _ := g.Memory()
	goroutines := g.goroutines()
	reloads := times(1000, 200)
	for i := range reloads {
		s.routes(tables[i%2])
		s.hup()
		wait(t, 50*time.Millisecond)
	}
	wait(t, time.Second)
	s.living(r)
	g.collect()
	after, _ := g.Memory()
	more := g.goroutines() - goroutines
	taken, _ := g.metric("goms_reloads_total", `result="taken"`)
	r.account(l.Stop(), losses{}, s.witnesses()[:3]...)
	res := mix.Stop()
	wrong := res.Lost - res.Errors["status 405 method_not_allowed"]
	text, err := os.ReadFile(mixed.counts)
	if err != nil {
		t.Fatal(err)
	}
	torn := strings.Count(string(text), "GET /two ") + strings.Count(string(text), "POST /one ")
	one, two := strings.Count(string(text), "GET /one "), strings.Count(string(text), "POST /two ")
	r.set("reloads", reloads)
	r.set("reloads_taken", taken)
	r.set("mixed", torn)
	r.set("by_first_table", one)
	r.set("by_second_table", two)
	r.set("rss_growth_kib", (after-rss)>>10)
	r.set("goroutines_growth", more)
	r.must(torn == 0, "%d requests saw a mixed table", torn)
	r.must(wrong == 0, "%d requests under changing tables were lost: %v", wrong, res.Errors)
	r.must(one > 0 && two > 0, "%d requests by the first table and %d by the second: the tables did not change", one, two)
	r.must(after-rss <= 10<<20, "memory grew by %d KiB", (after-rss)>>10)
	r.must(more <= 20, "%d goroutines more", more) // connections of the load come and go
}

// TestF36ReloadUnderStreams has WebSockets, event streams, uploads, downloads and calls of gRPC open over HTTP/1.1 and HTTP/2, with TLS
// and without, while the configuration changes. All go on, and end with all their bytes.
func TestF36ReloadUnderStreams(t *testing.T) {
	r := begin(t)
	dir, port, trust := t.TempDir(), ports.Free(t), certstest.New(t)
	crtFile, keyFile := trust.Host().Write(t, dir, "tls")
	listeners := fmt.Sprintf("  h2c: true\n  tls: {port: %d, certificates: [{certFile: %q, keyFile: %q}]}\n", port, crtFile, keyFile)
	s := open(r, props{gateways: 1, nodes: 1, gateway: listeners})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	streams, dialled := s.streams(ctx, fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{RootCAs: trust.Pool(), MinVersion: tls.VersionTLS12})
	kinds := map[string]int{}
	for _, st := range streams {
		kinds[st.kind]++
	}
	l := s.load()
	cut, reloads, open := 0, times(100, 20), len(streams)
	lost := func(i int, when string, err error) {
		t.Logf("%s, %s: %v", streams[i].kind, when, err)
		cut++
		streams[i] = nil
	}
	for n := range reloads {
		s.routes(fmt.Sprintf("  other%d:\n    x: /x\n", n))
		swap(t, filepath.Join(s.dir, "configs/gateway.yml"), fmt.Sprintf("gateway:\n  listenHost: 127.0.0.1\n  bodyTimeout: %ds\n", 30+n%2)+listeners)
		s.hup()
		wait(t, 100*time.Millisecond)
		s.living(r)
		for i, st := range streams {
			if st == nil {
				continue
			}
			if err := st.alive(n); err != nil {
				lost(i, fmt.Sprintf("reload %d", n), err)
			}
		}
	}
	for i, st := range streams {
		if st == nil {
			continue
		}
		if err := st.whole(); err != nil {
			lost(i, "its end", err)
		}
	}
	taken, _ := s.gateways[0].metric("goms_reloads_total", `result="taken"`)
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("reloads", reloads)
	r.set("reloads_taken", taken)
	r.set("streams", kinds)
	r.set("streams_cut", cut)
	r.set("grpc", "over HTTP/2 to a handler of the node's HTTP port, which speaks HTTP/1.1; not carried: to its RPC port, which speaks HTTP/2")
	r.must(cut == 0, "%d of %d streams were cut", cut, open)
	r.must(taken >= float64(reloads)/2, "only %v of %d configurations were taken", taken, reloads)
	r.must(dialled() == 2, "the streams over HTTP/2 lay on %d connections, want one with TLS and one without", dialled())
}

// TestF46Certificates changes the certificate of a gateway under load, puts a broken one in its place, and a good one again.
func TestF46Certificates(t *testing.T) {
	r := begin(t)
	dir, port := t.TempDir(), ports.Free(t)
	authority := certstest.New(t)
	numbered := func(n int64) certstest.Pair {
		return authority.Sign(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, SerialNumber: big.NewInt(n)})
	}
	first, second := numbered(1), numbered(2)
	certFile, keyFile := first.Write(t, dir, "tls")
	s := open(r, props{gateways: 1, bare: true, gateway: fmt.Sprintf("  tls: {port: %d, certificates: [{certFile: %q, keyFile: %q}]}\n", port, certFile, keyFile)})
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	trust := &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}
	serial := func() int64 {
		conn, err := tls.Dial("tcp", addr, trust)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	l := &load.Load{Addrs: []string{addr}, Path: "/api/count/hit", Rate: 200, TLS: trust}
	l.Start()
	wait(t, time.Second)
	shown := func(want int64) time.Duration {
		began := time.Now()
		process.Eventually(t, 30*time.Second, fmt.Sprintf("certificate %d is shown", want), func() error {
			if got := serial(); got != want {
				return fmt.Errorf("it is %d", got)
			}
			return nil
		})
		return time.Since(began)
	}
	second.Write(t, dir, "tls")
	r.set("taken_ms", shown(2))
	certstest.Pair{Cert: []byte("no certificate"), Key: second.Key}.Write(t, dir, "tls")
	process.Eventually(t, 30*time.Second, "the broken certificate is complained of", func() error {
		if !strings.Contains(s.gateways[0].Output(), "tls.crt") {
			return errors.New("no line names it")
		}
		return nil
	})
	kept := serial()
	r.must(kept == 2, "with a broken certificate, number %d is shown", kept)
	first.Write(t, dir, "tls")
	shown(1)
	r.account(l.Stop(), losses{}, s.witnesses()...)
}

// TestF47KeyRotation changes the call-service key of a running system: nodes take two, gateways show the new one, nodes take only that.
func TestF47KeyRotation(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	const next = "the-key-to-come-0123456789abcdef"
	l := s.load()
	wait(t, time.Second)
	config := filepath.Join(s.dir, "configs/config.yml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	with := func(keys string) {
		swap(t, config, regexp.MustCompile(`(?m)^callServiceKey.*\n`).ReplaceAllString(string(text), "")+keys)
	}
	// Nodes first: they take both.
	with(fmt.Sprintf("callServiceKey: %q\ncallServiceKeyOld: %q\n", process.CallKey, next))
	s.rollNodes()
	// Then gateways, which show the new one.
	with(fmt.Sprintf("callServiceKey: %q\ncallServiceKeyOld: %q\n", next, process.CallKey))
	s.hup()
	wait(t, 3*time.Second)
	s.living(r)
	// And nodes that take only the new one.
	with(fmt.Sprintf("callServiceKey: %q\n", next))
	s.rollNodes()
	wait(t, time.Second)
	r.account(l.Stop(), losses{}, s.witnesses()...)
	for key, want := range map[string]int{next: 200, process.CallKey: 403, "": 403, "neither": 403} {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.nodes[0].addr()+"/hit?id=x", nil)
		if key != "" {
			req.Header.Set("Call-Service-Key", key)
		}
		resp, err := once.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		r.must(resp.StatusCode == want, "a node answers %d to a key, want %d", resp.StatusCode, want)
	}
	for _, g := range s.gateways {
		r.must(!strings.Contains(g.Output(), next), "the new key is in the output of %s", g.Name)
	}
}
