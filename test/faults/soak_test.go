//go:build linux

package faults_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// shock is a fault of the soak, by the name of its row: it breaks something, and has it whole again when it returns.
type shock struct {
	name string
	do   func(r *row, s *scene)
}

var shocks = []shock{
	{"F01", func(_ *row, s *scene) { n := s.anyNode(); n.Kill(); wait(s.t, 15*time.Second); s.again(n) }},
	{"F02", func(_ *row, s *scene) { n := s.anyNode(); n.Stop(30 * time.Second); s.again(n) }},
	{"F04", func(_ *row, s *scene) { g := s.gateways[1]; g.Stop(60 * time.Second); g.again(); g.ready() }},
	{"F05", func(_ *row, s *scene) { g := s.gateways[1]; g.Kill(); g.again(); g.ready() }},
	{"F07", func(_ *row, s *scene) {
		i := s.etcd.Leader()
		s.etcd.Members[i].Kill()
		wait(s.t, 5*time.Second)
		s.etcd.Restart(i)
	}},
	{"F08", func(_ *row, s *scene) {
		for _, m := range s.etcd.Members {
			m.Kill()
		}
		wait(s.t, 25*time.Second)
		for i := range s.etcd.Members {
			s.etcd.Restart(i)
		}
		s.etcd.Ready()
	}},
	{"F12", func(_ *row, s *scene) {
		n := s.anyNode()
		n.Signal(syscall.SIGSTOP)
		wait(s.t, 15*time.Second)
		n.Signal(syscall.SIGCONT)
	}},
	{"F20", func(r *row, s *scene) {
		n := s.anyNode()
		n.behave(r, "delay=1s")
		wait(s.t, 10*time.Second)
		n.behave(r, "delay=0s")
	}},
	{"F26", func(_ *row, s *scene) {
		s.crowdOfClients("POST /api/count/up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf")
	}},
	{"F27", func(_ *row, s *scene) {
		s.crowdOfClients("GET /api/count/hit HTTP/1.1\r\nHost: a\r\nCookie: " + strings.Repeat("c", 1<<17) + "\r\n\r\n")
	}},
	{"F35", func(_ *row, s *scene) {
		for i := range 50 {
			s.routes(fmt.Sprintf("  round%d:\n    x: /x\n", i))
			s.hup()
			wait(s.t, 50*time.Millisecond)
		}
	}},
	{"F38", func(_ *row, s *scene) {
		c := s.client()
		s.crowd(c, 0, 1000)
		wait(s.t, time.Second)
		s.disperse(c, 0, 1000)
		c.Close()
	}},
	{"F39", func(_ *row, s *scene) {
		for range 50 {
			if resp, err := once.Get("http://" + s.front[0] + "/api/count/panic"); err == nil {
				resp.Body.Close()
			}
		}
	}},
}

func (s *scene) anyNode() *node { return s.nodes[rand.IntN(len(s.nodes))] }

// crowdOfClients has 500 clients of the first gateway send something and go.
func (s *scene) crowdOfClients(text string) {
	var all sync.WaitGroup
	for range 500 {
		all.Go(func() {
			conn, err := net.DialTimeout("tcp", s.gateways[0].addr(), 5*time.Second)
			if err != nil {
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
			io.WriteString(conn, text)
			http.ReadResponse(bufio.NewReader(conn), nil)
		})
	}
	all.Wait()
}

// sample is what the gateway that lives through the soak holds at the end of a round.
type sample struct {
	at                   time.Duration
	rss, files, routines float64
}

// TestF51Soak draws faults at random, one a minute, on a system that lives on. The first gateway is never restarted: what it holds must
// not grow. GOMS_SOAK_HOURS says how long.
func TestF51Soak(t *testing.T) {
	r := begin(t)
	span := lasting(5*time.Minute, 2*time.Minute)
	if text := os.Getenv("GOMS_SOAK_HOURS"); text != "" {
		hours, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("GOMS_SOAK_HOURS: %v", err)
		}
		span = time.Duration(hours * float64(time.Hour))
	}
	s := open(r, props{members: 3, gateway: "  upstreamIdleTimeout: 2s\n"})
	g := s.gateways[0]
	var samples []sample
	rounds, lost, requests := 0, 0, 0
	drawn := map[string]int{}
	for began := time.Now(); time.Since(began) < span; rounds++ {
		shock := shocks[rand.IntN(len(shocks))]
		drawn[shock.name]++
		for _, n := range s.nodes {
			os.Truncate(n.counts, 0) // ids begin anew
		}
		round := &row{T: t, values: map[string]any{}}
		l := s.load()
		wait(t, 2*time.Second)
		started, shocked := time.Now(), l.Elapsed()
		shock.do(r, s)
		s.living(r)
		s.etcd.Ready()
		s.seen("count", len(s.nodes))
		wait(t, max(5*time.Second, min(span/4, lasting(45*time.Second, 10*time.Second))-time.Since(started)))
		res := l.Stop()
		round.account(res, losses{get: res.Requests, post: res.Requests, twice: res.Requests}, s.witnesses()...)
		requests, lost = requests+res.Requests, lost+res.Lost
		wait(t, 3*time.Second) // idle connections to nodes end
		g.collect()
		rss, _ := g.Memory()
		samples = append(samples, sample{time.Since(began), float64(rss), float64(g.Files()), float64(g.goroutines())})
		reasons, err := json.Marshal(res.Errors)
		if err != nil {
			t.Fatal(err)
		}
		if res.Lost > 0 {
			t.Logf("round %d, %s, which began at %v:\n%s", rounds, shock.name, shocked, res.LostBy(5))
		}
		text := fmt.Sprintf(`{"row":"F51","round":%d,"fault":%q,"requests":%d,"lost_get":%d,"lost_post":%d,"errors":%s,"rss_kib":%d,"fds":%d,"goroutines":%d}`,
			rounds, shock.name, res.Requests, res.LostGET, res.LostPOST, reasons, rss>>10, g.Files(), g.goroutines())
		fmt.Println(text)
	}
	warm := samples[len(samples)/4:] // the first rounds warm it up
	r.set("rounds", rounds)
	r.set("drawn", drawn)
	r.set("requests", requests)
	r.set("lost", lost)
	perHour := slope(warm, func(s sample) float64 { return s.rss }) / (1 << 20)
	files, routines := slope(warm, func(s sample) float64 { return s.files }), slope(warm, func(s sample) float64 { return s.routines })
	r.set("rss_mib_per_hour", perHour)
	r.set("fds_per_hour", files)
	r.set("goroutines_per_hour", routines)
	// A megabyte an hour, and what a figure wavers by in a short time.
	hours := span.Hours()
	r.must(perHour*hours <= max(24, hours), "memory grew by %.1f MiB an hour", perHour)
	r.must(files*hours <= 50 && routines*hours <= 50, "%.1f files and %.1f goroutines more an hour", files, routines)
}

// slope is the least squares' growth of a figure, an hour.
func slope(samples []sample, of func(sample) float64) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, s := range samples {
		x, y := s.at.Hours(), of(s)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; d > 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
