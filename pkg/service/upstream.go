package service

import (
	"bytes"
	"context"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	dialTimeout = time.Second
	idlePerNode = 64
)

// newUpstream returns the Transport of Call. It uses no proxy, asks for no
// compression, and drops an idle connection well before a node (whose limit is
// nodeIdle) does.
func newUpstream(nodeIdle time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, &dialError{err}
			}
			return conn, nil
		},
		DisableCompression:     true,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    idlePerNode,
		IdleConnTimeout:        nodeIdle / 2,
		MaxResponseHeaderBytes: maxHeaderBytes,
		ExpectContinueTimeout:  time.Second,
	}
}

// dialError is a connection that was not made: nothing reached the node.
type dialError struct{ err error }

// Error returns the cause.
func (e *dialError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *dialError) Unwrap() error { return e.err }

// replay is a request's body that can be sent again: always when it is in memory, and
// as long as nothing was read of it when it is not.
type replay struct {
	reader io.Reader
	data   []byte // when inMemory
	inMem  bool
	read   atomic.Bool
}

func newReplay(r io.Reader) *replay {
	switch v := r.(type) {
	case nil:
		return &replay{inMem: true}
	case *bytes.Buffer:
		return &replay{inMem: true, data: v.Bytes()}
	case *bytes.Reader, *strings.Reader:
		// Reading from memory does not fail.
		data, _ := io.ReadAll(v)
		return &replay{inMem: true, data: data}
	}
	return &replay{reader: r}
}

// again reports whether the body can be sent once more.
func (b *replay) again() bool { return b.inMem || !b.read.Load() }

// attach makes b the body of r.
func (b *replay) attach(r *http.Request) {
	switch {
	case b.inMem && len(b.data) == 0 && idempotent(r.Method):
		r.Body = http.NoBody
	case b.inMem:
		r.ContentLength = int64(len(b.data))
		if idempotent(r.Method) { // net/http would repeat others too, when they have an Idempotency-Key
			r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.data)), nil }
		}
		r.Body = io.NopCloser(bytes.NewReader(b.data))
	default:
		r.ContentLength = -1
		r.Body = io.NopCloser(b)
	}
}

// Read notes that the body has begun to leave.
func (b *replay) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.reader.Read(p)
}

// splitTokens splits a comma-separated header.
func splitTokens(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for token := range strings.SplitSeq(s, ",") {
			if token = strings.TrimSpace(token); token != "" && !yield(token) {
				return
			}
		}
	}
}
