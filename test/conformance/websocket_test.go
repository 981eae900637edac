//go:build linux

package conformance_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// TestWebSocketAbuse holds one connection of HTTP/2 to its bound with as many WebSockets as it may have: silent ones, and
// ones whose node sends without end while the client takes nothing, and the client without end while the node does not.
func TestWebSocketAbuse(t *testing.T) {
	g := startGateway(t, "services:\n  fine: {any: \"/any\"}\n  ws: {idle: \"/idle\", flood: \"/flood\"}\n")
	g.join("fine", simpleNode(t, []byte(strings.Repeat("fine", 1<<10))))
	var open atomic.Int64
	g.join("ws", webSocketNode(t, &open))
	t.Run("100 silent", func(t *testing.T) { abuse(t, g, func(t *testing.T) { webSockets(t, g, &open, "idle") }) })
	t.Run("100 flooded", func(t *testing.T) { abuse(t, g, func(t *testing.T) { webSockets(t, g, &open, "flood") }) })
}

// webSockets opens 100 of them on one connection, sends what the windows allow, and holds all for two seconds.
func webSockets(t *testing.T, g *gateway, open *atomic.Int64, kind string) {
	const streams = 100
	a := attack(t, g)
	for i := range uint32(streams) {
		b := field(0, ":method", "CONNECT")
		for _, f := range [][2]string{{":protocol", "websocket"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/api/ws/" + kind}, {"sec-websocket-version", "13"}} {
			b = append(b, field(0, f[0], f[1])...)
		}
		a.frame(frameHeaders, flagEndHeaders, 2*i+1, b)
	}
	a.send()
	process.Eventually(t, patience, "all are open", func() error {
		if n := open.Load(); n != streams {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	if kind == "flood" { // 1 MiB in all is the connection's window
		for i := range uint32(streams) {
			a.frame(0, 0, 2*i+1, make([]byte, 10000))
		}
		a.send()
	}
	held := time.NewTimer(2 * time.Second)
	defer held.Stop()
	select {
	case <-held.C:
	case e := <-a.seen:
		t.Errorf("the gateway ended the connection: %+v", e)
	}
	a.conn.Close()
	process.Eventually(t, patience, "all are closed", func() error {
		if n := open.Load(); n != 0 {
			return fmt.Errorf("%d are open at the node", n)
		}
		if n, err := g.tunnels(); err != nil || n != "0" {
			return fmt.Errorf("%s are counted: %v", n, err)
		}
		return nil
	})
}

// tunnels returns the gateway's own count.
func (g *gateway) tunnels() (string, error) {
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	text, err := fetch(c, "http://"+g.admin+"/metrics")
	_, rest, _ := strings.Cut(text, "\ngoms_tunnels ")
	n, _, _ := strings.Cut(rest, "\n")
	return n, err
}

// webSocketNode takes WebSockets on /idle, which stay silent, and on /flood, which send without end and read nothing. It
// counts those that are open.
func webSocketNode(t testing.TB, open *atomic.Int64) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		sum := sha1.Sum([]byte(req.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
		open.Add(1)
		defer open.Add(-1)
		if req.URL.Path == "/idle" {
			io.Copy(io.Discard, c)
			return
		}
		frame := append([]byte{0x82, 126, 0xea, 0x60}, make([]byte, 60000)...)
		for err == nil {
			_, err = c.Write(frame)
		}
	}
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}
