package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/goms-io/goms/pkg/gateway"
)

// The opcodes of RFC 6455 section 5.2.
const (
	opContinue = 0
	opText     = 1
	opBinary   = 2
	opClose    = 8
	opPing     = 9
	opPong     = 10
	fin        = 0x80
)

// appendFrame appends a frame. first is its first byte: flags and opcode.
func appendFrame(dst []byte, first byte, masked bool, payload []byte) []byte {
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	dst = append(dst, first)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, bit|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, bit|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, bit|127), uint64(n))
	}
	if !masked {
		return append(dst, payload...)
	}
	key := [4]byte{1, 2, 3, 4}
	dst = append(dst, key[:]...)
	for i, c := range payload {
		dst = append(dst, c^key[i&3])
	}
	return dst
}

// readFrame reads a frame and says whether it was masked.
func readFrame(r io.Reader) (first byte, masked bool, payload []byte, err error) {
	head := make([]byte, 2, 14)
	if _, err = io.ReadFull(r, head); err != nil {
		return
	}
	n := uint64(head[1] & 0x7f)
	ext := make([]byte, map[uint64]int{126: 2, 127: 8}[n])
	if _, err = io.ReadFull(r, ext); err != nil {
		return
	}
	switch len(ext) {
	case 2:
		n = uint64(binary.BigEndian.Uint16(ext))
	case 8:
		n = binary.BigEndian.Uint64(ext)
	}
	var key [4]byte
	if masked = head[1]&0x80 != 0; masked {
		if _, err = io.ReadFull(r, key[:]); err != nil {
			return
		}
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	if masked {
		for i := range payload {
			payload[i] ^= key[i&3]
		}
	}
	return head[0], masked, payload, err
}

// wantFrame reads a frame and compares.
func wantFrame(t testing.TB, r io.Reader, first byte, payload string) {
	t.Helper()
	got, _, text, err := readFrame(r)
	if err != nil || got != first || string(text) != payload {
		t.Errorf("frame %#x %.60q %v, want %#x %.60q", got, text, err, first, payload)
	}
}

// goingAway is the payload of a Close frame that says 1001.
const goingAway = "\x03\xe9"

// wire is an open WebSocket, as bytes.
type wire struct {
	io.Reader
	io.Writer
	end    func() // the client's way ends
	reset  func() // the client is gone
	status int    // of the answer
	head   http.Header
}

const openWebSocket = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// dialHTTP1 opens a WebSocket by an upgrade.
func dialHTTP1(t testing.TB, c net.Conn) *wire {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET /api/user/login HTTP/1.1\r\nHost: a\r\n"+openWebSocket+"\r\n")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &wire{Reader: br, Writer: c, end: func() { c.(interface{ CloseWrite() error }).CloseWrite() }, reset: func() { reset(c) }, status: res.StatusCode, head: res.Header}
}

// ways returns the ways to open a WebSocket at b.
func (b *bench) ways() map[string]func(t testing.TB) *wire {
	h2c := b.also(gateway.Listener{H2C: true})
	secure, pool := b.secure()
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return map[string]func(t testing.TB) *wire{
		"HTTP/1.1": func(t testing.TB) *wire { return dialHTTP1(t, b.dial()) },
		"TLS": func(t testing.TB) *wire {
			c, err := tls.Dial("tcp", secure, config)
			if err != nil {
				t.Fatal(err)
			}
			return dialHTTP1(t, c)
		},
		"HTTP/2": func(t testing.TB) *wire {
			return dialHTTP2(t, overTLS(t, config), "https://"+secure+"/api/user/login", "websocket")
		},
		"h2c": func(t testing.TB) *wire {
			return dialHTTP2(t, overH2C(t), "http://"+h2c+"/api/user/login", "websocket")
		},
	}
}

// reset closes a TCP connection as a client does that has died.
func reset(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if s, is := c.(*tls.Conn); is {
		tcp, ok = s.NetConn().(*net.TCPConn)
	}
	if ok {
		tcp.SetLinger(0)
		tcp.Close()
	}
}

// opened fails the test unless w is open.
func opened(t testing.TB, w *wire) *wire {
	t.Helper()
	if w.status != 101 && w.status != 200 {
		t.Fatalf("opening = %d", w.status)
	}
	if w.status == 200 && len(w.head["Upgrade"])+len(w.head["Connection"])+len(w.head["Sec-Websocket-Accept"]) > 0 {
		t.Errorf("HTTP/2 answer holds fields of the upgrade: %v", w.head)
	}
	return w
}

// webSocketNode is a node that upgrades as RFC 6455 has it, and gives the connection to serve.
func webSocketNode(t testing.TB, serve func(c net.Conn, br *bufio.Reader)) string {
	t.Helper()
	return rawNode(t, func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if req.Method != "GET" || req.Header.Get("Connection") != "Upgrade" || req.Header.Get("Upgrade") != "websocket" || len(req.Header["Sec-Websocket-Key"]) != 1 || req.Header.Get("Sec-Websocket-Version") != "13" {
			t.Errorf("the node saw %s %v", req.Method, req.Header)
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", acceptOf(req))
		serve(c, br)
	})
}

// tunnels waits until so many are open.
func (b *bench) tunnels(want int) {
	b.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		got := b.metric("goms_tunnels")
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("goms_tunnels = %d, want %d", got, want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestExtendedConnectIsOffered(t *testing.T) {
	b := start(t, nil)
	secure, pool := b.secure()
	c, err := tls.Dial("tcp", secure, &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.WriteSettings()
	frame, err := f.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("first frame = %v, want SETTINGS", frame)
	}
	if v, ok := settings.Value(http2.SettingEnableConnectProtocol); !ok || v != 1 {
		t.Errorf("SETTINGS_ENABLE_CONNECT_PROTOCOL = %d %v, want 1 (RFC 8441 section 3)", v, ok)
	}
}

// TestWebSocketFrames echoes frames of every kind, and wants each byte back: the gateway changes none.
func TestWebSocketFrames(t *testing.T) {
	big := make([]byte, 1<<20)
	rand.Read(big)
	cases := []struct {
		name   string
		frames []byte
	}{
		{"text", appendFrame(nil, fin|opText, true, []byte("hello"))},
		{"empty", appendFrame(nil, fin|opText, true, nil)},
		{"125", appendFrame(nil, fin|opBinary, true, big[:125])},
		{"126", appendFrame(nil, fin|opBinary, true, big[:126])},
		{"65535", appendFrame(nil, fin|opBinary, true, big[:65535])},
		{"65536", appendFrame(nil, fin|opBinary, true, big[:65536])},
		{"1 MiB", appendFrame(nil, fin|opBinary, true, big)},
		{"ping", appendFrame(nil, fin|opPing, true, []byte("are you there"))},
		{"pong", appendFrame(nil, fin|opPong, true, []byte("I am"))},
		{"fragmented, a ping between", appendFrame(appendFrame(appendFrame(appendFrame(nil, opText, true, []byte("one ")), fin|opPing, true, nil), opContinue, true, []byte("two ")), fin|opContinue, true, []byte("three"))},
		{"many small", bytes.Repeat(appendFrame(nil, fin|opText, true, []byte("x")), 5000)},
		{"reserved opcode", appendFrame(nil, fin|0xb, true, []byte("extension"))},
		{"reserved bits", appendFrame(nil, fin|0x70|opText, true, []byte("deflated"))},
		{"no mask", appendFrame(nil, fin|opText, false, []byte("bare"))},
		{"length too large", append([]byte{fin | opBinary, 0xff}, bytes.Repeat([]byte{0xff}, 12)...)},
		{"length not minimal", append([]byte{fin | opBinary, 0xfe, 0, 1, 1, 2, 3, 4}, 'x')},
		{"long ping", appendFrame(nil, fin|opPing, true, big[:126])},
		{"fragmented ping", appendFrame(nil, opPing, true, nil)},
		{"invalid UTF-8", appendFrame(nil, fin|opText, true, []byte("\xff\xfe"))},
		{"close without code", appendFrame(nil, fin|opClose, true, nil)},
		{"close and more", appendFrame(appendFrame(nil, fin|opClose, true, []byte("\x03\xe8bye")), fin|opText, true, []byte("more"))},
		{"no frames", []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
		{"half a header", []byte{fin | opText}},
	}
	addr := webSocketNode(t, func(c net.Conn, br *bufio.Reader) {
		io.Copy(c, br)
		c.(*net.TCPConn).CloseWrite()
	})
	b := start(t, nil, addr)
	for way, dial := range b.ways() {
		for _, c := range cases {
			t.Run(way+"/"+c.name, func(t *testing.T) {
				w := opened(t, dial(t))
				sent := make(chan error, 1)
				go func() {
					_, err := w.Write(c.frames)
					w.end()
					sent <- err
				}()
				all, err := io.ReadAll(w)
				if err != nil || !bytes.Equal(all, c.frames) {
					t.Errorf("%d bytes came back, %v; want the %d that were sent", len(all), err, len(c.frames))
				}
				if err := <-sent; err != nil {
					t.Errorf("sending: %v", err)
				}
			})
		}
	}
	b.tunnels(0)
}

// TestWebSocketLibrary has a client and a node of a well-kept library talk through the gateway.
func TestWebSocketLibrary(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionNoContextTakeover, Subprotocols: []string{"echo"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		c.SetReadLimit(4 << 20)
		for {
			kind, text, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if c.Write(r.Context(), kind, text) != nil {
				return
			}
		}
	})
	b := start(t, nil, addr)
	secure, pool := b.secure()
	for url, client := range map[string]*http.Client{"ws://" + b.addr: {}, "wss://" + secure: protocol(t, pool, false)} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		client := &http.Client{Transport: client.Transport} // the library allows no timeout of its own
		c, _, err := websocket.Dial(ctx, url+"/api/user/login", &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"echo"}, CompressionMode: websocket.CompressionNoContextTakeover})
		if err != nil {
			t.Fatal(err)
		}
		c.SetReadLimit(4 << 20)
		for _, n := range []int{0, 1, 1000, 1 << 20} {
			text := strings.Repeat("a", n)
			if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if _, back, err := c.Read(ctx); err != nil || string(back) != text {
				t.Errorf("%s: %d bytes came back as %d, %v", url, n, len(back), err)
			}
		}
		c.CloseRead(ctx)
		if err := c.Ping(ctx); err != nil {
			t.Errorf("%s: ping: %v", url, err)
		}
		if c.Subprotocol() != "echo" {
			t.Errorf("%s: subprotocol %q", url, c.Subprotocol())
		}
		if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
			t.Errorf("%s: close: %v", url, err)
		}
	}
	b.tunnels(0)
}

// TestWebSocketDrain: both sides are told 1001 at the limit, between two frames, and nothing is cut off.
func TestWebSocketDrain(t *testing.T) {
	gateway.CloseTime(t, time.Minute)
	for _, way := range []string{"HTTP/1.1", "TLS", "HTTP/2", "h2c"} {
		t.Run(way, func(t *testing.T) {
			seen := make(chan string, 10)
			half := make(chan struct{})
			var once sync.Once
			finish := func() { once.Do(func() { close(half) }) }
			t.Cleanup(func() { finish() })
			addr := webSocketNode(t, func(c net.Conn, br *bufio.Reader) {
				long := appendFrame(nil, fin|opText, false, bytes.Repeat([]byte("n"), 300))
				c.Write(long[:200])
				for {
					first, masked, payload, err := readFrame(br)
					if err != nil {
						seen <- err.Error()
						return
					}
					seen <- fmt.Sprintf("%#x %v %d %.3q", first, masked, len(payload), payload)
					switch string(payload) {
					case "half": // the frame to the client ends only after the gateway was told to stop
						<-half
						c.Write(long[200:])
						c.Write(appendFrame(nil, fin|opText, false, []byte("late")))
					case goingAway:
						c.Write(appendFrame(nil, fin|opClose, false, []byte(goingAway)))
					}
				}
			})
			b := start(t, func(s *gateway.Settings) { s.DrainTimeout = 100 * time.Millisecond }, addr)
			w := opened(t, b.ways()[way](t))
			w.Write(appendFrame(nil, fin|opText, true, []byte("half")))
			if got := <-seen; got != `0x81 true 4 "hal"` {
				t.Fatalf("the node saw %s", got)
			}
			b.tunnels(1)
			long := appendFrame(nil, fin|opText, true, bytes.Repeat([]byte("c"), 70000))
			w.Write(long[:60000])
			stopped := make(chan error, 1)
			go func() { stopped <- b.g.Shutdown(context.Background()) }()
			waitUntil(t, "the WebSocket to be asked to end", b.g.Leaving)
			finish()
			w.Write(append(long[60000:], appendFrame(nil, fin|opText, true, []byte("late"))...))
			if got, want := <-seen, `0x81 true 70000 "ccc"`; got != want {
				t.Errorf("the node saw %s, want %s", got, want)
			}
			if got, want := <-seen, `0x88 true 2 "\x03\xe9"`; got != want {
				t.Errorf("the node saw %s, want %s", got, want)
			}
			wantFrame(t, w, fin|opText, strings.Repeat("n", 300))
			first, masked, payload, err := readFrame(w)
			if err != nil || first != fin|opClose || masked || string(payload) != goingAway {
				t.Errorf("the client saw %#x %v %q %v, want 1001", first, masked, payload, err)
			}
			w.Write(appendFrame(nil, fin|opClose, true, []byte(goingAway)))
			if _, err := io.ReadAll(w); err != nil {
				t.Errorf("after the Close: %v", err)
			}
			select {
			case err := <-stopped:
				if err != nil {
					t.Errorf("Shutdown() = %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Error("Shutdown() still waits")
			}
		})
	}
}

// slowLog takes its time for access records.
type slowLog struct{ slog.Handler }

func (slowLog) Enabled(context.Context, slog.Level) bool { return true }

func (slowLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "request" {
		time.Sleep(200 * time.Millisecond) // it is the log that is slow
	}
	return nil
}

// TestWebSocketDrainWaitsForTheRecord: a WebSocket that has closed was not cut off, though its request has not ended yet.
func TestWebSocketDrainWaitsForTheRecord(t *testing.T) {
	gateway.CloseTime(t, time.Minute)
	addr := webSocketNode(t, func(c net.Conn, br *bufio.Reader) {
		if _, _, _, err := readFrame(br); err == nil {
			c.Write(appendFrame(nil, fin|opClose, false, []byte(goingAway)))
		}
	})
	for _, way := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(way, func(t *testing.T) {
			b := startWith(t, slog.New(slowLog{slog.DiscardHandler}), func(s *gateway.Settings) {
				s.AccessLog, s.DrainTimeout = true, 10*time.Millisecond
			}, addr)
			w := opened(t, b.ways()[way](t))
			b.tunnels(1)
			stopped := make(chan error, 1)
			go func() { stopped <- b.g.Shutdown(context.Background()) }()
			wantFrame(t, w, fin|opClose, goingAway)
			w.Write(appendFrame(nil, fin|opClose, true, []byte(goingAway)))
			if err := <-stopped; err != nil {
				t.Errorf("Shutdown() = %v", err)
			}
		})
	}
}

// TestWebSocketDrainWithoutAnswer: who does not close is cut off soon, and so is who sends no frames.
func TestWebSocketDrainWithoutAnswer(t *testing.T) {
	for name, text := range map[string]string{
		"silent": "", "in a frame": string(appendFrame(nil, fin|opText, true, []byte("hello"))[:8]), "malformed": "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		for _, way := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run(name+"/"+way, func(t *testing.T) {
				seen := make(chan string, 1)
				addr := webSocketNode(t, func(_ net.Conn, br *bufio.Reader) {
					all, _ := io.ReadAll(br)
					seen <- string(all)
				})
				b := start(t, func(s *gateway.Settings) { s.DrainTimeout = 100 * time.Millisecond }, addr)
				w := opened(t, b.ways()[way](t))
				io.WriteString(w, text)
				b.tunnels(1)
				began := time.Now()
				if err := b.g.Shutdown(context.Background()); err == nil || !strings.Contains(err.Error(), "1 connections were cut off") {
					t.Errorf("Shutdown() = %v, want one connection cut off", err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("Shutdown() took %v", took)
				}
				wantFrame(t, w, fin|opClose, goingAway) // the node's frames were fine: it sent none
				got := <-seen
				if silent := name == "silent"; silent != (len(got) == 8 && got[0] == fin|opClose) || !silent && got != text {
					t.Errorf("the node saw %q of %q", got, text)
				}
			})
		}
	}
}

// TestWebSocketIdle ends after the time that a tunnel may be silent, for both sides.
func TestWebSocketIdle(t *testing.T) {
	ended := make(chan struct{}, 10)
	addr := webSocketNode(t, func(_ net.Conn, br *bufio.Reader) {
		io.Copy(io.Discard, br)
		ended <- struct{}{}
	})
	b := start(t, func(s *gateway.Settings) { s.StreamTimeout = 3 * time.Second }, addr)
	t.Run("ways", func(t *testing.T) {
		for way, dial := range b.ways() {
			t.Run(way, func(t *testing.T) {
				t.Parallel()
				w := opened(t, dial(t))
				for range 8 { // 3.6 s in all, none of it silence of 3 s
					w.Write(appendFrame(nil, fin|opPing, true, nil))
					time.Sleep(450 * time.Millisecond)
				}
				began := time.Now()
				w.Write(appendFrame(nil, fin|opText, true, []byte("last")))
				if all, err := io.ReadAll(w); len(all) > 0 || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%q %v, want the end", all, err)
				}
				if took := time.Since(began); took < 1500*time.Millisecond || took > 20*time.Second {
					t.Errorf("the tunnel ended after %v of silence", took)
				}
				waitFor(t, "the node to see the end", ended)
			})
		}
	})
	b.tunnels(0)
}

// TestWebSocketSlowReader: what a client does not read is not kept.
func TestWebSocketSlowReader(t *testing.T) {
	var sent atomic.Int64
	stalled := make(chan struct{}, 4)
	addr := webSocketNode(t, func(c net.Conn, _ *bufio.Reader) {
		frame := appendFrame(nil, fin|opBinary, false, make([]byte, 60000))
		for {
			c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			n, err := c.Write(frame)
			sent.Add(int64(n))
			if err != nil {
				stalled <- struct{}{}
				return
			}
		}
	})
	b := start(t, nil, addr)
	for way, dial := range b.ways() {
		sent.Store(0)
		before := heap()
		w := opened(t, dial(t))
		waitFor(t, "the node to stall", stalled)
		grown := heap() - before
		t.Logf("%s: %d KiB sent by the node, heap %+d KiB", way, sent.Load()>>10, grown>>10)
		most := int64(1 << 20)
		if w.status == 200 {
			most += 4 << 20 // what the library's client takes of a stream, in this process
		}
		if grown > most {
			t.Errorf("%s: the heap grew by %d KiB, want at most %d", way, grown>>10, most>>10)
		}
		first, _, payload, err := readFrame(w)
		if err != nil || first != fin|opBinary || len(payload) != 60000 {
			t.Errorf("%s: %#x %d %v, want the first frame", way, first, len(payload), err)
		}
	}
}

// TestWebSocketReset: a client that gives up holds nothing, though the node never ends its side.
func TestWebSocketReset(t *testing.T) {
	release := make(chan struct{})
	addr := webSocketNode(t, func(_ net.Conn, br *bufio.Reader) {
		io.Copy(io.Discard, br)
		<-release
	})
	t.Cleanup(func() { close(release) })
	b := start(t, nil, addr)
	for _, dial := range b.ways() {
		w := opened(t, dial(t))
		b.tunnels(1)
		w.reset()
		b.tunnels(0)
	}
}

// TestWebSocketMemory holds many that are silent to the bound that SECURITY.md states.
func TestWebSocketMemory(t *testing.T) {
	const tunnels = 200
	addr := webSocketNode(t, func(_ net.Conn, br *bufio.Reader) {
		for {
			if _, err := br.Discard(1); err != nil {
				return
			}
		}
	})
	b := start(t, nil, addr)
	dialHTTP1(t, b.dial()).reset()
	b.tunnels(0)
	before := heap()
	for range tunnels {
		w := opened(t, dialHTTP1(t, b.dial()))
		w.Write(appendFrame(nil, fin|opBinary, true, make([]byte, 20000)))
		w.Write(appendFrame(nil, fin|opPing, true, nil))
	}
	b.tunnels(tunnels)
	each := (heap() - before) / tunnels
	t.Logf("%d KiB each, with what client and node take in this process", each>>10)
	const own = 16 << 10 // of client and node: two buffers of 4 KiB, and two goroutines
	if each > 64<<10+own {
		t.Errorf("a WebSocket takes %d KiB, want at most 64, and 16 for the test", each>>10)
	}
}

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestFailedUpgrades: only a fitting 101 opens a tunnel, and no connection on which an upgrade failed is used again.
func TestFailedUpgrades(t *testing.T) {
	cases := []struct {
		name, answer  string
		one, two      int // what clients of HTTP/1.1 and HTTP/2 get
		reason        string
		onlyInHTTP2   bool
		bodyOfTheNode string
	}{
		{name: "101 without Upgrade", answer: "HTTP/1.1 101 x\r\nConnection: Upgrade\r\n\r\n", one: 502, two: 502, reason: "bad_answer"},
		{name: "101 to something else", answer: "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: echo\r\nSec-WebSocket-Accept: %s\r\n\r\n", one: 502, two: 502, reason: "bad_answer"},
		{name: "101 without proof", answer: "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", two: 502, reason: "bad_answer", onlyInHTTP2: true},
		{name: "101 with a wrong proof", answer: "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", two: 502, reason: "bad_answer", onlyInHTTP2: true},
		{name: "101 with two proofs", answer: "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Accept: %s\r\n\r\n", two: 502, reason: "bad_answer", onlyInHTTP2: true},
		{name: "200", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", one: 200, two: 502, bodyOfTheNode: "ok"},
		{name: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n", one: 204, two: 502},
		{name: "403", answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", one: 403, two: 403, bodyOfTheNode: "no"},
		{name: "426", answer: "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno", one: 426, two: 426, bodyOfTheNode: "no"},
		{name: "302", answer: "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", one: 302, two: 302},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var conns, reused atomic.Int64
			addr := rawNode(t, func(nc net.Conn, br *bufio.Reader) {
				conns.Add(1)
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				text := c.answer
				if strings.Contains(text, "%s") {
					text = fmt.Sprintf(text, acceptOf(req))
				}
				io.WriteString(nc, text)
				if n, _ := br.Read(make([]byte, 1)); n > 0 {
					reused.Add(1)
				}
			})
			b := start(t, nil, addr)
			secure, pool := b.secure()
			config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
			attempts := int64(0)
			f := func(way string, status, want int, body io.Reader) {
				t.Helper()
				all, _ := io.ReadAll(body)
				if status != want {
					t.Errorf("%s: %d %q, want %d", way, status, all, want)
				}
				if want < 500 && string(all) != c.bodyOfTheNode {
					t.Errorf("%s: body %q, want %q", way, all, c.bodyOfTheNode)
				}
				if attempts++; conns.Load() != attempts {
					t.Errorf("%s: %d connections to the node, want %d", way, conns.Load(), attempts)
				}
			}
			for range 2 {
				if !c.onlyInHTTP2 {
					nc := b.dial()
					nc.SetDeadline(time.Now().Add(10 * time.Second))
					io.WriteString(nc, "GET /api/user/login HTTP/1.1\r\nHost: a\r\n"+openWebSocket+"\r\n")
					res, err := http.ReadResponse(bufio.NewReader(nc), nil)
					if err != nil {
						t.Fatal(err)
					}
					f("HTTP/1.1", res.StatusCode, c.one, res.Body)
					nc.Close()
				}
				w := dialHTTP2(t, overTLS(t, config), "https://"+secure+"/api/user/login", "websocket")
				f("HTTP/2", w.status, c.two, w)
			}
			if n := reused.Load(); n != 0 {
				t.Errorf("%d connections were used after a failed upgrade", n)
			}
			b.tunnels(0)
		})
	}
}

// TestExtendedConnectRefused: what is no WebSocket reaches no node.
func TestExtendedConnectRefused(t *testing.T) {
	var reached atomic.Int64
	b := start(t, nil, node(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	secure, pool := b.secure()
	h2c := b.also(gateway.Listener{H2C: true})
	f := func(protocol, path string, want int, reason string) {
		t.Helper()
		for url, tr := range map[string]extendedClient{"https://" + secure: overTLS(t, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}), "http://" + h2c: overH2C(t)} {
			w := dialHTTP2(t, tr, url+path, protocol)
			all, err := io.ReadAll(w)
			if err != nil || w.status != want || !strings.Contains(string(all), `"`+reason+`"`) {
				t.Errorf("CONNECT %s by %q = %d %s %v, want %d %s", path, protocol, w.status, all, err, want, reason)
			}
		}
	}
	f("connect-udp", "/api/user/login", 501, "bad_protocol")
	f("h2c", "/api/user/login", 501, "bad_protocol")
	f("websocket, h2c", "/api/user/login", 501, "bad_protocol")
	f("websocket", "/livez", 404, "unknown_route") // 200 would be taken for a tunnel
	f("websocket", "/cluster", 404, "unknown_route")
	f("websocket", "/api/nobody/x", 404, "unknown_service")
	f("websocket", "/api/user/%2e%2e/login", 400, "bad_path")
	if got := b.metric(`goms_request_reasons_total{reason="bad_protocol"}`); got != 6 {
		t.Errorf("bad_protocol was counted %d times, want 6", got)
	}

	// The library sends no plain CONNECT with a path, nor :protocol with another method.
	g := func(want string, fields ...string) {
		t.Helper()
		if got := b.stream(h2c, fields...); got != want {
			t.Errorf("%q = %s, want %s", fields, got, want)
		}
	}
	g("405", ":method", "CONNECT", ":authority", "a:443")
	g("400", ":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/api/user/login", ":protocol", "websocket")
	g("400", ":method", "CONNECT", ":scheme", "https", ":authority", "a b", ":path", "/api/user/login", ":protocol", "websocket")
	g("reset", ":method", "CONNECT", ":scheme", "https", ":authority", "a", ":protocol", "websocket")
	if n := reached.Load(); n != 0 {
		t.Errorf("%d refused requests reached the node", n)
	}
}

// stream sends one request over HTTP/2 without TLS, as bare fields, and returns the status, or "reset".
func (b *bench) stream(addr string, fields ...string) string {
	b.t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			b.t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return "reset"
		}
	}
}

// acceptOf is the answer to the key of a request (RFC 6455 section 4.2.2).
func acceptOf(r *http.Request) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
