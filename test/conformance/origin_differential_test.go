//go:build linux

package conformance_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// answer is one final answer of the gateway.
type answer struct {
	status int
	seq    string // the origin's number of the request, "" when the gateway answered itself
	own    bool   // the gateway answered itself, and says why
}

// exchanged is one connection: what was sent and what came back.
type exchanged struct {
	text    string
	answers []answer
	err     error // the gateway did not end the connection
}

// TestOriginsSeeWhatWasAnswered sends hostile requests through a gateway to origins with parsers of their own. Whatever
// was answered with 2xx an origin saw once, as the client had framed it; whatever was refused, none saw whole; and
// nothing was seen that nobody answered: no request within another.
func TestOriginsSeeWhatWasAnswered(t *testing.T) {
	const each = 2400 // connections to each origin
	node := process.Need(t, "node (Debian package nodejs)", "node", "nodejs")
	python := process.Need(t, "python3", "python3")
	nginx := process.Need(t, "nginx", "nginx")
	origins := []*origin{goOrigin(t), scriptOrigin(t, "node", node, "origin.js"), scriptOrigin(t, "python", python, "origin.py"), nginxOrigin(t, nginx)}
	services := "services:\n"
	for _, o := range origins {
		services += fmt.Sprintf("  %s:\n    any: {path: \"/any\", methods: [GET, POST, PUT, PATCH, DELETE, OPTIONS]}\n", o.name)
	}
	g := startGateway(t, services, "headTimeout: 300ms", "bodyTimeout: 300ms", "idleTimeout: 200ms")
	for i, o := range origins {
		g.join(o.name, o.addr)
		t.Run(o.name, func(t *testing.T) { differential(t, g, o, uint64(i), each) })
	}
}

func differential(t *testing.T, g *gateway, o *origin, seed uint64, n int) {
	r := rand.New(rand.NewPCG(9110, seed))
	pool := seeds("/api/" + o.name + "/any")
	conns := make([]*exchanged, n)
	for i := range conns {
		text := pool[i%len(pool)]
		if i >= len(pool) {
			text = mutated(r, pool)
		}
		conns[i] = &exchanged{text: strings.Replace(text, "Host: a\r\n", fmt.Sprintf("Host: a\r\nX-Marker: c%d\r\n", i), 1)}
	}
	texts := make([]string, n)
	for i, c := range conns {
		texts[i] = c.text
	}
	_, theirs := llhttp(t, texts)

	cuts := make([]int, n) // some arrive in two pieces
	for i, c := range conns {
		cuts[i] = len(c.text)
		if r.IntN(3) == 0 && len(c.text) > 1 {
			cuts[i] = 1 + r.IntN(len(c.text)-1)
		}
	}
	began := time.Now()
	work := make(chan int)
	var wg sync.WaitGroup
	for range 48 {
		wg.Go(func() {
			for i := range work {
				conns[i].run(g.plain, cuts[i], methodsOf(theirs[i], ours([]byte(conns[i].text), true)))
			}
		})
	}
	for i := range conns {
		work <- i
	}
	close(work)
	wg.Wait()
	alive(t, g.Process)
	t.Logf("%d connections in %v", n, time.Since(began).Round(time.Millisecond))

	accepted, refused := 0, 0
	claimed := map[string]int{} // number of a request → connection that was told so
	for i, c := range conns {
		if c.err != nil {
			t.Errorf("connection %d: %v\n%q", i, c.err, c.text)
		}
		for k, a := range c.answers {
			switch {
			case a.seq != "" && a.status == 200:
				accepted++
				if was, twice := claimed[a.seq]; twice {
					t.Errorf("%s answers connections %d and %d", a.seq, was, i)
				}
				claimed[a.seq] = i
			case a.own && a.status == 200 && strings.Contains(c.text, "OPTIONS * "): // the gateway's, as a whole
			case a.own && a.status >= 400:
				refused++
			case o.name == "nginx" && a.status == 400 && strings.Contains(c.text, "%00"):
				// nginx refuses an encoded NUL in a query too; RFC 3986 does not, and the path is the gateway's to guard.
			default:
				t.Errorf("connection %d, answer %d is %d, and not the gateway's own: %s refused what was passed on to it\n%q", i, k, a.status, o.name, c.text)
			}
		}
	}
	t.Logf("%d requests answered by %s, %d refused by the gateway", accepted, o.name, refused)
	if accepted < n/5 || refused < n/3 {
		t.Errorf("%d requests were answered and %d refused of %d connections: the corpus tests too little", accepted, refused, n)
	}
	seen := map[string]sight{}
	process.Eventually(t, patience, o.name+" has logged what it answered", func() error {
		clear(seen)
		for _, s := range o.sights(t) {
			if _, twice := seen[s.Seq]; twice && s.Refused == "" {
				t.Fatalf("%s is in the log twice", s.Seq)
			}
			seen[s.Seq] = s
		}
		for seq := range claimed {
			if _, ok := seen[seq]; !ok {
				return fmt.Errorf("%s is not there", seq)
			}
		}
		return nil
	})
	for seq, s := range seen {
		if s.Refused != "" {
			t.Errorf("%s refused what was passed on to it: %s", o.name, s.Refused)
			continue
		}
		if strings.Contains(s.Target, "smuggled") && !strings.HasPrefix(s.Target, "/any") || s.Marker == "smuggled" && !strings.HasPrefix(s.Target, "/any") {
			t.Errorf("the hidden request was seen: %+v", s)
		}
		if i, ok := claimed[seq]; s.Whole && !ok {
			t.Errorf("%s saw a whole request that was not answered with 200: %+v, case %s", o.name, s, caseOf(conns, s.Marker))
		} else if ok && !s.Whole {
			t.Errorf("connection %d was answered 200 though %s did not see the whole of it: %+v\n%q", i, o.name, s, conns[i].text)
		}
	}
	for i, c := range conns {
		match(t, i, c, seen, theirs[i])
	}
}

// match holds each answer against the request in its place, as llhttp reads the bytes that were sent (what llhttp
// refuses and the gateway takes is the matter of TestAgainstLlhttp; here pkg/http1 stands in).
func match(t *testing.T, i int, c *exchanged, seen map[string]sight, theirs reading) {
	sent := theirs.Messages
	if mine := ours([]byte(c.text), true); len(mine.Messages) > len(sent) {
		sent = mine.Messages
	}
	for k, a := range c.answers {
		if a.seq == "" {
			continue
		}
		if k >= len(sent) {
			t.Errorf("connection %d: answer %d is to no request of it\n%q", i, k, c.text)
			return
		}
		s, m := seen[a.seq], sent[k]
		_, query, _ := strings.Cut(m.Target, "?")
		_, got, _ := strings.Cut(s.Target, "?")
		marker, _, _ := strings.Cut(m.Marker, ",")
		if s.Method != m.Method || s.Length != int64(len(m.Body)) || got != query || plainASCII(s.Marker) != plainASCII(marker) {
			t.Errorf("connection %d, request %d: sent %s ?%s with %d bytes, marker %q; seen %+v\n%q", i, k, m.Method, query, len(m.Body), marker, s, c.text)
		}
	}
}

// plainASCII leaves out what logs and parsers write differently.
func plainASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x21 || r > 0x7e {
			return -1
		}
		return r
	}, s)
}

func caseOf(conns []*exchanged, marker string) string {
	var i int
	if _, err := fmt.Sscanf(marker, "c%d", &i); err != nil || i >= len(conns) {
		return "unknown"
	}
	return fmt.Sprintf("%d: %q answered %+v", i, conns[i].text, conns[i].answers)
}

// methodsOf returns the methods of the requests on a connection, as far as anybody can read them.
func methodsOf(all ...reading) (methods []string) {
	for _, r := range all {
		m := r.Messages
		if r.Partial != nil {
			m = append(slices.Clone(m), *r.Partial)
		}
		for k := len(methods); k < len(m); k++ {
			methods = append(methods, m[k].Method)
		}
	}
	return methods
}

// run sends the bytes and reads answers until the gateway ends the connection.
func (c *exchanged) run(addr string, cut int, methods []string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		c.err = err
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(15 * time.Second))
	// The gateway may end the connection before it has read all: that is no error, its answer counts.
	if _, err := io.WriteString(conn, c.text[:cut]); err == nil && cut < len(c.text) {
		time.Sleep(2 * time.Millisecond) // so that the rest comes in a piece of its own, mostly
		io.WriteString(conn, c.text[cut:])
	}
	br := bufio.NewReader(conn)
	for {
		if _, err := br.Peek(1); err != nil {
			if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
				c.err = fmt.Errorf("the gateway leaves the connection open: %w", err)
			}
			return
		}
		method := "GET"
		if k := len(c.answers); k < len(methods) {
			method = methods[k]
		}
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			c.err = fmt.Errorf("answer %d: %w", len(c.answers), err)
			return
		}
		body, err := io.ReadAll(res.Body)
		if res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		a := answer{status: res.StatusCode}
		var saw string
		a.seq, saw, _ = strings.Cut(res.Header.Get("X-Saw"), " ")
		a.own = a.seq == "" && res.Header.Get("X-Content-Type-Options") == "nosniff" && (len(body) == 0 || strings.Contains(string(body), `"reason":`))
		c.answers = append(c.answers, a)
		if a.own && res.Close {
			continue // possibly to a HEAD that nobody but the gateway can read
		}
		if err != nil || a.seq != "" && saw != method {
			c.err = fmt.Errorf("answer %d to %s is to %q: %d bytes, error %v", len(c.answers)-1, method, saw, len(body), err)
			return
		}
	}
}
