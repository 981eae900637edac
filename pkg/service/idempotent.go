package service

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
)

// IdempotencyKeyHeader is the header in which a client names a request of its own, so
// that it can send it again without fear.
const IdempotencyKeyHeader = "Idempotency-Key"

// ReplayedHeader is "true" in an answer that was remembered.
const ReplayedHeader = "Idempotency-Replayed"

// The defaults of IdempotencyOptions.
const (
	DefaultIdempotencyTTL  = time.Hour
	DefaultIdempotencyWait = 10 * time.Second
	defaultRememberedBytes = 32 << 20
	defaultAnswerBytes     = 64 << 10
	defaultKeyedBody       = 1 << 20
	maxIdempotencyKey      = 255
)

// IdempotencyOptions change what Idempotent does; the zero value is usable.
type IdempotencyOptions struct {
	// Caller names whoever sends a request: keys of different callers have nothing to do
	// with one another. nil means the Authorization header, so that callers without one
	// share their keys.
	Caller func(*gin.Context) string
	// TTL is how long an answer is remembered; 0 = 1 h.
	TTL time.Duration
	// Wait is how long a request waits for the first one of its key to be answered; then,
	// or when its context ends, it is 409. 0 = 10 s.
	Wait time.Duration
	// MaxBytes bounds what is remembered in all: the answers least recently asked for
	// are forgotten first. 0 = 32 MiB.
	MaxBytes int
	// MaxAnswer bounds the body of an answer that is remembered. Of a larger one only
	// that it was given: the next request of its key is 409. 0 = 64 KiB.
	MaxAnswer int
	// MaxBody bounds the body of a request with a key; a larger one is 413. 0 = 1 MiB.
	MaxBody int
	// Required answers POST and PATCH without a key 400.
	Required bool
}

// Idempotent returns a middleware that runs the handlers behind it once for each
// Idempotency-Key that a caller sends with POST or PATCH to a path, and gives whoever
// sends it again the same answer, with the header Idempotency-Replayed. Other methods,
// and requests without a key, pass by.
//
//	s.POST("/submit", service.Idempotent(service.IdempotencyOptions{}), submit)
//
// The same key with another query or body is 422, one that is no key 400. Requests that
// come while the first one runs wait for its answer. Every answer is remembered but 429
// and 503, which say that nothing was done; a panic is remembered as the 500 that it
// becomes. When a handler said nothing because its context had ended, or the client did
// not take all of the answer, the next request of the key is 409: what was done is not
// known.
//
// The memory is this process's: another node of the service, or this one after a
// restart, does not know the key. A route may only say idempotencyKey: true, which lets
// gateways repeat such requests on other nodes, when all nodes know what one has done: by
// their database, say. Each middleware that is made has a memory of its own.
func Idempotent(o IdempotencyOptions) gin.HandlerFunc {
	return newKeyed(o).handle
}

var (
	errKeyBusy  = errors.New("a request with this Idempotency-Key is being processed")
	errKeyOther = errors.New("this Idempotency-Key was used for another request")
)

// What is said in place of an answer that is not there.
const (
	answerTooLarge = "the request with this Idempotency-Key was processed; its answer was too large to keep"
	answerUnknown  = "the request with this Idempotency-Key was begun and given up before all of its answer had left"
)

// handle is the middleware.
func (k *keyed) handle(c *gin.Context) {
	keys := c.Request.Header.Values(IdempotencyKeyHeader)
	switch {
	case c.Request.Method != http.MethodPost && c.Request.Method != http.MethodPatch:
		return
	case len(keys) == 0 && k.o.Required:
		Failure(c, http.StatusBadRequest, http.StatusBadRequest, "this request needs an Idempotency-Key")
		return
	case len(keys) == 0:
		return
	case len(keys) > 1 || !isIdempotencyKey(keys[0]):
		Failure(c, http.StatusBadRequest, http.StatusBadRequest, "the Idempotency-Key must be one of 1 to 255 printable characters")
		return
	}
	body, err := io.ReadAll(io.LimitReader(c.Request.Body, int64(k.o.MaxBody)+1))
	if err != nil {
		Failure(c, http.StatusBadRequest, http.StatusBadRequest, "the body did not arrive")
		return
	}
	if len(body) > k.o.MaxBody {
		Failure(c, http.StatusRequestEntityTooLarge, http.StatusRequestEntityTooLarge, "the body is too large for a request with an Idempotency-Key")
		return
	}
	id := digest(k.o.Caller(c), c.Request.Method, c.Request.URL.Path, keys[0])
	e, first, err := k.claim(c.Request.Context(), id, digest(c.Request.URL.RawQuery, string(body)))
	switch {
	case errors.Is(err, errKeyOther):
		Failure(c, http.StatusUnprocessableEntity, http.StatusUnprocessableEntity, err.Error())
	case err != nil:
		c.Header("Retry-After", "1")
		Failure(c, http.StatusConflict, http.StatusConflict, err.Error())
	case first:
		c.Request.Body = io.NopCloser(bytes.NewReader(body))
		k.run(c, e)
	default:
		replayAnswer(c, e)
	}
}

// run lets the handlers answer and remembers what they say.
func (k *keyed) run(c *gin.Context, e *keyedEntry) {
	w := &recorder{ResponseWriter: c.Writer, room: k.o.MaxAnswer}
	c.Writer = w
	defer func() {
		if p := recover(); p != nil {
			k.finish(e, http.StatusInternalServerError, nil, encoded(Envelope{Code: http.StatusInternalServerError, Msg: "internal error"}))
			panic(p)
		}
		if c.Writer == w {
			c.Writer = w.ResponseWriter
		}
		gaveUp := !w.Written() && w.Status() == http.StatusOK && c.Request.Context().Err() != nil
		w.snapshot()
		switch {
		case w.over:
			k.finish(e, 0, nil, []byte(answerTooLarge))
		case w.cut || gaveUp: // which would be an empty success, or half an answer
			k.finish(e, 0, nil, []byte(answerUnknown))
		default:
			k.finish(e, w.Status(), w.header, w.body)
		}
	}()
	c.Next()
}

// replayAnswer answers as the first request was answered.
func replayAnswer(c *gin.Context, e *keyedEntry) {
	c.Abort()
	if e.status == 0 {
		Failure(c, http.StatusConflict, http.StatusConflict, string(e.body))
		return
	}
	h := c.Writer.Header()
	for name, values := range e.header {
		h[name] = slices.Clone(values)
	}
	h.Set(ReplayedHeader, "true")
	if e.header == nil {
		h.Set("Content-Type", jsonType)
	}
	c.Status(e.status)
	if len(e.body) == 0 {
		c.Writer.WriteHeaderNow()
		return
	}
	// A client that is gone need not be told.
	_, _ = c.Writer.Write(e.body)
}

// recorder keeps what is written.
type recorder struct {
	gin.ResponseWriter
	room   int // for the body
	header http.Header
	body   []byte
	over   bool // it is not all here
	cut    bool // the client did not take it: the handler may have stopped
}

// snapshot keeps the head as it is when it leaves.
func (w *recorder) snapshot() {
	if w.header != nil {
		return
	}
	w.header = w.Header().Clone()
	if w.header == nil {
		w.header = http.Header{}
	}
	for _, name := range [...]string{"Connection", "Date", "Transfer-Encoding", "Trailer", requestIDHeader} {
		w.header.Del(name)
	}
}

func (w *recorder) keep(n int) bool {
	w.snapshot()
	if w.over = w.over || len(w.body)+n > w.room; w.over {
		w.body = nil
	}
	return !w.over
}

// Write implements io.Writer.
func (w *recorder) Write(p []byte) (int, error) {
	if w.keep(len(p)) {
		w.body = append(w.body, p...)
	}
	n, err := w.ResponseWriter.Write(p)
	w.note(err)
	return n, err
}

// WriteString implements io.StringWriter.
func (w *recorder) WriteString(s string) (int, error) {
	if w.keep(len(s)) {
		w.body = append(w.body, s...)
	}
	n, err := w.ResponseWriter.WriteString(s)
	w.note(err)
	return n, err
}

func (w *recorder) note(err error) {
	w.cut = w.cut || err != nil && !errors.Is(err, http.ErrBodyNotAllowed)
}

// WriteHeaderNow sends the head.
func (w *recorder) WriteHeaderNow() {
	w.snapshot()
	w.ResponseWriter.WriteHeaderNow()
}

// Flush sends what is buffered.
func (w *recorder) Flush() {
	w.snapshot()
	w.ResponseWriter.Flush()
}

// Unwrap gives http.ResponseController the rest of the writer.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func isIdempotencyKey(key string) bool {
	if key == "" || len(key) > maxIdempotencyKey {
		return false
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return false
		}
	}
	return true
}

// digest is one of several texts, none of which can pass for two.
func digest(texts ...string) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, text := range texts {
		part := sha256.Sum256([]byte(text))
		h.Write(part[:])
	}
	h.Sum(sum[:0])
	return sum
}
