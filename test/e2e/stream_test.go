package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestShapes sends every shape of request and answer through one gateway to one node.
func TestShapes(t *testing.T) {
	s := newSystem(t, setup{})
	gw := s.gateway()
	n := s.countNode("count")
	s.countNode("big")
	gw.sees("count", 1)
	gw.sees("big", 1)
	t.Run("websocket", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		echo(ctx, t, "ws://"+gw.addr()+"/api/count/ws")
	})
	t.Run("websocket refused by the node", func(t *testing.T) { checkNoUpgrade(t, gw) })
	t.Run("events as they come", func(t *testing.T) { checkEvents(t, gw) })
	t.Run("trailers", func(t *testing.T) { checkTrailers(t, gw) })
	t.Run("HEAD", func(t *testing.T) { checkHead(t, gw) })
	t.Run("100-continue", func(t *testing.T) { checkContinue(t, gw) })
	t.Run("100-continue refused", func(t *testing.T) { checkContinueRefused(t, gw) })
	t.Run("chunks both ways", func(t *testing.T) { checkChunks(t, gw) })
	t.Run("pipelining", func(t *testing.T) { checkPipelining(t, gw) })
	t.Run("HTTP/1.0", func(t *testing.T) { checkOldHTTP(t, gw) })
	t.Run("methods and statuses", func(t *testing.T) { checkMethods(t, gw) })
	t.Run("query and path bytes", func(t *testing.T) { checkQuery(t, gw) })
	t.Run("client goes away", func(t *testing.T) { checkGone(t, gw, n) })
	t.Run("1 GiB up", func(t *testing.T) { checkUpload(t, gw) })
	t.Run("1 GiB down", func(t *testing.T) { checkDownload(t, gw) })
}

// checkNoUpgrade wants a node's plain answer to an upgrade to stay an HTTP answer, on a connection that is not a tunnel.
func checkNoUpgrade(t *testing.T, gw *gateway) {
	w := dial(t, gw.addr())
	w.send("GET /api/count/status?code=426 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	if a := w.answer("GET"); a.status != 426 {
		t.Fatalf("status = %d, want 426", a.status)
	}
	if a := do(t, "GET", gw.url("/api/count/hit?id=after"), "", nil); a.body != "after" {
		t.Errorf("the next request got %d %q", a.status, a.body)
	}
}

// checkEvents reads one event at a time: the next is sent only after this one has arrived.
func checkEvents(t *testing.T, gw *gateway) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", gw.url("/api/count/sse"), nil)
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("Content-Type = %q", kind)
	}
	events := bufio.NewScanner(resp.Body)
	for n := 1; n <= 5; n++ {
		for events.Scan() && events.Text() == "" {
		}
		if want := fmt.Sprintf("data: event %d", n); events.Text() != want {
			t.Fatalf("event %d = %q (%v)", n, events.Text(), events.Err())
		}
		if a := do(t, "POST", gw.url("/api/count/next"), "", nil); a.body != "sent" {
			t.Fatalf("next event: %d %q", a.status, a.body)
		}
	}
}

func checkTrailers(t *testing.T, gw *gateway) {
	req, _ := http.NewRequest("POST", gw.url("/api/count/trailers"), io.MultiReader(strings.NewReader("12345"))) // of unknown length: chunked
	req.Trailer = http.Header{"X-Sent": {"late"}}
	req.Header.Set("Te", "trailers")
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body := readAll(t, resp.Body); body != "body" {
		t.Errorf("body = %q", body)
	}
	if got := resp.Trailer.Get("X-Sum"); got != "5" {
		t.Errorf("trailer X-Sum = %q, want 5 (all: %v)", got, resp.Trailer)
	}
	if got := resp.Trailer.Get("X-Got"); got != "late" {
		t.Errorf("the node got the trailer X-Sent = %q, want late", got)
	}
}

// checkHead wants the length of the body that is not sent, and the next answer on the same connection in its place.
func checkHead(t *testing.T, gw *gateway) {
	w := dial(t, gw.addr())
	w.send("HEAD /api/count/down?n=12345 HTTP/1.1\r\nHost: x\r\n\r\n")
	if a := w.answer("HEAD"); a.status != 200 || a.length != 12345 {
		t.Errorf("HEAD = %d with Content-Length %d, want 200 and 12345", a.status, a.length)
	}
	w.send("HEAD /api/nothing/here HTTP/1.1\r\nHost: x\r\n\r\n")
	if a := w.answer("HEAD"); a.status != 404 {
		t.Errorf("HEAD of no service = %d, want 404", a.status)
	}
	w.send("GET /api/count/hit?id=next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if a := w.answer("GET"); a.body != "next" {
		t.Errorf("after HEAD came %d %q", a.status, a.body)
	}
	w.closed()
}

// checkContinue sends a body only when told to.
func checkContinue(t *testing.T, gw *gateway) {
	w := dial(t, gw.addr())
	w.send("POST /api/count/up HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if resp := w.head("POST"); resp.StatusCode != 100 {
		t.Fatalf("before the body came %s, want 100 Continue", resp.Status)
	}
	w.send("hello")
	if a := w.answer("POST"); a.status != 200 || !strings.Contains(a.body, `"bytes":5`) {
		t.Errorf("answer = %d %s", a.status, a.body)
	}
	w.send("POST /api/count/up HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 200-ok\r\n\r\n")
	if a := w.answer("POST"); a.status != 417 {
		t.Errorf("an unknown expectation got %d, want 417", a.status)
	}
}

// checkContinueRefused has the node refuse before the body; the body is never sent and nothing of it is taken for a request.
func checkContinueRefused(t *testing.T, gw *gateway) {
	w := dial(t, gw.addr())
	w.send("POST /api/count/early HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
	resp := w.head("POST")
	if resp.StatusCode == 100 { // the gateway may ask for the body itself
		w.send(strings.Repeat("x", 100000))
		resp = w.head("POST")
	}
	if resp.StatusCode != 422 {
		t.Fatalf("answer = %s, want 422", resp.Status)
	}
	if body := readAll(t, resp.Body); !strings.Contains(body, "no such body") {
		t.Errorf("body = %q", body)
	}
	for range 5 { // no connection to the node was left in a bad state
		if a := do(t, "POST", gw.url("/api/count/hit?id=after"), "body", nil); a.status != 200 || a.body != "after" {
			t.Errorf("the next request got %d %q", a.status, a.body)
		}
	}
}

func checkChunks(t *testing.T, gw *gateway) {
	w := dial(t, gw.addr())
	w.send("POST /api/count/up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"1\r\nh\r\n04\r\nello\r\nA;name=value\r\n0123456789\r\n0\r\n\r\n")
	want := fmt.Sprintf(`{"bytes":15,"crc32":%d}`, crc32.ChecksumIEEE([]byte("hello0123456789")))
	if a := w.answer("POST"); a.body != want {
		t.Errorf("chunked upload = %d %s, want %s", a.status, a.body, want)
	}
	w.send("GET /api/count/down?n=3000000&chunked=1 HTTP/1.1\r\nHost: x\r\n\r\n")
	resp := w.head("GET")
	if len(resp.TransferEncoding) != 1 || resp.TransferEncoding[0] != "chunked" || resp.ContentLength != -1 {
		t.Errorf("framing = %v, length %d, want chunked", resp.TransferEncoding, resp.ContentLength)
	}
	if body := readAll(t, resp.Body); len(body) != 3_000_000 || body != pattern(3_000_000) {
		t.Errorf("the body of %d bytes is not what the node sent", len(body))
	}
	w.send("GET /api/count/hit?id=kept HTTP/1.1\r\nHost: x\r\n\r\n")
	if a := w.answer("GET"); a.body != "kept" {
		t.Errorf("after chunks came %d %q", a.status, a.body)
	}
}

// pattern is the body of /down.
func pattern(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % (1 << 20) * 7)
	}
	return string(b)
}

func checkPipelining(t *testing.T, gw *gateway) {
	w := dial(t, gw.addr())
	var all strings.Builder
	const n = 50
	for i := range n {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&all, "GET /api/count/hit?id=%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
		case 1:
			fmt.Fprintf(&all, "POST /api/count/hit?id=%d HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", i)
		default:
			fmt.Fprintf(&all, "POST /api/count/hit?id=%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", i)
		}
	}
	w.send(all.String())
	for i := range n {
		if a := w.answer("GET"); a.status != 200 || a.body != fmt.Sprint(i) {
			t.Fatalf("answer %d = %d %q", i, a.status, a.body)
		}
	}
}

func checkOldHTTP(t *testing.T, gw *gateway) {
	w := dial(t, gw.addr())
	w.send("GET /api/count/down?n=100&chunked=1 HTTP/1.0\r\n\r\n")
	resp := w.head("GET")
	if len(resp.TransferEncoding) > 0 {
		t.Errorf("an HTTP/1.0 client got %v", resp.TransferEncoding)
	}
	if body := readAll(t, resp.Body); body != pattern(100) {
		t.Errorf("body of %d bytes, want 100", len(body))
	}
	w.closed()
}

func checkMethods(t *testing.T, gw *gateway) {
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		a := do(t, method, gw.url("/api/count/head?x=1"), "", nil)
		if !strings.Contains(a.body, fmt.Sprintf(`"method":%q`, method)) {
			t.Errorf("%s = %d %s", method, a.status, a.body)
		}
	}
	for _, code := range []int{200, 201, 204, 301, 304, 404, 418, 500, 503} {
		a := do(t, "GET", gw.url(fmt.Sprintf("/api/count/status?code=%d", code)), "", nil)
		if a.status != code {
			t.Errorf("a node's status %d became %d", code, a.status)
		}
		if cookies := a.header.Values("Set-Cookie"); len(cookies) != 2 {
			t.Errorf("status %d: cookies = %q, want both", code, cookies)
		}
	}
}

// checkQuery wants what is forwarded to be, byte for byte, what was asked for.
func checkQuery(t *testing.T, gw *gateway) {
	for _, query := range []string{"", "?", "?a=1&b=3", "?a=%20+%2f%5C", "?;&&==", "?q=a%26b=c+d%25", "?" + strings.Repeat("x=1&", 1000)} {
		w := dial(t, gw.addr())
		w.send("GET /api/count/head" + query + " HTTP/1.1\r\nHost: shop.test:8443\r\nX-Two: a\r\nX-Two: b\r\nAccept-Encoding: gzip\r\n\r\n")
		a := w.answer("GET")
		var got struct {
			URI, Host string
			Header    http.Header
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatalf("query %q: %d %s", query, a.status, a.body)
		}
		if got.URI != "/head"+query {
			t.Errorf("the node was asked for %q, want %q", got.URI, "/head"+query)
		}
		if got.Host != "shop.test:8443" {
			t.Errorf("the node saw host %q", got.Host)
		}
		if two := got.Header["X-Two"]; len(two) != 2 || two[0] != "a" || two[1] != "b" {
			t.Errorf("repeated header = %q", two)
		}
	}
}

// checkGone has clients leave in the middle; the gateway goes on and holds nothing against the node.
func checkGone(t *testing.T, gw *gateway, n *node) {
	before := n.requests(t)
	for range 20 {
		w := dial(t, gw.addr())
		w.send("POST /api/count/hit?id=gone HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nonly a part")
		w.conn.Close()
		d := dial(t, gw.addr())
		d.send("GET /api/count/down?n=9000000 HTTP/1.1\r\nHost: x\r\n\r\n")
		d.head("GET")
		d.conn.Close()
	}
	for i := range 10 {
		if a := do(t, "POST", gw.url(fmt.Sprintf("/api/count/hit?id=%d", i)), "body", nil); a.status != 200 || a.body != fmt.Sprint(i) {
			t.Errorf("after clients that left: %d %q", a.status, a.body)
		}
	}
	if n.requests(t) < before+30 { // twenty downloads and ten more; the broken uploads may have come or not
		t.Errorf("the node has seen %d requests, want at least 30 more than %d", n.requests(t), before)
	}
}

const gib = 1 << 30

// checkUpload sends 1 GiB of chunks and 1 GiB of known length, with the gateway's memory flat.
func checkUpload(t *testing.T, gw *gateway) {
	sum := crc32.NewIEEE()
	io.CopyN(sum, &endless{}, gib/2)
	want := fmt.Sprintf(`{"bytes":%d,"crc32":%d}`, gib/2, sum.Sum32())
	flat(t, gw, func() {
		for _, length := range []int64{-1, gib / 2} {
			req, _ := http.NewRequest("POST", gw.url("/api/big/up"), io.LimitReader(&endless{}, gib/2))
			req.ContentLength = length
			resp, err := slow.Do(req)
			if err != nil {
				t.Fatalf("upload with length %d: %v", length, err)
			}
			if body := readAll(t, resp.Body); body != want {
				t.Errorf("upload with length %d = %d %s, want %s", length, resp.StatusCode, body, want)
			}
			resp.Body.Close()
		}
	})
}

// checkDownload reads 1 GiB, half of it in chunks.
func checkDownload(t *testing.T, gw *gateway) {
	want := crc32.NewIEEE()
	io.CopyN(want, &endless{}, gib/2)
	flat(t, gw, func() {
		for _, query := range []string{"", "&chunked=1"} {
			resp, err := slow.Get(gw.url(fmt.Sprintf("/api/count/down?n=%d%s", gib/2, query)))
			if err != nil {
				t.Fatal(err)
			}
			sum := crc32.NewIEEE()
			n, err := io.Copy(sum, resp.Body)
			resp.Body.Close()
			if err != nil || n != gib/2 || sum.Sum32() != want.Sum32() {
				t.Errorf("download%s = %d bytes with checksum %d (%v), want %d with %d", query, n, sum.Sum32(), err, gib/2, want.Sum32())
			}
		}
	})
}

// slow is plain with time for large bodies.
var slow = &http.Client{Timeout: 2 * time.Minute, Transport: plain.Transport}

// endless is the pattern of /down without end.
type endless struct{ at int }

// endlessBlock is the pattern from its beginning; it repeats after 256 bytes.
var endlessBlock = pattern(64 << 10)

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, endlessBlock[e.at:])
	e.at = (e.at + n) % 256
	return n, nil
}

// flat wants work to make the gateway's resident set grow by less than 64 MiB at its peak.
func flat(t *testing.T, gw *gateway, work func()) {
	t.Helper()
	measured := gw.ResetPeak()
	before, _ := gw.Memory()
	began := time.Now()
	work()
	_, peak := gw.Memory()
	t.Logf("%v; resident set %d KiB before, at most %d KiB meanwhile", time.Since(began).Round(time.Millisecond), before>>10, peak>>10)
	if measured && peak-before > 64<<20 {
		t.Errorf("the gateway's resident set grew from %d to %d MiB, want less than 64 MiB more", before>>20, peak>>20)
	}
}
