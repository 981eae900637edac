package service

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// answer watches an answer on its way out: it notes the status, says Connection:
// close when the node is leaving, and moves the connection's deadlines along, so that
// a stuck peer is noticed while a long stream is not cut.
type answer struct {
	http.ResponseWriter
	leaving  func() bool
	timeout  time.Duration // for one pause of the peer
	status   int           // 0 until the head is written
	hijacked bool

	known bool          // the caller holds the call-service key, so it is told how the node is
	busy  *atomic.Int64 // requests and calls in handlers, this one included; nil when it is not counted
	proof string        // that the request was refused before its handler; "" when it was not
	left  func()        // is called when the head leaves; nil when nobody wants to know
}

// deadliner is the part of net/http's connections that sets deadlines. Other
// ResponseWriters (tests) do without.
type deadliner interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

func (a *answer) started() bool { return a.status != 0 || a.hijacked }

// code is the status for the records.
func (a *answer) code() int {
	switch {
	case a.status != 0:
		return a.status
	case a.hijacked:
		return http.StatusSwitchingProtocols
	}
	return http.StatusOK // net/http writes it when the handler has written nothing
}

// rollWrite gives the peer the full time again. Errors mean a connection that is gone,
// which the next write reports.
func (a *answer) rollWrite() {
	if d, ok := a.ResponseWriter.(deadliner); ok {
		_ = d.SetWriteDeadline(time.Now().Add(a.timeout))
	}
}

// rollEnd is called when the handler is done: what it left in buffers has the full
// time to go out, and what it left unread of the body must be thrown away soon.
func (a *answer) rollEnd(discard time.Duration) {
	if a.hijacked {
		return
	}
	a.rollWrite()
	if d, ok := a.ResponseWriter.(deadliner); ok {
		_ = d.SetReadDeadline(time.Now().Add(discard))
	}
}

// WriteHeader sends the head.
func (a *answer) WriteHeader(status int) {
	a.speak()
	if a.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.status = status
		a.begun()
		if a.leaving() && status != http.StatusSwitchingProtocols {
			a.Header().Set("Connection", "close")
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) begun() {
	if a.left != nil {
		a.left()
	}
}

// Write sends a part of the body.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	a.rollWrite()
	return a.ResponseWriter.Write(p)
}

// Flush sends what is buffered.
func (a *answer) Flush() {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if f, ok := a.ResponseWriter.(http.Flusher); ok {
		a.rollWrite()
		f.Flush()
	}
}

// Hijack hands over the connection, for WebSockets.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := a.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, http.ErrNotSupported
	}
	conn, rw, err := h.Hijack()
	if err == nil {
		a.hijacked = true
		a.begun()
	}
	return conn, rw, err
}

// CloseNotify is what Gin's Stream asks for; it never tells on writers that do not
// have it.
func (a *answer) CloseNotify() <-chan bool {
	//nolint:staticcheck // deprecated, but gin.Context.Stream needs it
	if n, ok := a.ResponseWriter.(http.CloseNotifier); ok {
		return n.CloseNotify()
	}
	return make(chan bool)
}

// Unwrap gives http.ResponseController the rest of the writer.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// body is a request's body of which each read has a time limit of its own.
type body struct {
	io.ReadCloser
	answer  *answer
	timeout time.Duration
}

// Read reads a part of the body.
func (b *body) Read(p []byte) (int, error) {
	d, ok := b.answer.ResponseWriter.(deadliner)
	if !ok || b.answer.hijacked {
		return b.ReadCloser.Read(p)
	}
	_ = d.SetReadDeadline(time.Now().Add(b.timeout))
	n, err := b.ReadCloser.Read(p)
	// While the handler works the connection may be silent for as long as it likes.
	_ = d.SetReadDeadline(time.Time{})
	return n, err
}
