//go:build linux

package conformance_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/http1"
)

// TestChunksInPieces cuts a chunked body at every byte, and sends the second part when the first has reached the node:
// framing that lies on both sides of the cut must be read as the one thing it is. What is well formed arrives as it was
// sent, and what is not is refused, wherever the cut is.
func TestChunksInPieces(t *testing.T) {
	type arrival struct {
		body []byte
		err  error
	}
	arrived, done := make(chan struct{}, 1), make(chan arrival, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "hidden" {
			t.Errorf("data of a chunk was taken for a request: %s %s", r.Method, r.RequestURI)
			return
		}
		arrived <- struct{}{}
		body, err := io.ReadAll(r.Body)
		done <- arrival{body, err}
	})}
	go s.Serve(ln)
	defer s.Close()
	g := startGateway(t, "services:\n  go:\n    any: \"/any\"\n", "bodyTimeout: 2s")
	g.join("go", ln.Addr().String())
	failures := 0
	f := func(body string, cut int) {
		want, whole := reference(body)
		c, err := net.Dial("tcp", g.plain)
		if err != nil {
			alive(t, g.Process)
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "POST /api/go/any HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+body[:cut])
		var got arrival
		answered := make(chan error, 1)
		go func() {
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			switch {
			case err != nil:
			case whole && res.StatusCode != 200:
				text, _ := io.ReadAll(res.Body)
				err = fmt.Errorf("it is answered %d %s", res.StatusCode, text)
			case !whole && res.StatusCode != 400:
				err = fmt.Errorf("it is answered %d, want 400", res.StatusCode)
			}
			answered <- err
		}()
		reached := true
		select {
		case <-arrived:
		case err = <-answered: // refused at sight
			reached = false
		case <-time.After(patience):
			t.Fatalf("%q: the head does not reach the node", body[:cut])
		}
		if reached {
			io.WriteString(c, body[cut:])
			err = <-answered
			got = <-done
			if err == nil && whole && (got.err != nil || string(got.body) != want) {
				err = fmt.Errorf("the node got %q, error %v", got.body, got.err)
			}
			if err == nil && !whole && got.err == nil {
				err = fmt.Errorf("the node got it whole: %q", got.body)
			}
		}
		if err != nil {
			failures++
			t.Errorf("body %q, then %q: %v", body[:cut], body[cut:], err)
			alive(t, g.Process)
		}
	}
	// With its first digit lost, the size of this chunk is 0 and its data the next request.
	request := fmt.Sprintf("\r\n%-74s\r\n\r\n", "GET /api/go/any?hidden HTTP/1.1\r\nHost: x\r\nX-Marker: ")
	f(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(request), request), 1)
	for _, body := range []string{
		"10\r\n0123456789abcdef\r\n0\r\n\r\n", "5;name=value\r\nhello\r\n00a\r\n\r\n01234567\r\n0\r\n\r\n", "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
		"10\r\n\r\n01234567890123\r\n0\r\n\r\n", "0\r\nX-Long-Name: with a value\r\n\r\n",
		"0\r\n\r\r\n\r\n", "0\r\nX-A : b\r\n\r\n", "1\r\nab\r\n0\r\n\r\n", "5\rX\nhello\r\n0\r\n\r\n", "0\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		for cut := range len(body) {
			f(body, cut)
		}
		if failures > 20 {
			t.Fatal("and more")
		}
	}
	if n := strings.Count(g.Output(), "panic"); n > 0 {
		t.Errorf("%d panics", n)
	}
}

// reference reads a body that came in one piece.
func reference(text string) (data string, whole bool) {
	var c http1.Chunks
	c.Reset()
	for !c.Done() {
		n, part, err := c.Next([]byte(text))
		if err != nil || n == 0 {
			return data, false
		}
		data, text = data+string(part), text[n:]
	}
	return data, true
}
