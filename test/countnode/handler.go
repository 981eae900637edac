package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// counter is the node's HTTP side. Every request it accepts is one line in the file of counts, written before the request is
// answered and there for good, so that a test can count requests even of a node that was killed.
type counter struct {
	counts *os.File
	events chan struct{} // one token lets each open event stream send one more event
	hold   chan struct{} // closed when held requests may end

	once sync.Once

	open   atomic.Int64 // requests that are being served
	delay  atomic.Int64 // nanoseconds that a hit takes
	status atomic.Int64 // of the answer to a hit; 0 is 200
	alone  atomic.Bool  // hits are served one at a time, the others wait
	turn   sync.Mutex   // of the hit that is served alone
}

func newCounter(counts *os.File) *counter {
	return &counter{counts: counts, events: make(chan struct{}), hold: make(chan struct{})}
}

// routes returns what the node serves.
func (c *counter) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/hit": c.hit, "/one": c.hit, "/two": c.hit, "/head": head, "/down": down, "/up": up, "/sse": c.sse, "/next": c.next, "/ws": ws, "/hold": c.held,
		"/release": c.release, "/early": early, "/trailers": trailers, "/status": status,
		"/behave": c.behave, "/panic": broken, "/sip": sip, "/chat": chat, "/open": c.others,
	}
}

// hit answers with the request's id. A body that begins with "id=" must go on with the same id: a request must not get the body of another.
func (c *counter) hit(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := r.URL.Query().Get("id")
	if rest, ok := strings.CutPrefix(string(body), "id="); ok && !strings.HasPrefix(rest, id) {
		http.Error(w, "the body is of another request", http.StatusConflict)
		return
	}
	if c.alone.Load() {
		c.turn.Lock()
		defer c.turn.Unlock()
	}
	if d := time.Duration(c.delay.Load()); d > 0 {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "text/plain")
	if status := int(c.status.Load()); status != 0 {
		w.WriteHeader(status)
	}
	fmt.Fprint(w, id)
}

// behave has hits take a time (delay), answer a status and be served one at a time (alone=1) from now on.
func (c *counter) behave(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if text := q.Get("alone"); text != "" {
		c.alone.Store(text == "1")
	}
	if text := q.Get("delay"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.delay.Store(int64(d))
	}
	if text := q.Get("status"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.status.Store(int64(n))
	}
}

// others answers how many other requests are being served.
func (c *counter) others(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, c.open.Load()-1) }

// broken is a handler with a bug.
func broken(_ http.ResponseWriter, r *http.Request) {
	panic("a bug in the handler of " + r.URL.Path)
}

// sip reads a body at 16 KiB a second, until the client has gone.
func sip(w http.ResponseWriter, r *http.Request) {
	b := make([]byte, 1<<10)
	for {
		if _, err := r.Body.Read(b); err != nil {
			return
		}
		select {
		case <-time.After(time.Second / 16):
		case <-r.Context().Done():
			return
		}
	}
}

// head answers with what of the request's head arrived.
func head(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	answer, _ := json.Marshal(map[string]any{
		"method": r.Method, "uri": r.RequestURI, "host": r.Host, "header": r.Header, "length": r.ContentLength,
		"transferEncoding": r.TransferEncoding, "body": string(body),
	})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.Write(answer)
}

var block = func() []byte {
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}()

// down sends n bytes; with chunked=1 without saying how many.
func down(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.URL.Query().Get("chunked") == "" {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	for n > 0 {
		b := block[:min(n, int64(len(block)))]
		if _, err := w.Write(b); err != nil {
			return
		}
		n -= int64(len(b))
	}
}

// up answers with the size and the checksum of the body.
func up(w http.ResponseWriter, r *http.Request) {
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"bytes":%d,"crc32":%d}`, n, sum.Sum32())
}

// sse sends one event at once and one more at each call of next, until the client has gone.
func (c *counter) sse(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	flush := http.NewResponseController(w)
	for n := 1; ; n++ {
		fmt.Fprintf(w, "data: event %d\n\n", n)
		if err := flush.Flush(); err != nil {
			return
		}
		select {
		case <-c.events:
		case <-r.Context().Done():
			return
		}
	}
}

// next lets an event stream go on; it answers when the stream has taken notice.
func (c *counter) next(w http.ResponseWriter, r *http.Request) {
	select {
	case c.events <- struct{}{}:
		fmt.Fprint(w, "sent")
	case <-r.Context().Done():
	}
}

// ws sends back what it is sent.
func ws(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}, InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 22)
	for {
		kind, data, err := conn.Read(r.Context())
		if err != nil {
			if code := websocket.CloseStatus(err); code != -1 && !errors.Is(err, io.EOF) {
				conn.Close(code, "as you say")
			}
			return
		}
		if err := conn.Write(r.Context(), kind, data); err != nil {
			return
		}
	}
}

// held answers when release is called.
func (c *counter) held(w http.ResponseWriter, r *http.Request) {
	select {
	case <-c.hold:
		fmt.Fprint(w, "held to the end")
	case <-r.Context().Done():
	}
}

func (c *counter) release(w http.ResponseWriter, _ *http.Request) {
	c.once.Do(func() { close(c.hold) })
	fmt.Fprint(w, "released")
}

// early refuses without reading the body.
func early(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "no such body", http.StatusUnprocessableEntity)
}

// trailers answers the request's trailers as trailers of its own.
func trailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum, X-Got")
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprint(w, "body")
	w.Header().Set("X-Sum", strconv.FormatInt(n, 10))
	w.Header().Set("X-Got", strings.Join(r.Trailer.Values("X-Sent"), ","))
}

// chat is a call of gRPC, as far as HTTP/1.1 can carry one: it sends back each message as it comes, and its status in the trailers.
func chat(w http.ResponseWriter, r *http.Request) {
	flush := http.NewResponseController(w)
	if err := flush.EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	for flush.Flush() == nil {
		var head [5]byte // compressed or not, and the length
		if _, err := io.ReadFull(r.Body, head[:]); err != nil {
			if errors.Is(err, io.EOF) { // the client has said all
				w.Header().Set("Grpc-Status", "0")
			}
			return
		}
		message := make([]byte, min(binary.BigEndian.Uint32(head[1:]), 1<<20))
		if _, err := io.ReadFull(r.Body, message); err != nil {
			return
		}
		w.Write(append(head[:], message...))
	}
}

// status answers the status asked for.
func status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.URL.Query().Get("code"))
	if err != nil {
		code = http.StatusBadRequest
	}
	if code >= 300 && code < 400 {
		w.Header().Set("Location", "http://elsewhere.test/")
	}
	w.Header().Add("Set-Cookie", "a=1")
	w.Header().Add("Set-Cookie", "b=2")
	w.WriteHeader(code)
}
