//go:build linux

package faults_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/ports"
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
	sinks := []*sink{
		{name: "none"},
		{name: "down", zipkin: "http://" + ln.Addr().String() + "/api/v2/spans"},
		{name: "silent", zipkin: "http://" + silent.addr + "/api/v2/spans"},
		{name: "failing", zipkin: "http://" + failing + "/api/v2/spans"},
		{name: "no_name", zipkin: "http://zipkin.invalid:9411/api/v2/spans"},
	}
	if !root {
		sinks = sinks[:len(sinks)-1]
		r.set("no_name", "only root may cut a network off from its name servers")
	}
	for _, k := range sinks {
		k.open(r)
	}
	// In turns, so that what ails the machine for a moment ails one round of one of them.
	for range times(10, 5) {
		for _, k := range sinks {
			k.round(r, lasting(3*time.Second, time.Second))
		}
	}
	for _, k := range sinks {
		k.judge(r, sinks[0])
	}
}

// sink is one case of F42: a scene whose spans go to one place.
type sink struct {
	name, zipkin string
	s            *scene
	before       int64 // resident set
	growth       int64 // of it, at its peak
	p50, p99     []time.Duration
	requests     int
	most         time.Duration
}

func (k *sink) open(r *row) {
	r.Helper()
	config := ""
	if k.zipkin != "" {
		config = "zipkinAddr: " + k.zipkin + "\n"
	}
	k.s = open(r, props{gateways: 1, bare: true, config: config})
	warm := k.s.load()
	wait(r, time.Second)
	warm.Stop()
	g := k.s.gateways[0]
	g.collect()
	g.ResetPeak()
	k.before, _ = g.Memory()
}

// round sends requests for a time, none of which may be lost.
func (k *sink) round(r *row, span time.Duration) {
	r.Helper()
	for _, n := range k.s.nodes {
		os.Truncate(n.counts, 0) // ids begin anew
	}
	// Nobody gives up while the machine is held up: how long answers take is judged by itself.
	l := &load.Load{Addrs: k.s.front, Path: "/api/count/hit", Rate: 1000, Timeout: 30 * time.Second, Most: 20_000}
	l.Start()
	wait(r, span)
	res := l.Stop()
	r.account(res, losses{}, k.s.witnesses()...)
	k.p50, k.p99 = append(k.p50, res.Latency(0, res.Took, 50)), append(k.p99, res.P99)
	k.requests += res.Requests
	k.most = max(k.most, res.Max)
}

// judge compares what was measured with none, where no spans go anywhere: what is usual, closely; the slowest of a hundred in the round in the
// middle, generously, since a busy machine makes them; and in the best round, since what blocks requests does so in each.
func (k *sink) judge(r *row, none *sink) {
	r.Helper()
	_, peak := k.s.gateways[0].Memory()
	k.growth = peak - k.before
	dropped, _ := k.s.gateways[0].metric("goms_spans_total", `result="dropped"`)
	usual, middle, best := median(k.p50), median(k.p99), slices.Min(k.p99)
	r.set(k.name+"_requests", k.requests)
	r.set(k.name+"_median_us", usual.Microseconds())
	r.set(k.name+"_p99_us", middle.Microseconds())
	r.set(k.name+"_best_p99_us", best.Microseconds())
	r.set(k.name+"_max_ms", k.most)
	r.set(k.name+"_rss_growth_kib", k.growth>>10)
	r.set(k.name+"_dropped", dropped)
	if k == none {
		return
	}
	within := func(what string, got, want, most time.Duration) {
		r.Helper()
		r.must(got <= most, "%s: %s took %v, with no Zipkin at all %v", k.name, what, got, want)
	}
	within("half of the requests", usual, median(none.p50), median(none.p50)*3/2+time.Millisecond)
	within("99 of 100 requests, in the round in the middle,", middle, median(none.p99), 5*median(none.p99)+200*time.Millisecond)
	within("99 of 100 requests, in the best round,", best, slices.Min(none.p99), 3*slices.Min(none.p99)+50*time.Millisecond)
	r.must(k.growth <= max(none.growth, 0)+16<<20, "%s: memory grew by %d KiB, with no Zipkin at all by %d KiB", k.name, k.growth>>10, none.growth>>10)
	if full || k.name == "failing" { // the queue takes a while to fill
		r.must(dropped > 0, "%s: no dropped span is counted", k.name)
	}
}

func median(all []time.Duration) time.Duration {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
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
