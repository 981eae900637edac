package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/test/ports"
)

// answer is a whole HTTP answer.
type answer struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
	close   bool  // the answer says Connection: close
	length  int64 // Content-Length, -1 when absent
}

// plain is the client of the tests: a connection a request, no redirects, no proxies, nothing decompressed.
var plain = &http.Client{
	Timeout:       patience,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
}

// fetch sends one request and reads the whole answer. A header named Host sets the host.
func fetch(method, url, body string, header http.Header) (answer, error) {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, r)
	if err != nil {
		return answer{}, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	resp, err := plain.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	return whole(resp)
}

func whole(resp *http.Response) (answer, error) {
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, resp.Trailer, string(b), resp.Close, resp.ContentLength}, err
}

// do is fetch for requests that must be answered.
func do(t testing.TB, method, url, body string, header http.Header) answer {
	t.Helper()
	a, err := fetch(method, url, body, header)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return a
}

// refusal is the body of an error that the gateway itself answers.
type refusal struct {
	Status    *bool  `json:"status"`
	Code      int    `json:"code"`
	Reason    string `json:"reason"`
	Msg       string `json:"msg"`
	RequestID string `json:"requestId"`
}

var reasonSyntax = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// refused checks an answer the gateway gives on its own account and returns its body.
func refused(t testing.TB, a answer, status int) refusal {
	t.Helper()
	var r refusal
	if a.status != status {
		t.Errorf("status = %d, want %d: %s", a.status, status, a.body)
	}
	if kind := a.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		t.Errorf("Content-Type = %q, want JSON", kind)
	}
	dec := json.NewDecoder(strings.NewReader(a.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		t.Errorf("body %q: %v", a.body, err)
		return r
	}
	if r.Status == nil || *r.Status || r.Code != a.status || !reasonSyntax.MatchString(r.Reason) || r.Msg == "" || r.RequestID == "" {
		t.Errorf("body = %s, want status false, code %d, a reason, a message and a request id", a.body, a.status)
	}
	return r
}

// wire is one plain TCP connection on which bytes are written as they are.
type wire struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// dial opens a wire with a deadline for all that happens on it.
func dial(t testing.TB, addr string) *wire {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &wire{t, conn, bufio.NewReader(conn)}
}

// send writes bytes. A peer that has already answered and closed is no failure: what it answered is looked at.
func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.conn, text); err != nil {
		w.t.Logf("write: %v", err)
	}
}

// head reads one answer up to the end of its head, interim answers included.
func (w *wire) head(method string) *http.Response {
	w.t.Helper()
	resp, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("read answer: %v", err)
	}
	return resp
}

// answer reads one whole answer.
func (w *wire) answer(method string) answer {
	w.t.Helper()
	resp := w.head(method)
	defer resp.Body.Close()
	a, err := whole(resp)
	if err != nil {
		w.t.Fatalf("read body: %v", err)
	}
	return a
}

// closed wants the peer to close without another byte.
func (w *wire) closed() {
	w.t.Helper()
	rest, err := io.ReadAll(io.LimitReader(w.r, 1024))
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		w.t.Errorf("the connection stays open")
	}
	if len(rest) > 0 {
		w.t.Errorf("after the answer came %q, want the connection closed", rest)
	}
}

// capture is a node that the test itself plays: it accepts connections, keeps what came and answers as told.
type capture struct {
	l        net.Listener
	requests chan string // whole requests, heads and bodies, as they came
}

// newCapture listens and serves each connection with reply; reply nil answers 200 "ok" to every request.
// A reply returns the bytes to write and whether the connection goes on.
func newCapture(t testing.TB, reply func(head string) (string, bool)) *capture {
	t.Helper()
	if reply == nil {
		reply = func(string) (string, bool) { return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true }
	}
	l, err := net.Listen("tcp", ports.Addr(t))
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	c := &capture{l, make(chan string, 1000)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(conn, reply)
		}
	}()
	return c
}

func (c *capture) addr() string { return c.l.Addr().String() }

func (c *capture) serve(conn net.Conn, reply func(string) (string, bool)) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	var seen bytes.Buffer
	r := bufio.NewReader(io.TeeReader(conn, &seen))
	for {
		start := seen.Len() - r.Buffered()
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		c.requests <- seen.String()[start : seen.Len()-r.Buffered()]
		text, more := reply(req.URL.RequestURI())
		if _, err := io.WriteString(conn, text); err != nil || !more {
			return
		}
	}
}

// next returns the next request that arrived.
func (c *capture) next(t testing.TB) string {
	t.Helper()
	select {
	case r := <-c.requests:
		return r
	case <-time.After(patience):
		t.Fatal("no request has arrived at the node")
		return ""
	}
}

// field returns all values of a header in a request as it came over the wire, compared without regard to case.
func field(request, name string) []string {
	var values []string
	head, _, _ := strings.Cut(request, "\r\n\r\n")
	for _, line := range strings.Split(head, "\r\n")[1:] {
		n, v, _ := strings.Cut(line, ":")
		if strings.EqualFold(n, name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	return string(b)
}
