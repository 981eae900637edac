package trace

import (
	"net/http"
	"net/netip"

	"github.com/openzipkin/zipkin-go/model"
)

// SetTransport replaces the network.
func (r *Reporter) SetTransport(rt http.RoundTripper) { r.client.Transport = rt }

// Drain encodes one batch as Run does and throws it away; it returns the spans in it.
func (r *Reporter) Drain() int {
	r.fill()
	return r.run.batch.n
}

// EncodeSpan encodes one span of a tracer.
func EncodeSpan(s *Span, service string, local netip.AddrPort) []byte {
	return appendSpan(nil, s, appendEndpoint(nil, "localEndpoint", service, local))
}

// EncodeModel encodes one span of zipkin-go.
func EncodeModel(s *model.SpanModel) []byte { return appendModel(nil, s) }
