package gateway

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 has it so; nothing is kept safe by it
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	// It makes net/http's server take extended CONNECT at all.
	_ "github.com/goms-io/goms/pkg/gateway/internal/xconnect"
	"github.com/goms-io/goms/pkg/http1"
)

// A WebSocket over HTTP/2 is opened by an extended CONNECT (RFC 8441). Like any request it is written as
// HTTP/1.1 into a connection in memory: as the upgrade that a node understands. The node's 101 becomes 200,
// and the stream carries the bytes from then on.

// protocolField is under which net/http's server hands over the pseudo-header field :protocol.
const protocolField = ":protocol"

// extended is what a conn has to know of the extended CONNECT that it carries.
type extended struct {
	fault  error  // why it is refused; nil when it is not
	accept string // what Sec-WebSocket-Accept must be in the node's 101
}

// newExtended judges an extended CONNECT. The key is the gateway's own: in HTTP/2 clients send none.
func newExtended(r *http.Request) (e *extended, key string) {
	e = &extended{}
	switch {
	case r.Method != http.MethodConnect:
		e.fault = &failure{ReasonBadRequest, errors.New(":protocol in a request that is no CONNECT")}
	case !strings.EqualFold(r.Header.Get(protocolField), "websocket"):
		e.fault = &failure{reason: ReasonBadProtocol}
	}
	var nonce [16]byte
	rand.Read(nonce[:])
	key = base64.StdEncoding.EncodeToString(nonce[:])
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	e.accept = base64.StdEncoding.EncodeToString(sum[:])
	return e, key
}

// accepted reports whether a node's 101 proves that the node speaks WebSocket, where that is the gateway's to
// ask (RFC 6455 section 4.1): elsewhere the client does.
func (x *exchange) accepted() bool {
	if x.extended == nil {
		return true
	}
	n, ok := 0, false
	for i := range x.res.Fields {
		if f := &x.res.Fields[i]; http1.EqualFold(f.Name, "sec-websocket-accept") {
			n++
			ok = string(f.Value) == x.extended.accept
		}
	}
	return n == 1 && ok
}

// serveExtended is the life of one extended CONNECT.
func (g *Gateway) serveExtended(w http.ResponseWriter, r *http.Request) {
	e, key := newExtended(r)
	ours, theirs := newDuplex()
	s := g.startStream(w, r, theirs, e)
	defer s.finish()
	open := make(chan bool, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer g.caught(func(error) { ours.Close() }) //nolint:errcheck // always nil
		if _, err := ours.Write(appendUpgradeHead(nil, r, key)); err != nil || !<-open {
			return
		}
		if errors.Is(relay(ours, r.Body, func() error { return nil }), io.EOF) {
			ours.CloseWrite() //nolint:errcheck // always nil
		} else {
			s.reset.Store(true)
			ours.Close() //nolint:errcheck // the client gave up the stream, or nobody reads any more
		}
	})
	br := bufio.NewReaderSize(ours, 4<<10)
	err := readStream(w, &http.Request{Method: http.MethodGet}, br, func() error {
		w.Header().Del("Upgrade")
		w.Header().Del("Sec-Websocket-Accept")
		w.WriteHeader(http.StatusOK)
		flush := http.NewResponseController(w).Flush
		if err := flush(); err != nil {
			return err
		}
		open <- true
		if err := relay(w, br, flush); !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	})
	close(open)
	ours.Close() //nolint:errcheck // always nil
	r.Body.Close()
	wg.Wait()
	if err != nil {
		panic(http.ErrAbortHandler) // as in serveStream
	}
}

// appendUpgradeHead appends the HTTP/1.1 request that opens the WebSocket.
func appendUpgradeHead(dst []byte, r *http.Request, key string) []byte {
	dst = append(append(append(dst, "GET "...), r.RequestURI...), " HTTP/1.1\r\n"...)
	r.Header.Del("Sec-Websocket-Key")
	r.Header.Del("Sec-Websocket-Accept")
	dst = appendStreamFields(dst, r)
	dst = append(dst, "Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "...)
	return append(append(dst, key...), "\r\n\r\n"...)
}

// relay copies until an error, which it returns. Each piece is flushed.
func relay(dst io.Writer, src io.Reader, flush func() error) error {
	b := new(tunnelBuffer)
	defer b.release()
	for {
		n, err := src.Read(b.bytes())
		if n > 0 {
			if _, werr := dst.Write(b.bytes()[:n]); werr != nil {
				return werr
			}
			if ferr := flush(); ferr != nil {
				return ferr
			}
			b.fit(n)
		}
		if err != nil {
			return err
		}
	}
}

// duplex is one end of a connection in memory whose two directions end apart, as those of TCP do.
type duplex struct {
	net.Conn          // what is read
	out      net.Conn // what is written
}

func newDuplex() (a, b *duplex) {
	r1, w1 := net.Pipe()
	r2, w2 := net.Pipe()
	return &duplex{r1, w2}, &duplex{r2, w1}
}

// Write writes what the other end reads.
func (d *duplex) Write(b []byte) (int, error) { return d.out.Write(b) }

// CloseWrite ends what the other end reads.
func (d *duplex) CloseWrite() error { return d.out.Close() }

// Close ends both directions.
func (d *duplex) Close() error {
	d.out.Close()
	return d.Conn.Close()
}

// SetDeadline implements net.Conn.
func (d *duplex) SetDeadline(t time.Time) error {
	d.out.SetWriteDeadline(t)
	return d.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (d *duplex) SetWriteDeadline(t time.Time) error { return d.out.SetWriteDeadline(t) }
