//nolint:staticcheck // golang.org/x/net's transport is told to be old, but net/http's sends no :protocol
package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// extendedClient is a client of HTTP/2 that can open WebSockets (RFC 8441).
type extendedClient = *http2.Transport

// dialHTTP2 opens a WebSocket by an extended CONNECT.
func dialHTTP2(t testing.TB, tr extendedClient, url, protocol string) *wire {
	t.Helper()
	in, out := io.Pipe()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	req, _ := http.NewRequestWithContext(ctx, "CONNECT", url, in)
	req.Header[":protocol"] = []string{protocol}
	req.Header.Set("Sec-Websocket-Version", "13")
	req.Header.Set("Sec-Websocket-Key", "forged")
	res, err := tr.RoundTrip(req)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		out.Close()
		res.Body.Close()
	})
	return &wire{Reader: bufio.NewReader(res.Body), Writer: out, end: func() { out.Close() }, reset: func() { res.Body.Close() }, status: res.StatusCode, head: res.Header}
}

// overTLS and overH2C are transports of HTTP/2.
func overTLS(t testing.TB, config *tls.Config) extendedClient {
	tr := &http2.Transport{TLSClientConfig: config}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func overH2C(t testing.TB) extendedClient {
	tr := &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}
