package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goms-io/goms/pkg/http1"
)

// HTTP/2 connections are kept by net/http's server. Each request of theirs is written as HTTP/1.1 into a
// connection in memory, whose other end a conn serves like any other: the same parser, routes, limits,
// attempts and records hold for it.

// Bounds of one HTTP/2 connection.
const (
	maxStreams     = 100
	maxStreamHead  = 64 << 10 // header list
	maxFrame       = 16 << 10
	streamWindow   = 64 << 10
	connWindow     = 1 << 20
	streamPingWait = 15 * time.Second
	streamTime     = 10 * 365 * 24 * time.Hour // without it, a deadline set as the stream ends would outlive it
)

// http2Server serves the HTTP/2 connections that are handed to it.
type http2Server struct {
	server  *http.Server
	conns   chan net.Conn
	closed  chan struct{} // the server accepts no more
	ended   sync.Map      // net.Conn → chan struct{}, closed when the connection ends
	once    sync.Once
	begin   sync.Once
	serving sync.WaitGroup
}

func newHTTP2Server(g *Gateway) *http2Server {
	s := &http2Server{conns: make(chan net.Conn), closed: make(chan struct{})}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // of connections whose preface has been seen (h2c.go)
	s.server = &http.Server{
		Handler: http.HandlerFunc(g.serveStream), Protocols: protocols, MaxHeaderBytes: maxStreamHead,
		ReadHeaderTimeout: g.set().HeadTimeout, IdleTimeout: g.set().IdleTimeout, ConnState: s.state,
		WriteTimeout: streamTime,
		ConnContext:  connContext,
		ErrorLog:     slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // clients decide how many of these there are
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxFrame, MaxReceiveBufferPerConnection: connWindow, MaxReceiveBufferPerStream: streamWindow,
			SendPingTimeout: g.set().IdleTimeout, PingTimeout: streamPingWait, WriteByteTimeout: g.set().BodyTimeout,
			CountError: func(string) { g.metrics.streamErrors.Add(1) },
		},
	}
	return s
}

// start serves what is handed over, once, in a goroutine that ends with goAway.
func (s *http2Server) start() {
	s.begin.Do(func() {
		s.serving.Go(func() {
			s.server.Serve(s) //nolint:errcheck // it ends when it is told to
		})
	})
}

// goAway tells all clients to leave, and waits for them until ctx is done. The channel is closed when
// that is over.
func (s *http2Server) goAway(ctx context.Context) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.Close()              //nolint:errcheck // always nil
		s.server.Shutdown(ctx) //nolint:errcheck // what is left is cut off by Close
		s.serving.Wait()
	}()
	return over
}

// Accept, Close and Addr make s the listener of its server.
func (s *http2Server) Accept() (net.Conn, error) {
	select {
	case nc := <-s.conns:
		return nc, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *http2Server) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (s *http2Server) Addr() net.Addr { return &net.TCPAddr{} }

// serve hands a connection over and returns when it has ended.
func (s *http2Server) serve(nc net.Conn) {
	ended := make(chan struct{})
	s.ended.Store(nc, ended)
	defer s.ended.Delete(nc)
	select {
	case s.conns <- nc:
		<-ended
	case <-s.closed:
	}
}

// state is told what becomes of a connection.
func (s *http2Server) state(nc net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	if ended, ok := s.ended.LoadAndDelete(nc); ok {
		close(ended.(chan struct{})) //nolint:forcetypeassert // see serve
	}
}

// streamConn is the gateway's end of the connection in memory that carries one request.
type streamConn struct {
	net.Conn
	remote net.Addr
	client context.Context // ends when the client gives the stream up
	reset  atomic.Bool     // it has, and client may not yet say so
	rest   time.Duration   // the client's time to take what is left of the answer

	mu sync.Mutex          // guards w
	w  http.ResponseWriter // nil once that time runs
}

// Close ends the connection: the answer is written.
func (s *streamConn) Close() error {
	s.finish()
	return s.Conn.Close()
}

// finish has the stream reset unless the client takes what is left of the answer in time: without a window it
// would hold the stream for ever. It is called when either end of the connection is done.
func (s *streamConn) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w != nil {
		http.NewResponseController(s.w).SetWriteDeadline(time.Now().Add(s.rest)) //nolint:errcheck // HTTP/2 has it
		s.w = nil
	}
}

// RemoteAddr returns the address of the client.
func (s *streamConn) RemoteAddr() net.Addr { return s.remote }

// CloseWrite says that nothing more comes, where the two directions end apart.
func (s *streamConn) CloseWrite() error {
	if d, ok := s.Conn.(*duplex); ok {
		return d.CloseWrite()
	}
	return nil
}

// Gone reports whether the client has given the stream up.
func (s *streamConn) Gone() bool { return s.reset.Load() || s.client.Err() != nil }

type textAddr string

func (textAddr) Network() string  { return "tcp" }
func (a textAddr) String() string { return string(a) }

func remoteOf(r *http.Request) net.Addr {
	if a, err := net.ResolveTCPAddr("tcp", r.RemoteAddr); err == nil {
		return a
	}
	return textAddr(r.RemoteAddr)
}

// serveStream is the life of one HTTP/2 request: written into memory, served, and its answer read back.
func (g *Gateway) serveStream(w http.ResponseWriter, r *http.Request) {
	if strings.ContainsAny(r.Method+r.RequestURI+r.Host, "\r\n\x00") {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	if _, ok := r.Header[protocolField]; ok {
		g.serveExtended(w, r)
		return
	}
	ours, theirs := net.Pipe()
	defer g.startStream(w, r, theirs, nil).finish()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer g.caught(func(error) { ours.Close() })
		writeStream(ours, r)
	})
	err := readStream(w, r, bufio.NewReaderSize(ours, 4<<10), nil)
	ours.Close()
	r.Body.Close()
	wg.Wait()
	if err != nil {
		panic(http.ErrAbortHandler) // the stream is reset: what was sent of the answer is not the whole
	}
}

// startStream serves the request that is written into nc's other end. The caller finishes what it returns.
func (g *Gateway) startStream(w http.ResponseWriter, r *http.Request, nc net.Conn, e *extended) *streamConn {
	s := &streamConn{Conn: nc, remote: remoteOf(r), client: r.Context(), w: w, rest: g.set().BodyTimeout}
	c := newConn(g, s)
	c.tls, c.stream, c.extended = r.Context().Value(plainKey{}) == nil, true, e
	g.start(c)
	return s
}

// plainKey is there in the context of requests that came without TLS, whatever their :scheme says.
type plainKey struct{}

func connContext(ctx context.Context, nc net.Conn) context.Context {
	if _, ok := nc.(*tls.Conn); !ok {
		return context.WithValue(ctx, plainKey{}, true)
	}
	return ctx
}

// writeStream writes the request as HTTP/1.1.
func writeStream(dst io.WriteCloser, r *http.Request) {
	if _, err := dst.Write(appendStreamHead(nil, r)); err != nil {
		return // the gateway has its answer already
	}
	if copyStreamBody(dst, r) != nil {
		// The client gave up inside its body. Ending the connection here says so; the answer, if there
		// is to be one, is for nobody.
		dst.Close()
	}
}

// appendStreamHead appends the request's head. What frames an HTTP/1.1 message is not taken over.
func appendStreamHead(dst []byte, r *http.Request) []byte {
	line := func(parts ...string) {
		for _, p := range parts {
			dst = append(dst, p...)
		}
		dst = append(dst, "\r\n"...)
	}
	line(r.Method, " ", r.RequestURI, " HTTP/1.1")
	dst = appendStreamFields(dst, r)
	if r.Header.Get("Te") == "trailers" {
		line("TE: trailers")
		line("Connection: close, TE")
	} else {
		line("Connection: close")
	}
	switch {
	case r.ContentLength < 0:
		line("Transfer-Encoding: chunked")
	case r.ContentLength > 0:
		line("Content-Length: ", strconv.FormatInt(r.ContentLength, 10))
	}
	line()
	return dst
}

// appendStreamFields appends the lines that are the same in either protocol, and Host.
func appendStreamFields(dst []byte, r *http.Request) []byte {
	dst = append(append(append(dst, "Host: "...), r.Host...), "\r\n"...)
	for name, values := range r.Header {
		switch name {
		case "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Expect", "Trailer", "Te", protocolField:
			continue
		}
		for _, v := range values {
			dst = append(append(append(append(dst, name...), ": "...), v...), "\r\n"...)
		}
	}
	return dst
}

// copyStreamBody writes the request's body, in chunks when its length is not known.
func copyStreamBody(dst io.Writer, r *http.Request) error {
	chunked := r.ContentLength < 0
	bp := relayBuffers.Get().(*[]byte) //nolint:forcetypeassert // see New
	defer relayBuffers.Put(bp)
	var out []byte
	for {
		n, err := r.Body.Read(*bp)
		out = (*bp)[:n]
		if chunked && n > 0 {
			out = http1.AppendChunk(nil, out)
		}
		if n > 0 {
			if _, werr := dst.Write(out); werr != nil {
				return nil // the gateway has its answer already
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if !chunked {
		return nil
	}
	out = append(out[:0], "0\r\n"...)
	for name, values := range r.Trailer {
		for _, v := range values {
			out = append(out, name+": "+v+"\r\n"...)
		}
	}
	_, err := dst.Write(append(out, "\r\n"...))
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	return nil
}

// readStream reads the answer and passes it on. An error means that it is not whole. An answer of 101, which
// only an extended CONNECT may get, is switched's, with its fields in w's header.
func readStream(w http.ResponseWriter, r *http.Request, br *bufio.Reader, switched func() error) error {
	for {
		res, err := http.ReadResponse(br, r)
		if err != nil {
			return err
		}
		header := w.Header()
		for name, values := range res.Header {
			if name != "Connection" {
				header[name] = values
			}
		}
		if res.StatusCode == http.StatusSwitchingProtocols && switched != nil {
			return switched()
		}
		if res.StatusCode < 200 {
			if res.StatusCode != http.StatusContinue {
				w.WriteHeader(res.StatusCode)
			}
			clear(header)
			continue
		}
		w.WriteHeader(res.StatusCode)
		if res.ContentLength != 0 && r.Method != http.MethodHead {
			if err := http.NewResponseController(w).Flush(); err != nil { // the body may be long in coming
				return err
			}
		}
		err = copyAnswer(w, res)
		for name, values := range res.Trailer {
			header[http.TrailerPrefix+name] = values
		}
		return err
	}
}

// copyAnswer passes the body on as it comes.
func copyAnswer(w http.ResponseWriter, res *http.Response) error {
	defer res.Body.Close()
	bp := relayBuffers.Get().(*[]byte) //nolint:forcetypeassert // see New
	defer relayBuffers.Put(bp)
	flusher := http.NewResponseController(w)
	for {
		n, err := res.Body.Read(*bp)
		if n > 0 {
			if _, werr := w.Write((*bp)[:n]); werr != nil {
				return werr
			}
			if err == nil {
				if ferr := flusher.Flush(); ferr != nil {
					return ferr
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
