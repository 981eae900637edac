package gateway

import (
	"testing"
	"time"
)

// PanicAt makes requests for path panic.
func (g *Gateway) PanicAt(path string) {
	g.endpoints[path] = func(*exchange) *local { panic("for the test") }
}

// RequestHead returns the head that a node would see of the request at the beginning of text; nil when
// the request is refused, incomplete, or answered by the gateway itself.
func (g *Gateway) RequestHead(text []byte) []byte {
	x := g.exchange()
	defer g.release(x)
	x.reqScan.Reset()
	end, err := x.reqScan.Scan(text)
	if err != nil || end == 0 || x.begin(text[:end]) != nil {
		return nil
	}
	return x.appendRequest(nil, text[:end], g.tracer.Child(x.trace), "127.0.0.1:1")
}

// RateWindow makes gateways that are made during the test judge the pace of clients over d.
func RateWindow(t testing.TB, d time.Duration) {
	was := rateWindow
	rateWindow = d
	t.Cleanup(func() { rateWindow = was })
}

// ProxyHeader is proxyHeader.
var ProxyHeader = proxyHeader
