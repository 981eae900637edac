package trace_test

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"testing"

	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"

	"github.com/goms-io/goms/pkg/trace"
)

func TestZipkinConversion(t *testing.T) {
	for _, s := range []trace.Sampling{trace.Undecided, trace.Drop, trace.Keep, trace.Debug} {
		for _, want := range []trace.Context{ctx(hi, lo, 1, 2, s), ctx(0, lo, 1, 0, s), {Sampling: s}} {
			if got := trace.FromZipkin(want.Zipkin()); got != want {
				t.Errorf("%+v came back as %+v", want, got)
			}
		}
	}
	sc := ctx(hi, lo, 1, 2, trace.Keep).Zipkin()
	sc.Err = errors.New("broken")
	if got := trace.FromZipkin(sc); got != (trace.Context{}) {
		t.Errorf("FromZipkin() of an error = %+v", got)
	}
}

func TestNewZipkinTracer(t *testing.T) {
	r := newReporter(t, trace.ReporterConfig{})
	for _, rate := range []float64{-0.1, 1.1, math.NaN()} {
		if _, err := trace.NewZipkinTracer("user", netip.AddrPort{}, rate, r); err == nil {
			t.Errorf("NewZipkinTracer with rate %v: no error", rate)
		}
	}
	if _, err := trace.NewZipkinTracer("", netip.AddrPort{}, 1, r); err == nil {
		t.Error("NewZipkinTracer without a service: no error")
	}
}

// TestOneTrace follows a request: gateway server span, client span, node server span,
// and the node's call to another.
func TestOneTrace(t *testing.T) {
	collected := &collect{}
	r := newReporter(t, trace.ReporterConfig{})
	r.SetTransport(collected)
	node, err := trace.NewZipkinTracer("user", netip.MustParseAddrPort("10.0.0.1:9080"), 1, r)
	if err != nil {
		t.Fatal(err)
	}
	gateway := newTracer(r)

	server := gateway.Start(carry(t, "traceparent: 00-"+long+"-"+span+"-01"))
	client := gateway.Child(server)
	h := http.Header{}
	client.Inject(h.Set)
	incoming, _ := trace.FromHTTP(h)
	nodeSpan := node.StartSpan("get /login", zipkin.Kind(model.Server), zipkin.Parent(incoming.Zipkin()))
	call := node.StartSpan("call", zipkin.Kind(model.Client), zipkin.Parent(nodeSpan.Context()))
	call.Finish()
	nodeSpan.Tag("late", "yes")
	nodeSpan.Finish()
	nodeSpan.Tag("too late", "no race with the encoder")
	gateway.Record(&trace.Span{Context: client, Kind: trace.Client, Name: "get", Attempt: 1})
	gateway.Record(&trace.Span{Context: server, Kind: trace.Server, Name: "get"})
	_ = r.Close()
	if err := r.Run(t.Context()); err != nil { // flushes
		t.Fatal(err)
	}

	spans := collected.spans(t)
	chain := []model.ID{call.Context().ID, nodeSpan.Context().ID, model.ID(client.SpanID), model.ID(server.SpanID), 0xe457b5a2e4d86bd1}
	if len(spans) != 4 {
		t.Fatalf("collected %d spans, want 4", len(spans))
	}
	for i, id := range chain[:4] {
		s, ok := spans[id]
		if !ok || s.ParentID == nil || *s.ParentID != chain[i+1] || s.TraceID.String() != long || s.Shared {
			t.Errorf("span %d = %+v, want parent %v", i, s, chain[i+1])
		}
	}
	if tags := spans[nodeSpan.Context().ID].Tags; len(tags) != 1 || tags["late"] != "yes" {
		t.Errorf("tags = %v", tags)
	}
	if got := spans[nodeSpan.Context().ID].LocalEndpoint; got == nil || got.ServiceName != "user" || got.IPv4.String() != "10.0.0.1" || got.Port != 9080 {
		t.Errorf("local endpoint = %+v", got)
	}
	if sent, dropped := r.Stats(); sent != 4 || dropped != 0 {
		t.Errorf("Stats() = %d, %d; want 4, 0", sent, dropped)
	}
}

func TestZipkinTracerSampling(t *testing.T) {
	r := newReporter(t, trace.ReporterConfig{})
	f := func(rate float64, parent trace.Context, want trace.Sampling) {
		t.Helper()
		z, err := trace.NewZipkinTracer("user", netip.AddrPort{}, rate, r)
		if err != nil {
			t.Fatal(err)
		}
		got := trace.FromZipkin(z.StartSpan("x", zipkin.Kind(model.Server), zipkin.Parent(parent.Zipkin())).Context())
		if got.Sampling != want || !got.Valid() || got.ParentID != parent.SpanID || got.TraceID.Hi == 0 {
			t.Errorf("a span of %+v at rate %v = %+v, want %v", parent, rate, got, want)
		}
	}
	f(0, trace.Context{}, trace.Drop)
	f(1, trace.Context{}, trace.Keep)
	f(0, trace.Context{Sampling: trace.Keep}, trace.Keep)
	f(1, trace.Context{Sampling: trace.Drop}, trace.Drop)
	f(0, trace.Context{Sampling: trace.Debug}, trace.Debug)
	f(1, ctx(hi, lo, 1, 0, trace.Drop), trace.Drop)
	f(0, ctx(hi, lo, 1, 0, trace.Keep), trace.Keep)
	f(1, ctx(hi, lo, 1, 0, trace.Undecided), trace.Keep)

	// Without a reporter the incoming context is handed on.
	z, err := trace.NewZipkinTracer("user", netip.AddrPort{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	in := ctx(hi, lo, 1, 2, trace.Keep)
	sp := z.StartSpan("x", zipkin.Parent(in.Zipkin()))
	sp.Finish()
	if got := trace.FromZipkin(sp.Context()); got != in {
		t.Errorf("a no-op span of %+v = %+v", in, got)
	}
}

func decode(t testing.TB, body []byte) []model.SpanModel {
	t.Helper()
	var spans []model.SpanModel
	if err := json.Unmarshal(body, &spans); err != nil {
		t.Errorf("a batch is not JSON: %v", err)
	}
	return spans
}
