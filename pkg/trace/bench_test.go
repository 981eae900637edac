package trace_test

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"
	"github.com/openzipkin/zipkin-go/propagation/b3"
	"github.com/openzipkin/zipkin-go/reporter"
	zipkinhttp "github.com/openzipkin/zipkin-go/reporter/http"

	"github.com/goms-io/goms/pkg/trace"
)

func BenchmarkCarrier(b *testing.B) {
	names := [][]byte{[]byte("Host"), []byte("User-Agent"), []byte("X-B3-TraceId"), []byte("X-B3-SpanId"), []byte("X-B3-ParentSpanId"), []byte("X-B3-Sampled")}
	values := [][]byte{[]byte("x"), []byte("x"), []byte(long), []byte(span), []byte(parent), []byte("1")}
	var c trace.Carrier
	b.ReportAllocs()
	for b.Loop() {
		c.Reset()
		for i := range names {
			c.Header(names[i], values[i])
		}
		if _, ok := c.Context(); !ok {
			b.Fatal("no context")
		}
	}
}

func BenchmarkAppendHeaders(b *testing.B) {
	c := ctx(hi, lo, 1, 2, trace.Keep)
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		dst = c.AppendHeaders(dst[:0])
	}
}

func BenchmarkStartRoot(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		tracer.Start(nil)
	}
}

// BenchmarkRecord records and encodes, amortised: the consumer runs after each
// thousand.
func BenchmarkRecord(b *testing.B) {
	r := newReporter(b, trace.ReporterConfig{})
	tr, s := newTracer(r), sampled(1)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		tr.Record(s)
		if i++; i%trace.DefaultBatchSize == 0 {
			r.Drain()
		}
	}
	noDrops(b, r)
}

// BenchmarkRecordParallel is the cost to two producers that fight for the ring: they
// fill it, then it is emptied off the clock. ns/span is wall time by all spans.
func BenchmarkRecordParallel(b *testing.B) {
	r := newReporter(b, trace.ReporterConfig{})
	tr := newTracer(r)
	const producers = 2
	b.ReportAllocs()
	var clock time.Duration
	for b.Loop() {
		var wg sync.WaitGroup
		began := time.Now()
		for range producers {
			wg.Go(func() {
				s := sampled(1)
				for range trace.DefaultQueueSize / producers {
					tr.Record(s)
				}
			})
		}
		wg.Wait()
		clock += time.Since(began)
		b.StopTimer()
		for r.Drain() > 0 {
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(clock.Nanoseconds())/float64(b.N)/trace.DefaultQueueSize, "ns/span")
	noDrops(b, r)
}

func BenchmarkEncodeSpan(b *testing.B) {
	r := newReporter(b, trace.ReporterConfig{})
	tr, s := newTracer(r), sampled(1)
	b.ReportAllocs()
	for b.Loop() {
		tr.Record(s)
		r.Drain()
	}
}

func BenchmarkSend(b *testing.B) {
	r := newReporter(b, trace.ReporterConfig{})
	s := modelSpan(1)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r.Send(s)
		if i++; i%trace.DefaultBatchSize == 0 {
			r.Drain()
		}
	}
	noDrops(b, r)
}

// The pair is what a gateway does for one traced request: read B3, start the server
// span, start the client span, write B3 (and here traceparent), finish both with the
// same facts.
var pairHeaders = [][2]string{{"X-B3-Traceid", long}, {"X-B3-Spanid", span}, {"X-B3-Parentspanid", parent}, {"X-B3-Sampled", "1"}}

func gomsPair(tr *trace.Tracer, c *trace.Carrier, names, values [][]byte, head []byte) []byte {
	start := time.Now()
	c.Reset()
	for i := range names {
		c.Header(names[i], values[i])
	}
	server := tr.Start(c)
	client := tr.Child(server)
	sent := time.Now()
	head = client.AppendHeaders(head[:0])
	s := trace.Span{
		Context: client, Kind: trace.Client, Name: "get", Method: "GET", Route: "/api/user/login", RemoteService: "user",
		RemoteAddr: node, Start: sent, Duration: time.Since(sent), Status: 200, Attempt: 1,
	}
	tr.Record(&s)
	s.Context, s.Kind, s.RemoteService, s.RemoteAddr, s.Attempt = server, trace.Server, "", peer, 0
	s.Start, s.Duration = start, time.Since(start)
	tr.Record(&s)
	return head
}

func zipkinPair(tr *zipkin.Tracer, in, out *http.Request) {
	server := tr.StartSpan("get", zipkin.Kind(model.Server), zipkin.Parent(tr.Extract(b3.ExtractHTTP(in))),
		zipkin.RemoteEndpoint(&model.Endpoint{IPv4: peer.Addr().AsSlice(), Port: peer.Port()}))
	client := tr.StartSpan("get", zipkin.Kind(model.Client), zipkin.Parent(server.Context()),
		zipkin.RemoteEndpoint(&model.Endpoint{ServiceName: "user", IPv4: node.Addr().AsSlice(), Port: node.Port()}))
	_ = b3.InjectHTTP(out)(client.Context())
	for _, s := range []zipkin.Span{client, server} {
		s.Tag("http.method", "GET")
		s.Tag("http.route", "/api/user/login")
		s.Tag("http.status_code", "200")
	}
	client.Tag("attempt", "1")
	client.Finish()
	server.Finish()
}

var node, peer = netip.MustParseAddrPort("10.0.0.1:9080"), netip.MustParseAddrPort("10.0.0.2:40000")

func pairInput() (names, values [][]byte, in, out *http.Request) {
	in, _ = http.NewRequest(http.MethodGet, "http://user/login", nil)
	out, _ = http.NewRequest(http.MethodGet, "http://user/login", nil)
	for _, h := range pairHeaders {
		names, values = append(names, []byte(h[0])), append(values, []byte(h[1]))
		in.Header.Set(h[0], h[1])
	}
	return names, values, in, out
}

// BenchmarkPair compares the pair up to and including its encoding as JSON. zipkin-go
// encodes by its model's MarshalJSON, batches of a thousand, as its HTTP reporter does.
func BenchmarkPair(b *testing.B) {
	names, values, in, out := pairInput()
	b.Run("goms", func(b *testing.B) {
		r := newReporter(b, trace.ReporterConfig{})
		tr := newTracer(r)
		var c trace.Carrier
		head := make([]byte, 0, 512)
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			head = gomsPair(tr, &c, names, values, head)
			if i += 2; i%trace.DefaultBatchSize == 0 {
				r.Drain()
			}
		}
		noDrops(b, r)
	})
	b.Run("zipkin-go", func(b *testing.B) {
		tr := zipkinTracer(b, &batches{})
		b.ReportAllocs()
		for b.Loop() {
			zipkinPair(tr, in, out)
		}
	})
}

// BenchmarkPairReported compares the pair with each side's reporter posting to a
// transport that discards. Both drop what they cannot keep up with; sent/op says how many
// of the two spans arrived.
func BenchmarkPairReported(b *testing.B) {
	names, values, in, out := pairInput()
	b.Run("goms", func(b *testing.B) {
		posts := &discard{}
		r := newReporter(b, trace.ReporterConfig{})
		r.SetTransport(posts)
		tr := newTracer(r)
		ended := make(chan error)
		go func() { ended <- r.Run(b.Context()) }()
		var c trace.Carrier
		head := make([]byte, 0, 512)
		b.ReportAllocs()
		for b.Loop() {
			head = gomsPair(tr, &c, names, values, head)
		}
		_ = r.Close()
		<-ended
		b.ReportMetric(float64(posts.spans.Load())/float64(b.N), "sent/op")
	})
	b.Run("zipkin-go", func(b *testing.B) {
		posts := &discard{}
		rep := zipkinhttp.NewReporter(collector, zipkinhttp.Client(&http.Client{Transport: posts}),
			zipkinhttp.BatchSize(trace.DefaultBatchSize), zipkinhttp.MaxBacklog(trace.DefaultQueueSize),
			zipkinhttp.Logger(log.New(io.Discard, "", 0)))
		tr := zipkinTracer(b, rep)
		b.ReportAllocs()
		for b.Loop() {
			zipkinPair(tr, in, out)
		}
		_ = rep.Close()
		b.ReportMetric(float64(posts.spans.Load())/float64(b.N), "sent/op")
	})
}

func zipkinTracer(b *testing.B, r reporter.Reporter) *zipkin.Tracer {
	b.Helper()
	tr, err := zipkin.NewTracer(r, zipkin.WithLocalEndpoint(&model.Endpoint{ServiceName: "gateway"}),
		zipkin.WithSharedSpans(false), zipkin.WithTraceID128Bit(true))
	if err != nil {
		b.Fatal(err)
	}
	return tr
}

func noDrops(b *testing.B, r *trace.Reporter) {
	b.Helper()
	if _, dropped := r.Stats(); dropped != 0 {
		b.Errorf("dropped %d spans: the figure is too good", dropped)
	}
}

// batches encodes as zipkin-go's HTTP reporter does, in the caller's goroutine.
type batches struct{ spans []*model.SpanModel }

func (r *batches) Send(s model.SpanModel) {
	r.spans = append(r.spans, &s)
	if len(r.spans) == trace.DefaultBatchSize {
		if _, err := (reporter.JSONSerializer{}).Serialize(r.spans); err != nil {
			panic("BUG: " + err.Error())
		}
		r.spans = r.spans[:0]
	}
}

func (*batches) Close() error { return nil }

// discard takes everything and counts it. It is used by one goroutine at a time.
type discard struct {
	spans atomic.Int64
	buf   bytes.Buffer
}

func (d *discard) RoundTrip(req *http.Request) (*http.Response, error) {
	d.buf.Reset()
	_, err := d.buf.ReadFrom(req.Body)
	_ = req.Body.Close()
	if err != nil {
		return nil, err
	}
	d.spans.Add(int64(bytes.Count(d.buf.Bytes(), []byte(`"traceId"`))))
	return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody, Request: req}, nil
}
