package gateway_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// rfcCase is one conversation through a gateway: what a client sends, byte for byte, what the node then sees, and what
// the client gets.
type rfcCase struct {
	section string // that demands it
	name    string
	send    string // followed by a request for /livez that ends the connection, unless alone
	alone   bool
	answer  string // the node's; an empty 200 when there is none. It closes the connection behind it if it ends in "close!"

	want   string   // the status codes that the client gets; what answers /livez among them says that the connection went on
	seen   []string // in what the node got; a "!" in front: not in it. Without any, nothing may reach the node
	got    []string // in what the client got; a "!" in front: not in it
	exact  string   // the whole body of the first final answer; "-" for none
	broken bool     // the last answer has to look cut
}

// witness is a node that keeps what it gets.
type witness struct {
	mu     sync.Mutex // guards what follows
	got    bytes.Buffer
	answer string
	ending int // connections that it closes behind the answer, and has not yet
}

// ended reports whether all connections that were to be closed are: the next request would meet such a one, idle.
func (w *witness) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ending == 0
}

func (w *witness) reset(answer string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got.Reset()
	w.answer = answer
}

func (w *witness) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.String()
}

// serve answers one request after the other, each with its whole text on record first.
func (w *witness) serve(c net.Conn, _ *bufio.Reader) {
	for {
		var text bytes.Buffer
		br := bufio.NewReaderSize(io.TeeReader(c, &text), 16)
		req, err := http.ReadRequest(br)
		if err == nil {
			if req.Header.Get("Expect") != "" {
				io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			_, err = io.Copy(io.Discard, req.Body)
		}
		w.mu.Lock()
		w.got.Write(text.Bytes())
		answer, last := strings.CutSuffix(w.answer, "close!")
		if err == nil && last {
			w.ending++
		}
		w.mu.Unlock()
		if err != nil {
			return
		}
		if answer == "" {
			answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		}
		if io.WriteString(c, answer); last {
			c.Close()
			w.mu.Lock()
			w.ending--
			w.mu.Unlock()
			return
		}
	}
}

// runRFC runs the cases through one gateway.
func runRFC(t *testing.T, cases []rfcCase) {
	w := new(witness)
	b := start(t, nil, rawNode(t, w.serve))
	const livez = "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	for _, c := range cases {
		t.Run(c.section+"/"+c.name, func(t *testing.T) {
			w.reset(c.answer)
			send := c.send
			if !c.alone {
				send += livez
			}
			got := converse(t, b, send)
			codes, body, err := statuses(got, method(c.send))
			if codes != c.want {
				t.Errorf("the client got %s, want %s, in\n%q", codes, c.want, got)
			}
			if c.broken != (err != nil) {
				t.Errorf("the answer ends with %v, want it broken: %v, in\n%q", err, c.broken, got)
			}
			if c.exact == "-" && body != "" || c.exact != "" && c.exact != "-" && body != c.exact {
				t.Errorf("body = %q, want %q", body, c.exact)
			}
			contains(t, "the client got", got, c.got)
			waitUntil(t, "the node closes what it was to close", w.ended)
			seen := w.text()
			if len(c.seen) == 0 && seen != "" {
				t.Errorf("this reached the node:\n%q", seen)
			}
			contains(t, "the node saw", seen, c.seen)
			if strings.Contains(got, testKey) {
				t.Errorf("the key reached the client:\n%q", got)
			}
		})
	}
}

func contains(t *testing.T, who, text string, want []string) {
	t.Helper()
	for _, s := range want {
		if no, ok := strings.CutPrefix(s, "!"); ok {
			if strings.Contains(text, no) {
				t.Errorf("%s %q, but should not, in\n%q", who, no, text)
			}
		} else if !strings.Contains(text, s) {
			t.Errorf("%s no %q, in\n%q", who, s, text)
		}
	}
}

// converse sends text and returns all that comes back, until the gateway ends the connection.
func converse(t *testing.T, b *bench, text string) string {
	t.Helper()
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	go io.WriteString(c, text)
	all, err := io.ReadAll(c)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection does not end: %v, after %q", err, all)
	}
	return string(all)
}

func method(text string) string {
	m, _, _ := strings.Cut(strings.TrimLeft(text, "\r\n"), " ")
	return m
}

// statuses reads the answers. The first final one is to a request with the given method.
func statuses(text, method string) (codes, body string, err error) {
	var list []string
	br := bufio.NewReader(strings.NewReader(text))
	for final := 0; ; {
		if _, err := br.Peek(1); err != nil {
			return strings.Join(list, " "), body, nil
		}
		req := &http.Request{Method: "GET"}
		if final == 0 {
			req.Method = method
		}
		res, err := http.ReadResponse(br, req)
		if err != nil {
			return strings.Join(append(list, "?"), " "), body, err
		}
		list = append(list, fmt.Sprint(res.StatusCode))
		if res.StatusCode < 200 {
			continue
		}
		all, err := io.ReadAll(res.Body)
		if final == 0 {
			body = string(all)
		}
		if err != nil {
			return strings.Join(list, " "), body, err
		}
		final++
		if !slices.Contains(list, "101") && res.Close {
			rest, _ := io.ReadAll(br)
			if len(rest) > 0 {
				list = append(list, fmt.Sprintf("and %q", rest))
			}
			return strings.Join(list, " "), body, nil
		}
	}
}
