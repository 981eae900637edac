//go:build linux

package conformance_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// What one attacking HTTP/2 connection may cost.
const abuseMemory = 16 << 20

// The frames of RFC 9113 that the attacks are made of.
const (
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameContinuation = 9

	flagEndStream  = 1
	flagEndHeaders = 4
)

// attacker is an HTTP/2 client that writes what it likes.
type attacker struct {
	t    testing.TB
	conn *tls.Conn
	out  *bufio.Writer
	seen chan ending // what the gateway did, when it ended the connection
}

// ending is what came from the gateway until it ended the connection.
type ending struct {
	goAway  bool
	code    uint32 // of the GOAWAY
	resets  int
	headers int
}

// attack opens a connection with the settings given, as pairs of identifier and value.
func attack(t testing.TB, g *gateway, settings ...uint32) *attacker {
	t.Helper()
	conn, err := tls.Dial("tcp", g.https, &tls.Config{RootCAs: g.roots, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	a := &attacker{t: t, conn: conn, out: bufio.NewWriterSize(conn, 64<<10), seen: make(chan ending, 1)}
	a.out.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	var payload []byte
	for i := 0; i < len(settings); i += 2 {
		payload = binary.BigEndian.AppendUint16(payload, uint16(settings[i]))
		payload = binary.BigEndian.AppendUint32(payload, settings[i+1])
	}
	a.frame(frameSettings, 0, 0, payload)
	go a.read()
	return a
}

// frame writes one frame. Errors come with flush.
func (a *attacker) frame(kind, flags byte, stream uint32, payload []byte) {
	head := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	a.out.Write(binary.BigEndian.AppendUint32(head, stream))
	a.out.Write(payload)
}

// read takes what the gateway sends until the connection ends.
func (a *attacker) read() {
	var e ending
	br := bufio.NewReader(a.conn)
	head := make([]byte, 9)
	for {
		if _, err := io.ReadFull(br, head); err != nil {
			break
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(br, payload); err != nil {
			break
		}
		switch head[3] {
		case frameGoAway:
			e.goAway, e.code = true, binary.BigEndian.Uint32(payload[4:])
		case frameReset:
			e.resets++
		case frameHeaders:
			e.headers++
		}
	}
	a.seen <- e
}

// field encodes one field as HPACK literal (RFC 7541 section 6.2): 0x40 puts it into the dynamic table, 0 does not.
func field(kind byte, name, value string) []byte {
	b := append([]byte{kind}, integer(len(name))...)
	b = append(b, name...)
	b = append(b, integer(len(value))...)
	return append(b, value...)
}

// integer encodes the length of a string that is not Huffman-coded (RFC 7541 section 5.1).
func integer(n int) []byte {
	if n < 127 {
		return []byte{byte(n)}
	}
	b := []byte{127}
	for n -= 127; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

// request encodes the head of a GET.
func request(path string) []byte {
	b := field(0, ":method", "GET")
	b = append(b, field(0, ":scheme", "https")...)
	b = append(b, field(0, ":authority", "x")...)
	return append(b, field(0, ":path", path)...)
}

// abuse runs one attack on one connection beside legitimate probes over both protocols, and wants little memory used and
// the gateway well.
func abuse(t *testing.T, g *gateway, f func(t *testing.T)) {
	cool(t, g)
	g.ResetPeak()
	warm := client(t, g.roots, true)
	for range 500 {
		if _, err := fetch(warm, "https://"+g.https+"/api/fine/any"); err != nil {
			t.Fatal(err)
		}
	}
	_, base := g.Memory() // of a gateway at work
	files := g.Files()
	g.ResetPeak()
	over2 := probe(client(t, g.roots, true), "https://"+g.https+"/api/fine/any")
	over1 := probe(client(t, g.roots, false), "https://"+g.https+"/api/fine/any")
	began := time.Now()
	f(t)
	t.Logf("the attack took %v", time.Since(began).Round(time.Millisecond))
	over2.end(t)
	over1.end(t)
	alive(t, g.Process)
	_, peak := g.Memory()
	t.Logf("memory: base %d KiB, peak %+d KiB", base>>10, (peak-base)>>10)
	if peak-base > abuseMemory {
		t.Errorf("memory grew by %d KiB, want at most %d", (peak-base)>>10, abuseMemory>>10)
	}
	process.Eventually(t, patience, "files are closed", func() error {
		if n := g.Files() - files; n > 120 { // the probes' own, and idle ones to the node: as many as there may be streams
			return fmt.Errorf("%d are open above base", n)
		}
		return nil
	})
}

// ended waits for the gateway to end the connection.
func (a *attacker) ended(within time.Duration) {
	a.t.Helper()
	select {
	case e := <-a.seen:
		a.t.Logf("the gateway ended the connection: %+v", e)
	case <-time.After(within):
		a.t.Errorf("the gateway keeps the connection after %v", within)
	}
}

// send writes what is buffered and reports whether the gateway still takes it.
func (a *attacker) send() bool {
	err := a.out.Flush()
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		a.t.Errorf("the gateway neither reads nor ends the connection: %v", err)
	}
	return err == nil
}

func TestHTTP2Abuse(t *testing.T) {
	g := startGateway(t, "services:\n  fine: {any: \"/any\"}\n", "headTimeout: 5s")
	g.join("fine", simpleNode(t, []byte(strings.Repeat("fine", 1<<10))))
	// Streams are opened and given up at once (CVE-2023-44487).
	t.Run("rapid reset", func(t *testing.T) { abuse(t, g, func(t *testing.T) { rapidReset(t, g) }) })
	// A header block that never ends (CVE-2023-45288, CVE-2024-30255).
	t.Run("continuation flood", func(t *testing.T) { abuse(t, g, func(t *testing.T) { continuationFlood(t, g) }) })
	// Few bytes that stand for large headers, on as many streams as there may be, and no window for answers.
	t.Run("header bomb", func(t *testing.T) { abuse(t, g, func(t *testing.T) { headerBomb(t, g) }) })
	// Frames that must be answered, by a client that does not read.
	t.Run("ping and settings flood", func(t *testing.T) { abuse(t, g, func(t *testing.T) { controlFlood(t, g) }) })
}

// TestHTTP2Paths sends a :path that is none: it reaches no node, whatever is routed.
func TestHTTP2Paths(t *testing.T) {
	g := startGateway(t, "services:\n  fine: {any: \"/any\"}\n")
	var reached atomic.Int64
	node := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer node.Close()
	g.join("fine", node.Listener.Addr().String())
	for _, path := range []string{"api/fine/any", "", "*", "fine/any", "http://a/api/fine/any x", "//api/fine/any", "/api/fine/any ", "/api/fine/any\t", "/api\\fine/any", "/api/fine/any#a", "/api/fine/\x00any", "/api/fine/any\r\nA: b", "/api/fine/../fine/any"} {
		a := attack(t, g)
		a.frame(frameHeaders, flagEndHeaders|flagEndStream, 1, request(path))
		a.frame(frameGoAway, 0, 0, make([]byte, 8))
		if a.send() {
			a.ended(10 * time.Second) // by then it has been judged
		}
	}
	if _, err := fetch(client(t, g.roots, true), "https://"+g.https+"/api/fine/any"); err != nil {
		t.Fatal(err)
	}
	if n := reached.Load(); n != 1 {
		t.Errorf("%d requests reached the node, want the last one only", n)
	}
}

func rapidReset(t *testing.T, g *gateway) {
	a := attack(t, g)
	head := request("/api/fine/any")
	stream := uint32(1)
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end) && stream < 400_000; {
		for range 100 {
			a.frame(frameHeaders, flagEndHeaders|flagEndStream, stream, head)
			a.frame(frameReset, 0, stream, []byte{0, 0, 0, 8})
			stream += 2
		}
		if !a.send() {
			break
		}
	}
	t.Logf("%d streams opened and reset", stream/2)
	a.ended(10 * time.Second)
}

func continuationFlood(t *testing.T, g *gateway) {
	a := attack(t, g)
	a.frame(frameHeaders, flagEndStream, 1, request("/api/fine/any"))
	part := field(0, "x-flood", strings.Repeat("a", 16000))
	sent := 0
	for sent < 64<<20 {
		a.frame(frameContinuation, 0, 1, part)
		if sent += len(part); !a.send() {
			break
		}
	}
	t.Logf("%d KiB of a header block that does not end", sent>>10)
	if sent >= 64<<20 {
		t.Error("the gateway takes 64 MiB of one header block")
	}
	a.ended(10 * time.Second)
}

func headerBomb(t *testing.T, g *gateway) {
	a := attack(t, g, 4, 0) // no window for any answer
	// 3.9 KB in the dynamic table, the size it has by default; each further byte of the block stands for all of it.
	first := append(request("/api/fine/any"), field(0x40, "x-bomb", strings.Repeat("a", 3900))...)
	a.frame(frameHeaders, flagEndHeaders|flagEndStream, 1, first)
	bomb := append(request("/api/fine/any"), strings.Repeat("\xbe", 16000)...)
	for stream := uint32(3); stream < 3+2*250; stream += 2 {
		a.frame(frameHeaders, flagEndHeaders|flagEndStream, stream, bomb)
	}
	a.send()
	// And cookies in as many crumbs as fit.
	crumbs := request("/api/fine/any")
	crumbs = append(crumbs, field(0x40, "cookie", "")...)
	crumbs = append(crumbs, strings.Repeat("\xbe", 16000)...)
	for stream := uint32(1001); stream < 1001+2*250; stream += 2 {
		a.frame(frameHeaders, flagEndHeaders|flagEndStream, stream, crumbs)
	}
	a.send()
	a.frame(framePing, 0, 0, make([]byte, 8))
	a.send()
	select {
	case e := <-a.seen:
		t.Logf("the gateway ended the connection: %+v", e)
	case <-time.After(3 * time.Second): // it may wait for the window; what it holds meanwhile is what counts
	}
	a.conn.Close()
}

func controlFlood(t *testing.T, g *gateway) {
	conn, err := tls.Dial("tcp", g.https, &tls.Config{RootCAs: g.roots, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	a := &attacker{t: t, conn: conn, out: bufio.NewWriterSize(conn, 64<<10)}
	a.out.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	a.frame(frameSettings, 0, 0, nil)
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	sent := 0
	for ; sent < 2_000_000; sent++ { // nobody reads the answers: the gateway must stop reading, or end the connection
		a.frame(framePing, 0, 0, make([]byte, 8))
		if sent%8 == 0 {
			a.frame(frameSettings, 0, 0, nil)
		}
		if a.out.Available() < 64 {
			if err := a.out.Flush(); err != nil {
				var timeout net.Error
				t.Logf("after %d frames: timeout %v: %v", sent, errors.As(err, &timeout) && timeout.Timeout(), err)
				break
			}
		}
	}
	t.Logf("%d control frames sent", sent)
}
