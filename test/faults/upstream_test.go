//go:build linux

package faults_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// peer is a node that is no node of ours: it answers as the test has it.
type peer struct {
	addr  string
	asked atomic.Int64
	ids   ids
	ln    net.Listener
	all   sync.WaitGroup
	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

// peerOf starts a peer whose connections are served by f (nil: it reads and never answers), and which ends with the test.
func peerOf(t testing.TB, f func(p *peer, conn net.Conn, r *bufio.Reader)) *peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{addr: ln.Addr().String(), ln: ln, conns: map[net.Conn]bool{}}
	p.all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns[conn] = true
			p.mu.Unlock()
			p.all.Go(func() {
				defer func() {
					p.mu.Lock()
					delete(p.conns, conn)
					p.mu.Unlock()
					conn.Close()
				}()
				if f == nil { // takes what comes and says nothing
					io.Copy(io.Discard, conn)
					return
				}
				f(p, conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		p.mu.Lock()
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.all.Wait()
	})
	return p
}

// ids are ids of requests and how often each was met.
type ids struct {
	mu sync.Mutex // guards n
	n  map[string]int
}

func (s *ids) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == nil {
		s.n = map[string]int{}
	}
	s.n[id]++
}

// count makes ids a witness.
func (s *ids) count(seen map[string]int) {
	for id, n := range s.all() {
		seen[id] += n
	}
}

func (s *ids) all() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.n)
}

// saw notes a request; see witness.
func (p *peer) saw(id string) { p.ids.add(id) }

func (p *peer) count(seen map[string]int) { p.ids.count(seen) }

// request reads one request, with its body, and returns its id.
func request(r *bufio.Reader) (id string, req *http.Request, err error) {
	if req, err = http.ReadRequest(r); err != nil {
		return "", nil, err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return req.URL.Query().Get("id"), req, err
}

// join registers addresses as nodes of a service and waits until the gateways know them.
func (s *scene) join(service string, addrs ...string) {
	s.t.Helper()
	s.joinAs(service, "0", addrs...)
}

// joinAs is join for nodes that say something of themselves.
func (s *scene) joinAs(service, value string, addrs ...string) {
	s.t.Helper()
	c := s.client()
	for i, addr := range addrs {
		s.put(c, fmt.Sprintf("goms_%s_127.0.0.1:%d_%s", service, i+1, addr), value)
	}
	process.Eventually(s.t, 20*time.Second, "the gateways know "+strings.Join(addrs, " "), func() error {
		for _, g := range s.gateways {
			nodes, err := g.pool(service)
			if err != nil {
				return err
			}
			for _, addr := range addrs {
				if !strings.Contains(strings.Join(nodes, " ")+" ", "_"+addr+" ") {
					return fmt.Errorf("%s knows %v", g.Name, nodes)
				}
			}
		}
		return nil
	})
}

// TestF22NodeResets has one node of three reset its connections, again and again, before and in the middle of requests.
func TestF22NodeResets(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	real := s.addNode("behind")
	proxy := relayTo(t, real.addr())
	s.join("count", proxy.addr)
	l := s.load()
	wait(t, 2*time.Second)
	resets := times(150, 20)
	for i := range resets {
		proxy.reset()
		proxy.deny.Store(i%4 == 3) // and sometimes whoever connects is reset at once
		wait(t, 300*time.Millisecond)
		proxy.deny.Store(false)
	}
	wait(t, time.Second)
	// A reset may meet a POST that the node has begun: it may not be repeated. Of 100 requests a second that take a millisecond each that
	// is a tenth of a request a reset; a busy machine makes it a few.
	r.account(l.Stop(), losses{post: resets, twice: 3 * resets}, s.witnesses()...)
	retries := 0.0
	for _, g := range s.gateways {
		n, _ := g.metric("goms_retries_total")
		retries += n
	}
	r.set("resets", resets)
	r.set("retries", retries)
	r.must(retries > 0, "nothing was tried again: the resets met nobody")
	r.must(real.arrived() > 0, "the node behind the resets was never asked")
}

// TestF24NodeCutsAnswers has one node of four end connections in the middle of its answers, by close and by reset, with and without a
// length. Nobody may take a part for the whole, over HTTP/1.1 or HTTP/2, nor meet what is left of another's answer.
func TestF24NodeCutsAnswers(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateway: "  h2c: true\n", services: "  cut:\n    hit: /hit\n"})
	cut := ids{}
	var reused atomic.Int64
	serve := func(p *peer, conn net.Conn, br *bufio.Reader) {
		for spoilt := false; ; {
			id, _, err := request(br)
			if err != nil {
				return
			}
			if spoilt {
				reused.Add(1)
			}
			p.saw(id)
			switch p.asked.Add(1) % 8 {
			case 1: // in the body
				cut.add(id)
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id)+10, id)
				return
			case 3: // in a chunk
				cut.add(id)
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n20\r\nxx", len(id), id)
				return
			case 5: // between chunks, by reset
				cut.add(id)
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(id), id)
				abort(conn)
				return
			case 7: // whole, and behind it an answer that nobody asked for
				spoilt = true
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\np9999999", len(id), id)
			default:
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
			}
		}
	}
	cutter, alone := peerOf(t, serve), peerOf(t, serve)
	s.join("count", cutter.addr)
	s.join("cut", alone.addr)
	l := s.load()
	wait(t, lasting(60*time.Second, 10*time.Second))
	res := l.Stop()
	cuts, seen := cut.all(), map[string]int{}
	for _, n := range s.nodes {
		n.count(seen)
	}
	whole := 0
	for _, id := range res.Answered() {
		if cuts[id] > 0 && seen[id] == 0 {
			whole++
		}
	}
	r.account(res, losses{get: len(cuts), post: len(cuts), twice: len(cuts)}, append(s.witnesses(), cutter)...)
	r.set("cut", len(cuts))
	r.set("cut_taken_for_whole", whole)
	r.must(len(cuts) > 20, "only %d answers were cut", len(cuts))
	r.must(whole == 0, "%d answers that were cut looked complete to their clients", whole)
	r.must(res.Lost <= len(cuts), "%d requests were lost, more than the %d whose answers were cut", res.Lost, len(cuts))
	h2, _ := overHTTP2(t, nil)
	cutOver2, whole := 0, 0
	for i := range times(800, 160) {
		id := fmt.Sprintf("h%07d", i)
		body, err := fetch(h2, "http://"+s.gateways[0].addr()+"/api/cut/hit?id="+id)
		switch was := cut.all()[id] > 0; {
		case was && err == nil:
			whole++
		case was:
			cutOver2++
		default:
			r.must(err == nil && body == id, "over HTTP/2 %s was answered %q, %v", id, body, err)
		}
	}
	r.set("cut_http2", cutOver2)
	r.set("cut_http2_taken_for_whole", whole)
	r.set("reused", reused.Load())
	r.must(cutOver2 >= 40 && whole == 0, "over HTTP/2 %d cut answers ended in an error, %d looked complete", cutOver2, whole)
	r.must(reused.Load() == 0, "%d connections were used again though there was more than the answer on them", reused.Load())
}
