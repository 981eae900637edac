// Package load is an open-loop HTTP/1.1 load generator for tests that must account for each single request.
//
// Every request has an id of its own, in its query and, if it is a POST, in its body, and must be answered by that id. Requests leave at
// their appointed time however slow the answers to earlier ones are, and latency counts from then. A request is written once, on one
// connection, and never again: net/http would repeat some on its own account, so this is a client of its own. What fails is lost, and is
// reported with its reason.
package load

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Load is a stream of requests. The zero value of what is not required will do.
type Load struct {
	Addrs   []string      // where to connect, in turn; required
	Path    string        // of the requests, answered by the query's id; required
	Rate    int           // requests a second; 400
	Posts   int           // how many of a hundred are POST; 50 when 0, none when negative
	Timeout time.Duration // of one request, from its appointed time, half of it to connect; 10 s
	Most    int           // requests under way at once, above which further ones are lost by the generator itself; 4000
	TLS     *tls.Config   // for HTTPS, without ALPN; nil is plain

	stop    chan struct{}
	done    chan struct{}
	began   time.Time
	pool    pool
	turn    atomic.Int64
	flying  atomic.Int64
	open    atomic.Int64 // connections
	mu      sync.Mutex   // guards records
	records []record
}

// record is what became of one request.
type record struct {
	post   bool
	n      int
	at     time.Duration // its appointed time, from the start
	took   time.Duration // from then to the end of its answer
	reason string        // why it was lost; "" when it was not
}

// Start begins.
func (l *Load) Start() {
	if l.Rate == 0 {
		l.Rate = 400
	}
	if l.Posts == 0 {
		l.Posts = 50
	}
	if l.Timeout == 0 {
		l.Timeout = 10 * time.Second
	}
	if l.Most == 0 {
		l.Most = 4000
	}
	l.stop, l.done, l.began = make(chan struct{}), make(chan struct{}), time.Now()
	go l.run()
}

// Stop sends no more, waits for what is under way and returns what became of all requests.
func (l *Load) Stop() *Result {
	close(l.stop)
	<-l.done
	l.pool.close()
	return newResult(l.records, time.Since(l.began))
}

// Sent returns how many requests were answered or lost so far, and how many of them were lost.
func (l *Load) Sent() (all, lost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if r.reason != "" {
			lost++
		}
	}
	return len(l.records), lost
}

// Connections returns how many connections are open.
func (l *Load) Connections() int { return int(l.open.Load()) }

// InFlight returns how many requests are under way.
func (l *Load) InFlight() int { return int(l.flying.Load()) }

// Elapsed returns the time since Start.
func (l *Load) Elapsed() time.Duration { return time.Since(l.began) }

func (l *Load) run() {
	defer close(l.done)
	var all sync.WaitGroup
	defer all.Wait()
	t := time.NewTimer(0)
	defer t.Stop()
	for n := 0; ; n++ {
		at := time.Duration(n) * time.Second / time.Duration(l.Rate)
		if wait := at - time.Since(l.began); wait > 0 {
			t.Reset(wait)
			select {
			case <-t.C:
			case <-l.stop:
				return
			}
		}
		select {
		case <-l.stop:
			return
		default:
		}
		r := record{n: n, at: at, post: n*l.Posts%100+max(l.Posts, 0) >= 100}
		if l.flying.Load() >= int64(l.Most) {
			r.reason = "not sent: too many are under way"
			l.keep(r)
			continue
		}
		l.flying.Add(1)
		all.Go(func() {
			defer l.flying.Add(-1)
			err := l.request(&r)
			r.took = time.Since(l.began) - r.at
			if err != nil {
				r.reason = reasonOf(err)
			}
			l.keep(r)
		})
	}
}

func (l *Load) keep(r record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
}

// ID returns the id of the nth request.
func ID(n int, post bool) string {
	if post {
		return fmt.Sprintf("p%07d", n)
	}
	return fmt.Sprintf("g%07d", n)
}

// request sends one request and wants its id back.
func (l *Load) request(r *record) error {
	deadline := l.began.Add(r.at + l.Timeout)
	c := l.pool.take()
	if c == nil {
		addr := l.Addrs[int(l.turn.Add(1))%len(l.Addrs)]
		conn, err := net.DialTimeout("tcp", addr, min(l.Timeout/2, time.Until(deadline)))
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		if l.TLS != nil {
			config := l.TLS.Clone()
			if config.ServerName == "" {
				config.ServerName, _, _ = net.SplitHostPort(addr)
			}
			conn = tls.Client(conn, config)
		}
		c = &kept{conn: conn, r: bufio.NewReaderSize(conn, 4<<10), open: &l.open}
		l.open.Add(1)
	}
	c.conn.SetDeadline(deadline)
	keep, err := c.exchange(l, r)
	if keep {
		l.pool.give(c)
	} else {
		c.close()
	}
	return err
}

func (c *kept) close() {
	c.open.Add(-1)
	c.conn.Close()
}

func (c *kept) exchange(l *Load, r *record) (keep bool, err error) {
	id, method, body := ID(r.n, r.post), "GET", ""
	b := make([]byte, 0, 256)
	if r.post {
		method, body = "POST", "id="+id
	}
	b = fmt.Appendf(b, "%s %s?id=%s HTTP/1.1\r\nHost: load.test\r\n", method, l.Path, id)
	if r.post {
		b = fmt.Appendf(b, "Content-Length: %d\r\n", len(body))
	}
	b = append(append(b, "\r\n"...), body...)
	if _, err := c.conn.Write(b); err != nil {
		return false, fmt.Errorf("write: %w", err)
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return false, fmt.Errorf("read answer: %w", err)
	}
	got, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return false, fmt.Errorf("read body: %w", err)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return !resp.Close, &statusError{resp.StatusCode, got}
	case string(got) != id:
		return false, errWrongBody
	}
	return !resp.Close && c.r.Buffered() == 0, nil
}

var errWrongBody = errors.New("wrong body")

// statusError is an answer that is none of the node's success.
type statusError struct {
	status int
	body   []byte
}

// Error implements error.
func (e *statusError) Error() string {
	var refusal struct{ Reason string }
	_ = json.Unmarshal(e.body, &refusal) // nginx's own answers are no JSON
	return strings.TrimSpace(fmt.Sprintf("status %d %s", e.status, refusal.Reason))
}

// reasonOf names an error by what can be counted: no addresses, no ids.
func reasonOf(err error) string {
	what, _, _ := strings.Cut(err.Error(), ":")
	var status *statusError
	var timeout net.Error
	switch {
	case errors.As(err, &status), errors.Is(err, errWrongBody):
		return err.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return what + ": timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return what + ": refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return what + ": reset"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return what + ": closed"
	}
	return what + ": other"
}

// kept is a connection that is kept between requests.
type kept struct {
	conn net.Conn
	r    *bufio.Reader
	open *atomic.Int64 // of the load
}

// idle reports whether the other side has neither closed the connection nor sent what nobody asked for. Nothing is sent yet: to take
// another connection repeats no request.
func (c *kept) idle() bool {
	conn := c.conn
	if over, ok := conn.(*tls.Conn); ok {
		conn = over.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}

// pool holds idle connections, the last used first.
type pool struct {
	mu   sync.Mutex // guards idle
	idle []*kept
}

func (p *pool) take() *kept {
	for {
		p.mu.Lock()
		if len(p.idle) == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		p.mu.Unlock()
		if c.conn.SetDeadline(time.Time{}); c.idle() {
			return c
		}
		c.close()
	}
}

func (p *pool) give(c *kept) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
}

// Result is what became of all requests of a load.
type Result struct {
	Requests, Lost, LostGET, LostPOST, WrongBody int
	Errors                                       map[string]int // how many were lost, by reason
	Max, P99                                     time.Duration  // of those that were not lost
	Took                                         time.Duration

	records []record
}

func newResult(records []record, took time.Duration) *Result {
	slices.SortFunc(records, func(a, b record) int { return a.n - b.n })
	r := &Result{Requests: len(records), Errors: map[string]int{}, Took: took, records: records}
	for _, q := range records {
		switch {
		case q.reason == "":
			continue
		case q.post:
			r.LostPOST++
		default:
			r.LostGET++
		}
		r.Lost++
		r.Errors[q.reason]++
	}
	r.WrongBody = r.Errors[errWrongBody.Error()]
	r.P99, r.Max = r.Latency(0, took, 99), r.Latency(0, took, 100)
	return r
}

// Latency returns the percentile of the answered requests that were due between two times from the start; 0 when there are none.
func (r *Result) Latency(from, to time.Duration, percentile int) time.Duration {
	var all []time.Duration
	for _, q := range r.records {
		if q.reason == "" && q.at >= from && q.at < to {
			all = append(all, q.took)
		}
	}
	return pick(all, percentile)
}

func pick(all []time.Duration, percentile int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)*percentile/100, len(all)-1)]
}

// Between returns how many requests were due between two times from the start, and how many of them were lost.
func (r *Result) Between(from, to time.Duration) (all, lost int) {
	for _, q := range r.records {
		if q.at >= from && q.at < to {
			if all++; q.reason != "" {
				lost++
			}
		}
	}
	return all, lost
}

// Slower returns how many requests that were due between two times from the start took longer than d.
func (r *Result) Slower(from, to, d time.Duration) int {
	n := 0
	for _, q := range r.records {
		if q.at >= from && q.at < to && q.took > d {
			n++
		}
	}
	return n
}

// Answered returns the ids of the requests that were answered.
func (r *Result) Answered() []string {
	var ids []string
	for _, q := range r.records {
		if q.reason == "" {
			ids = append(ids, ID(q.n, q.post))
		}
	}
	return ids
}

// LostIDs returns the ids of the requests that were lost.
func (r *Result) LostIDs() []string {
	var ids []string
	for _, q := range r.records {
		if q.reason != "" {
			ids = append(ids, ID(q.n, q.post))
		}
	}
	return ids
}

// LostBy returns one line for each of the first n lost requests: when it was due, its id and the reason.
func (r *Result) LostBy(n int) string {
	var b strings.Builder
	for _, q := range r.records {
		if q.reason != "" && n > 0 {
			fmt.Fprintf(&b, "%8.3fs %s after %v: %s\n", q.at.Seconds(), ID(q.n, q.post), q.took.Round(time.Millisecond), q.reason)
			n--
		}
	}
	return b.String()
}

// LostLatency returns the percentile of the time that requests took which were lost for a reason that begins with prefix.
func (r *Result) LostLatency(prefix string, percentile int) time.Duration {
	var all []time.Duration
	for _, q := range r.records {
		if q.reason != "" && strings.HasPrefix(q.reason, prefix) {
			all = append(all, q.took)
		}
	}
	return pick(all, percentile)
}
