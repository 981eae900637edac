//go:build linux

package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/goms-io/goms/test/process"
)

// TestF19ClockJumps sets the wall clock of one of two gateways, and in full runs then that of a node, an hour and a day ahead and back,
// each time from what it was for some seconds. Nothing that takes time notices.
func TestF19ClockJumps(t *testing.T) {
	r := begin(t)
	sink := &spans{}
	ttl := 5 * time.Second
	s := open(r, props{clocks: true, ttl: ttl, config: "zipkinAddr: http://" + serve(t, sink) + "/api/v2/spans\n"})
	for _, n := range s.nodes {
		n.behave(r, "delay=100ms") // so that there are requests under way whenever a clock jumps
	}
	leases := s.leases()
	socket, _, err := websocket.Dial(t.Context(), "ws://"+s.gateways[0].addr()+"/api/count/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	l := s.load()
	wait(t, 2*time.Second)
	jumps, back, day := 0, 0, 24*time.Hour
	jump := func(p *process.Process, addr string, stay time.Duration, all ...time.Duration) {
		was := time.Duration(0)
		for _, d := range all {
			p.SetClock(d)
			if jumps++; d < was {
				back++
			}
			was = d
			s.hasClock(addr, d)
			wait(t, stay)
			s.untouched(r, fmt.Sprintf("%s, whose clock is off by %v", p.Name, d))
			r.must(echoes(t, socket), "%s, whose clock is off by %v, cut a WebSocket", p.Name, d)
		}
	}
	g, n, services := s.gateways[0], s.nodes[0], []string{"gateway"}
	jump(g.Process, g.addr(), lasting(ttl, 2*time.Second), time.Hour, 0, -time.Hour, 0, day, 0, -day)
	wait(t, lasting(14*time.Second, 0)) // gRPC looks at a connection every 10 s, and waits for 3 s more
	jump(g.Process, g.addr(), lasting(ttl, 2*time.Second), 0)
	if full {
		jump(n.Process, n.addr(), 2*time.Second, time.Hour, 0, -time.Hour, 0, day, 0, -day, 0)
		services = append(services, "count")
	}
	// gRPC measures silence by the wall clock: when that was set back it takes a connection that is well for dead, once. The one to etcd
	// is made anew at once.
	reconnects, complaints := s.complaints()
	r.set("etcd_reconnects", reconnects)
	r.set("leaves", s.lines("leave"))
	r.must(s.lines("leave") == 0, "%d leaves were printed", s.lines("leave"))
	r.must(reconnects <= back, "the connection to etcd was lost %d times, the clocks were set back %d times", reconnects, back)
	r.must(len(complaints) == 0, "warnings and errors were printed: %q", complaints)
	same := maps.Equal(s.leases(), leases)
	r.must(same, "some lease is another: %v, it was %v", s.leases(), leases)
	res := l.Stop()
	r.account(res, losses{}, s.witnesses()...)
	r.set("jumps", jumps)
	r.set("leases_kept", same)
	r.must(res.Max < 5*time.Second, "a request took %v", res.Max)
	sink.check(r, res.Requests, services)
}

// echoes returns whether a WebSocket is open from end to end.
func echoes(t testing.TB, socket *websocket.Conn) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := socket.Write(ctx, websocket.MessageText, []byte("still there"))
	if err == nil {
		_, _, err = socket.Read(ctx)
	}
	if err != nil {
		t.Logf("WebSocket: %v", err)
	}
	return err == nil
}

// hasClock waits until what listens at an address dates its answers so much after the machine's clock.
func (s *scene) hasClock(addr string, ahead time.Duration) {
	s.t.Helper()
	process.Eventually(s.t, 10*time.Second, fmt.Sprintf("the clock of %s is off by %v", addr, ahead), func() error {
		resp, err := once.Get("http://" + addr + "/livez")
		if err != nil {
			return err
		}
		resp.Body.Close()
		date, err := http.ParseTime(resp.Header.Get("Date"))
		if err != nil {
			return err
		}
		if off := time.Until(date) - ahead; off.Abs() > 10*time.Second {
			return fmt.Errorf("it says %v", date)
		}
		return nil
	})
}

// untouched wants that no gateway has left out a node, given up a request or lost etcd.
func (s *scene) untouched(r *row, when string) {
	r.Helper()
	for _, g := range s.gateways {
		ejected, ok := g.metric("goms_node_ejected")
		r.must(ok && ejected == 0, "%s: %s has left out %v nodes (%t)", when, g.Name, ejected, ok)
		reasons, ok := g.metric("goms_request_reasons_total")
		local, _ := g.metric("goms_request_reasons_total", `reason="local"`) // its own pages
		r.must(ok && reasons == local, "%s: %s could not answer %v requests (%t)", when, g.Name, reasons-local, ok)
		age, ok := g.metric("goms_registry_age_seconds")
		r.must(ok && age >= 0 && age < 60, "%s: %s heard of etcd %v s ago (%t)", when, g.Name, age, ok)
	}
}

// leases returns the keys of all gateways and nodes in etcd, with their leases.
func (s *scene) leases() map[string]int64 {
	s.t.Helper()
	all, c := map[string]int64{}, s.client()
	for _, service := range []string{"gateway", "count"} {
		process.Eventually(s.t, 10*time.Second, "read the keys in etcd", func() error {
			keys, err := registered(s.t.Context(), c, service)
			maps.Copy(all, keys)
			return err
		})
	}
	return all
}

var (
	complaint = regexp.MustCompile(`\] (WARN|ERROR) `)
	reconnect = regexp.MustCompile(`\] WARN registry unavailable reason=unreachable .*connection lost`)
)

// complaints returns how often gateways and nodes have lost the connection to etcd, and the other warnings and errors that they have printed.
func (s *scene) complaints() (reconnects int, others []string) {
	for _, p := range s.processes() {
		for _, line := range p.Lines(complaint) {
			if reconnect.MatchString(line) {
				reconnects++
			} else {
				others = append(others, line)
			}
		}
	}
	return reconnects, others
}

// spans is a Zipkin that keeps what matters of the spans that it is sent.
type spans struct {
	mu  sync.Mutex // guards all
	all []span
	err error // the first
}

// span is the part of a Zipkin span that the clock has to do with. Its times are in microseconds.
type span struct {
	Kind          string
	Name          string
	Timestamp     int64
	Duration      int64
	LocalEndpoint struct{ ServiceName string }
	received      time.Time
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var batch []span
	err := json.NewDecoder(r.Body).Decode(&batch)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = errors.Join(s.err, err); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, one := range batch {
		one.received = time.Now()
		s.all = append(s.all, one)
	}
	w.WriteHeader(http.StatusAccepted)
}

// check wants that the spans of hits last as long as hits do, and that those services whose clocks jumped have dated some by them.
func (s *spans) check(r *row, requests int, jumped []string) {
	r.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	r.must(s.err == nil, "spans: %v", s.err)
	elsewhen := map[string]int{}
	hits, least, most := 0, time.Hour, time.Duration(0)
	for _, one := range s.all {
		if !strings.HasSuffix(one.Name, "/hit") {
			continue
		}
		hits++
		d := time.Duration(one.Duration) * time.Microsecond
		least, most = min(least, d), max(most, d)
		if one.received.Sub(time.UnixMicro(one.Timestamp)).Abs() > 30*time.Minute {
			elsewhen[one.LocalEndpoint.ServiceName]++
		}
	}
	r.set("spans", hits)
	r.set("shortest_span_ms", least)
	r.set("longest_span_ms", most)
	r.set("spans_of_other_times", elsewhen)
	r.must(hits >= requests, "%d spans of %d requests", hits, requests)
	r.must(least >= 90*time.Millisecond && most < 5*time.Second, "spans of requests that take 100 ms last from %v to %v", least, most)
	for _, service := range jumped {
		r.must(elsewhen[service] > 0, "no span of %s is dated by the clock that jumped", service)
	}
}
