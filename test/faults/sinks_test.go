//go:build linux

package faults_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// TestF42ZipkinBroken has spans go where nobody is, where nobody answers, where all is refused and where no name leads. Traffic does not
// notice, memory is bounded, and what is dropped is counted.
func TestF42ZipkinBroken(t *testing.T) {
	root := os.Geteuid() == 0
	if root && !apart(t) { // where no name server answers
		return
	}
	r := begin(t)
	silent := peerOf(t, nil)
	failing := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", 500) }))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	etcd := process.StartEtcd(r, process.PinnedEtcd(r), 1)
	var base time.Duration
	cases := []struct{ name, zipkin string }{
		{"none", ""},
		{"down", "http://" + ln.Addr().String() + "/api/v2/spans"},
		{"silent", "http://" + silent.addr + "/api/v2/spans"},
		{"failing", "http://" + failing + "/api/v2/spans"},
		{"no_name", "http://zipkin.invalid:9411/api/v2/spans"},
	}
	if !root {
		cases = cases[:len(cases)-1]
		r.set("no_name", "only root may cut a network off from its name servers")
	}
	for _, c := range cases {
		config := ""
		if c.zipkin != "" {
			config = "zipkinAddr: " + c.zipkin + "\n"
		}
		s := open(r, props{gateways: 1, bare: true, etcd: etcd, config: config})
		g := s.gateways[0]
		warm := s.load()
		wait(t, 2*time.Second)
		warm.Stop()
		for _, n := range s.nodes {
			os.Truncate(n.counts, 0) // ids begin anew
		}
		g.collect()
		g.ResetPeak()
		before, _ := g.Memory()
		l := &load.Load{Addrs: s.front, Path: "/api/count/hit", Rate: 1000}
		l.Start()
		wait(t, lasting(30*time.Second, 5*time.Second))
		res := l.Stop()
		_, peak := g.Memory()
		dropped, _ := g.metric("goms_spans_total", `result="dropped"`)
		r.account(res, losses{}, s.witnesses()...)
		r.set(c.name+"_p99_ms", res.P99)
		r.set(c.name+"_median_us", res.Latency(0, res.Took, 50).Microseconds())
		r.set(c.name+"_rss_growth_kib", (peak-before)>>10)
		r.set(c.name+"_dropped", dropped)
		r.must(peak-before <= 48<<20, "%s: memory grew by %d KiB", c.name, (peak-before)>>10)
		if c.zipkin == "" {
			base = res.P99
		} else {
			r.must(res.P99 <= 5*base+200*time.Millisecond, "%s: 99 of 100 requests took at most %v, with no Zipkin at all %v", c.name, res.P99, base)
			if full || c.name == "failing" { // the queue takes a while to fill
				r.must(dropped > 0, "%s: no dropped span is counted", c.name)
			}
		}
		for _, n := range s.nodes {
			n.Kill()
		}
		g.Kill()
		s.forget()
	}
}

// forget removes the keys of the scene's processes, which have been killed.
func (s *scene) forget() {
	c := s.client()
	for _, n := range s.nodes {
		c.Delete(s.t.Context(), n.key())
	}
}

// serve serves HTTP until the test ends.
func serve(t testing.TB, h http.Handler) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(ln)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return ln.Addr().String()
}

// TestF43LogBlocked writes an access record a request to a pipe that nobody reads, and to a disk that is full.
func TestF43LogBlocked(t *testing.T) {
	if !apart(t) {
		return
	}
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true, gateway: "  accessLog: true\n"})
	first := s.gateways[0]
	blocked := *first
	blocked.http, blocked.rpc, blocked.admin = ports.Free(t), ports.Free(t), ports.Free(t)
	blocked.launch.Args = append(append([]string{}, first.launch.Args...), "-http_port", fmt.Sprint(blocked.http), "-rpc_port", fmt.Sprint(blocked.rpc), "-admin_port", fmt.Sprint(blocked.admin))
	blocked.launch.Unread = true
	blocked.again()
	blocked.ready()
	blocked.sees("count", 3)
	disk := smallDisk(r, "256k")
	full := *first
	full.http, full.rpc, full.admin = ports.Free(t), ports.Free(t), ports.Free(t)
	full.launch.Path = "/bin/sh"
	full.launch.Args = append([]string{"-c", `log=$1; shift; exec "$@" >"$log" 2>&1`, "sh", filepath.Join(disk, "log"), first.launch.Path}, first.launch.Args...)
	full.launch.Args = append(full.launch.Args, "-http_port", fmt.Sprint(full.http), "-rpc_port", fmt.Sprint(full.rpc), "-admin_port", fmt.Sprint(full.admin))
	full.again()
	full.ready()
	full.sees("count", 3)
	// In all more lines than a queue and a pipe hold.
	l := &load.Load{Addrs: []string{blocked.addr(), full.addr()}, Path: "/api/count/hit", Rate: 1000}
	l.Start()
	wait(t, lasting(30*time.Second, 15*time.Second))
	r.account(l.Stop(), losses{}, s.witnesses()...)
	written, _ := os.Stat(filepath.Join(disk, "log"))
	r.set("log_bytes_on_full_disk", written.Size())
	r.must(written.Size() >= 200<<10, "the disk is not full: %d bytes", written.Size())
	for name, g := range map[string]*gateway{"blocked": &blocked, "full": &full} {
		dropped, ok := g.metric("goms_log_dropped_total")
		r.set(name+"_dropped", dropped)
		r.must(ok && dropped > 0, "%s: lines that could not be written are not counted (goms_log_dropped_total)", name)
		r.must(g.Alive(), "%s: the gateway has ended", name)
	}
}
