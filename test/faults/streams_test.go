//go:build linux

//nolint:staticcheck // golang.org/x/net's transport is told to be old, but net/http's sends no :protocol
package faults_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// stream is a request that lasts.
type stream struct {
	kind string
	step func(n int) error // fails unless something goes through it now
	end  func() error      // fails unless all of it was right to the end
}

// alive is step with a bound: one that hangs is as good as cut.
func (s *stream) alive(n int) error { return within(func() error { return s.step(n) }) }

// whole is end with a bound.
func (s *stream) whole() error { return within(s.end) }

func within(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		return errors.New("nothing has come through it for 20 s")
	}
}

// streams opens streams of every kind: over HTTP/1.1 through nginx, where that passes on what comes as it comes, and over HTTP/2 at the
// first gateway, with TLS at secure and without. dialled tells how many connections of HTTP/2 they took, without those of gRPC.
func (s *scene) streams(ctx context.Context, secure string, trust *tls.Config) (all []*stream, dialled func() int64) {
	s.t.Helper()
	t, g := s.t, s.gateways[0]
	for range 20 {
		all = append(all, openWebSocket(ctx, t, "ws://"+s.front[0]+"/api/count/ws"))
	}
	more := func() error {
		_, err := get("http://" + s.front[0] + "/api/count/next")
		return err
	}
	plain := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(plain.CloseIdleConnections)
	h2c, clear := overHTTP2(t, nil)
	h2, sealed := overHTTP2(t, trust)
	all = append(all, openEvents(ctx, t, plain, "events", "http://"+s.front[0]+"/api/count/sse", more))
	for _, way := range []struct {
		kind, base string
		c          *http.Client
	}{{"", "http://" + g.addr(), plain}, {"_h2c", "http://" + g.addr(), h2c}, {"_h2", "https://" + secure, h2}} {
		base := way.base + "/api/count/"
		all = append(all, openUpload(ctx, way.c, "upload"+way.kind, base+"up"), openDownload(ctx, t, way.c, "download"+way.kind, base+"down"))
		if way.c != plain {
			all = append(all, openEvents(ctx, t, way.c, "events"+way.kind, base+"sse", more), openExtended(ctx, t, way.c, "websocket"+way.kind, base+"ws"))
		}
	}
	all = append(all, openCall(ctx, t, "grpc_h2c", g.addr(), insecure.NewCredentials()), openCall(ctx, t, "grpc_h2", secure, credentials.NewTLS(trust)))
	return all, func() int64 { return clear.Load() + sealed.Load() }
}

// overHTTP2 is a client that keeps to one connection of HTTP/2: with TLS, or without when config is nil. It counts what it dials.
func overHTTP2(t testing.TB, config *tls.Config) (c *http.Client, dialled *atomic.Int64) {
	dialled = new(atomic.Int64)
	tr := &http2.Transport{AllowHTTP: true, TLSClientConfig: config}
	tr.DialTLSContext = func(ctx context.Context, network, addr string, over *tls.Config) (net.Conn, error) {
		dialled.Add(1)
		if config == nil {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		return (&tls.Dialer{Config: over}).DialContext(ctx, network, addr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}, dialled
}

// openWebSocket opens a WebSocket over HTTP/1.1 that sends back what it is sent.
func openWebSocket(ctx context.Context, t testing.TB, url string) *stream {
	t.Helper()
	conn, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	step := func(n int) error {
		text := fmt.Sprintf("message %d", n)
		if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			return err
		}
		_, got, err := conn.Read(ctx)
		if err == nil && string(got) != text {
			err = fmt.Errorf("echo %q of %q", got, text)
		}
		return err
	}
	return &stream{"websocket", step, func() error { return conn.Close(websocket.StatusNormalClosure, "") }}
}

// openExtended opens a WebSocket over HTTP/2 (RFC 8441), likewise.
func openExtended(ctx context.Context, t testing.TB, c *http.Client, kind, url string) *stream {
	t.Helper()
	in, out := io.Pipe()
	req, _ := http.NewRequestWithContext(ctx, "CONNECT", url, in)
	req.Header = http.Header{":protocol": {"websocket"}, "Sec-Websocket-Version": {"13"}}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		out.Close()
		resp.Body.Close()
	})
	if resp.StatusCode != 200 {
		t.Fatalf("WebSocket over HTTP/2: %s", resp.Status)
	}
	// Short frames have a head of two bytes; a mask of zeros leaves the payload as it is (RFC 6455 section 5.2).
	exchange := func(opcode byte, payload string) error {
		if _, err := out.Write(append([]byte{0x80 | opcode, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)); err != nil {
			return err
		}
		want := append([]byte{0x80 | opcode, byte(len(payload))}, payload...)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("frame %q, want %q", got, want)
		}
		return nil
	}
	step := func(n int) error { return exchange(1, fmt.Sprintf("message %d", n)) }
	end := func() error {
		// 1000, and the reason that the node gives with any code
		if _, err := out.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8}); err != nil {
			return err
		}
		got, err := io.ReadAll(resp.Body)
		if err == nil && !bytes.HasPrefix(got, []byte{0x88}) {
			err = fmt.Errorf("%q in place of a Close frame", got)
		}
		return err
	}
	return &stream{kind, step, end}
}

// openEvents opens an event stream. more lets the node send one more event, to one of the streams that are open.
func openEvents(ctx context.Context, t testing.TB, c *http.Client, kind, url string, more func() error) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
	resp, err := c.Do(req)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	var seen atomic.Int64
	var last error // why it ended
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if lines.Text() == "" {
				continue
			}
			if want := fmt.Sprintf("data: event %d", seen.Load()+1); lines.Text() != want {
				last = fmt.Errorf("event %q, want %q", lines.Text(), want)
				return
			}
			seen.Add(1)
		}
		last = fmt.Errorf("after event %d: %w", seen.Load(), cmp.Or(lines.Err(), io.EOF))
	}()
	t.Cleanup(func() {
		cancel()
		<-over
	})
	step := func(int) error {
		for before := seen.Load(); seen.Load() == before; {
			if err := more(); err != nil {
				return err
			}
			select {
			case <-over:
				return last
			case <-time.After(20 * time.Millisecond): // the event was another stream's, or is on its way
			}
		}
		return nil
	}
	end := func() error {
		select {
		case <-over:
			return last
		default:
			return nil
		}
	}
	return &stream{kind, step, end}
}

// openUpload begins a body of unknown length, of which each step sends a piece.
func openUpload(ctx context.Context, c *http.Client, kind, url string) *stream {
	in, out := io.Pipe()
	sum, sent := crc32.NewIEEE(), 0
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		defer in.Close() // who writes must not wait for ever
		req, _ := http.NewRequestWithContext(ctx, "POST", url, in)
		resp, err := c.Do(req)
		if err != nil {
			answered <- answer{err: err}
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		answered <- answer{resp.Status + " " + string(text), err}
	}()
	step := func(n int) error {
		piece := bytes.Repeat([]byte{byte(n), byte(n >> 8), 'x', 'y'}, 4<<10)
		sum.Write(piece)
		sent += len(piece)
		_, err := out.Write(piece)
		select {
		case a := <-answered:
			return fmt.Errorf("it was answered before its end: %q, %w", a.text, cmp.Or(a.err, errors.New("no error")))
		default:
			return err
		}
	}
	end := func() error {
		out.Close()
		a := <-answered
		if want := fmt.Sprintf(`200 OK {"bytes":%d,"crc32":%d}`, sent, sum.Sum32()); a.err != nil || a.text != want {
			return fmt.Errorf("answer %q, %v, want %q", a.text, a.err, want)
		}
		return nil
	}
	return &stream{kind, step, end}
}

// openDownload begins a body that is far too large to lie in buffers; each step reads a piece of it.
func openDownload(ctx context.Context, t testing.TB, c *http.Client, kind, url string) *stream {
	t.Helper()
	const size = 128 << 20
	req, _ := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s?n=%d", url, size), nil)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	at := 0
	b := make([]byte, 64<<10)
	read := func() error {
		n, err := io.ReadFull(resp.Body, b)
		for i, got := range b[:n] {
			if want := byte((at + i) % (1 << 20) * 7); got != want {
				return fmt.Errorf("byte %d is %d, want %d", at+i, got, want)
			}
		}
		at += n
		return err
	}
	end := func() error {
		for at < size {
			if err := read(); err != nil {
				return fmt.Errorf("after %d of %d bytes: %w", at, size, err)
			}
		}
		if n, err := resp.Body.Read(b); n != 0 || !errors.Is(err, io.EOF) {
			return fmt.Errorf("after the end came %d bytes, %w", n, cmp.Or(err, errors.New("no error")))
		}
		return nil
	}
	return &stream{kind, func(int) error { return read() }, end}
}

// openCall opens a bidirectional call of gRPC, by a client that is not ours.
func openCall(ctx context.Context, t testing.TB, kind, addr string, secure credentials.TransportCredentials) *stream {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(secure))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	call, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/api/count/chat")
	if err != nil {
		t.Fatal(err)
	}
	step := func(n int) error {
		sent, got := wrapperspb.String(fmt.Sprintf("message %d", n)), new(wrapperspb.StringValue)
		if err := call.SendMsg(sent); err != nil && !errors.Is(err, io.EOF) { // the reason comes with the answer
			return err
		}
		if err := call.RecvMsg(got); err != nil {
			return err
		}
		if got.Value != sent.Value {
			return fmt.Errorf("message %q, want %q", got.Value, sent.Value)
		}
		return nil
	}
	end := func() error {
		if err := call.CloseSend(); err != nil {
			return err
		}
		if err := call.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) { // which is status 0, from the trailers
			return fmt.Errorf("the call ended with %w", cmp.Or(err, errors.New("one more message")))
		}
		return nil
	}
	return &stream{kind, step, end}
}
