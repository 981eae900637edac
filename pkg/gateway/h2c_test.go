package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/goms-io/goms/pkg/gateway"
)

// priorKnowledge is a client that speaks HTTP/2 without TLS.
func priorKnowledge(t testing.TB) *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

func TestH2C(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", r.Method, r.Header.Get("X-Forwarded-Proto"), len(body))
	})
	b := start(t, nil, addr)
	h2c := b.also(gateway.Listener{H2C: true})
	c := priorKnowledge(t)
	for i := range 3 {
		res, err := c.Post("http://"+h2c+"/api/user/login", "text/plain", bytes.NewReader(make([]byte, i<<16)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if want := fmt.Sprintf("POST http %d", i<<16); err != nil || res.ProtoMajor != 2 || string(body) != want {
			t.Errorf("over %s: %q %v, want %q over HTTP/2", res.Proto, body, err, want)
		}
	}
	if got := talk(t, h2c, "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("HTTP/1.1 on the same port = %q", got)
	}
	if res, err := priorKnowledge(t).Get("http://" + b.addr + "/api/user/login"); err == nil {
		res.Body.Close()
		t.Errorf("HTTP/2 where it is not enabled = %s %s", res.Proto, res.Status)
	}
}

// TestH2CPrefaceInPieces sends byte by byte what is HTTP/2, what only begins so, and what never does.
func TestH2CPrefaceInPieces(t *testing.T) {
	b := start(t, nil, node(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
	}))
	h2c := b.also(gateway.Listener{H2C: true})
	pieces := func(text string) net.Conn {
		c, err := net.Dial("tcp", h2c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
		for i := range len(text) { // Nagle is off: each byte is a segment
			io.WriteString(c, text[i:i+1])
		}
		return c
	}
	c := pieces(http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings()
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/api/user/login"}} {
		enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	status, body := "", ""
	for body == "" {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			status = frame.PseudoValue("status")
		case *http2.DataFrame:
			body = string(frame.Data())
		}
	}
	if status != "200" || body != "http" { // :scheme is what the client says
		t.Errorf("answer = %s %q, want 200 and X-Forwarded-Proto: http", status, body)
	}
	for text, want := range map[string]string{
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX":                                      "HTTP/1.1 505 ",
		"PRI * HTTP/1.1\r\n\r\n":                                               "HTTP/1.1 400 ",
		"PUT /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n": "HTTP/1.1 200 ",
		"PROPFIND / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":          "HTTP/1.1 404 ",
	} {
		c := pieces(text)
		if all, _ := io.ReadAll(c); !strings.HasPrefix(string(all), want) {
			t.Errorf("%q = %.60q, want %s", text, all, want)
		}
	}
}

// TestH2CHeadTimeout holds for a connection of which nobody knows yet what it will be, and of one that has sent
// the preface and nothing else.
func TestH2CHeadTimeout(t *testing.T) {
	b := start(t, func(s *gateway.Settings) { s.HeadTimeout, s.IdleTimeout = 300*time.Millisecond, 300*time.Millisecond })
	h2c := b.also(gateway.Listener{H2C: true})
	for i := range len(http2.ClientPreface) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			got := talk(t, h2c, http2.ClientPreface[:i])
			if i > 0 != strings.HasPrefix(got, "HTTP/1.1 408 ") {
				t.Errorf("%d bytes of the preface = %q", i, got)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%d bytes of the preface held a connection for %v", i, took)
			}
		})
	}
	t.Run("whole", func(t *testing.T) {
		t.Parallel()
		talk(t, h2c, http2.ClientPreface) // ends
	})
	t.Run("drip", func(t *testing.T) {
		t.Parallel()
		c, err := net.Dial("tcp", h2c)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		go func() {
			for i := range len(http2.ClientPreface) - 1 {
				if _, err := io.WriteString(c, http2.ClientPreface[i:i+1]); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond) // the time of a drip
			}
		}()
		if all, err := io.ReadAll(bufio.NewReader(c)); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("a preface that drips is still waited for: %q", all)
		}
	})
}

// TestH2CBehindAProxyHeader: the preface may follow the header in the same segment or come alone, and the client of each
// request is the one that the header names.
func TestH2CBehindAProxyHeader(t *testing.T) {
	b := start(t, nil, seen(t))
	addr := b.also(gateway.Listener{H2C: true, ProxyProtocol: loopback})
	for _, h := range proxyHeaders {
		for _, apart := range []bool{false, true} {
			c := priorKnowledge(t)
			tr := c.Transport.(*http.Transport)
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil || !apart {
					return &prefaced{Conn: nc, preface: []byte(h.header)}, err
				}
				_, err = io.WriteString(nc, h.header)
				return nc, err
			}
			for range 2 {
				answersOverHTTP2(t, c, "http://"+addr, h.client)
			}
			tr.CloseIdleConnections()
		}
		if got := talk(t, addr, h.header+request); !strings.Contains(got, "\r\n\r\n"+h.client+" 4") {
			t.Errorf("HTTP/1.1 behind %s = %q, want the client %s", h.name, got, h.client)
		}
	}
	if got := talk(t, addr, http2.ClientPreface); got != "" {
		t.Errorf("the preface without a header is answered %q, want nothing", got)
	}
}

// TestH2COverUnixSocket: the client is 127.0.0.1, or whom a header names.
func TestH2COverUnixSocket(t *testing.T) {
	b := start(t, nil, seen(t))
	for _, proxied := range []bool{false, true} {
		l, header, client := gateway.Listener{Listener: unixListener(t), H2C: true}, "", "127.0.0.1"
		if proxied {
			l.ProxyProtocol, header, client = loopback, "PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n", "203.0.113.7"
		}
		path := b.also(l)
		c := priorKnowledge(t)
		c.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, "unix", path)
			return &prefaced{Conn: nc, preface: []byte(header)}, err
		}
		for range 2 {
			answersOverHTTP2(t, c, "http://a", client)
		}
		if got := talk(t, path, header+request); !strings.Contains(got, "\r\n\r\n"+client+" 4") {
			t.Errorf("HTTP/1.1 on the socket = %q, want the client %s", got, client)
		}
	}
}

// answersOverHTTP2 posts more than a buffer holds to a node that says who the client is.
func answersOverHTTP2(t *testing.T, c *http.Client, url, client string) {
	t.Helper()
	res, err := c.Post(url+"/api/user/login", "", strings.NewReader(strings.Repeat("a", 300<<10)))
	if err != nil {
		t.Errorf("%s: %v", client, err)
		return
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if want := client + " 307200"; string(got) != want || err != nil || res.ProtoMajor != 2 {
		t.Errorf("%q %v over %s, want %q over HTTP/2", got, err, res.Proto, want)
	}
}

// TestUpgradeToH2CIsNeverHonoured where HTTP/2 is enabled, and where it is not.
func TestUpgradeToH2CIsNeverHonoured(t *testing.T) {
	var upgrades atomic.Int64
	b := start(t, nil, node(t, func(_ http.ResponseWriter, r *http.Request) {
		if len(r.Header["Upgrade"])+len(r.Header["Http2-Settings"]) > 0 {
			upgrades.Add(1)
		}
	}))
	for _, addr := range []string{b.addr, b.also(gateway.Listener{H2C: true})} {
		got := talk(t, addr, "GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"+
			"GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if strings.Count(got, "HTTP/1.1 200 ") != 2 || strings.Contains(got, " 101 ") || strings.Contains(strings.ToLower(got), "upgrade") {
			t.Errorf("Upgrade: h2c = %q, want two answers of HTTP/1.1", got)
		}
		// A client that takes the switch for granted is refused.
		got = talk(t, addr, "GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"+http2.ClientPreface)
		if strings.Count(got, "HTTP/1.1 200 ") != 1 || strings.Count(got, "HTTP/1.1 505 ") != 1 {
			t.Errorf("the preface behind a request = %q, want 200 and 505", got)
		}
	}
	if n := upgrades.Load(); n != 0 {
		t.Errorf("%d requests to upgrade reached the node", n)
	}
}

// TestHTTP2StreamThatIsNotRead is reset, whether its answer fits into what is between the node and the client or
// not, and neither a stream nor a connection to the node is held for it.
func TestHTTP2StreamThatIsNotRead(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, map[string]int{"small": 1000, "large": 1 << 20}[r.URL.RawQuery]))
	})
	b := start(t, func(s *gateway.Settings) { s.BodyTimeout = 300 * time.Millisecond }, addr)
	h2c := b.also(gateway.Listener{H2C: true})
	for _, size := range []string{"small", "large"} {
		c, err := net.Dial("tcp", h2c)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, http2.ClientPreface)
		f := http2.NewFramer(c, c)
		f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, h := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/api/user/login?" + size}} {
			enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Fatalf("%s: %v, want the stream reset", size, err)
			}
			if _, ok := frame.(*http2.RSTStreamFrame); ok {
				break
			}
		}
	}
	for _, s := range b.g.Cluster(true).Services["user"].Detail {
		if s.Failures != 0 || s.InFlight != 0 {
			t.Errorf("node %s has %d failures, %d in flight", s.ID, s.Failures, s.InFlight)
		}
	}
}
