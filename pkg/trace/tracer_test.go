package trace_test

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/trace"
)

const collector = "http://127.0.0.1:9411/api/v2/spans"

func newReporter(t testing.TB, c trace.ReporterConfig) *trace.Reporter {
	t.Helper()
	if c.URL == "" {
		c.URL = collector
	}
	r, err := trace.NewReporter(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newTracer(r *trace.Reporter) *trace.Tracer {
	return trace.NewTracer(trace.Options{Service: "gateway", SampleRate: 1, Reporter: r})
}

func sampled(n int) *trace.Span {
	return &trace.Span{
		Context: ctx(hi, lo, trace.SpanID(n), 0, trace.Keep), Name: "get", Method: "GET", Route: "/api/user/login",
		RemoteService: "user", Start: time.Unix(1700000000, 0), Duration: time.Millisecond, Status: 200, Attempt: 1,
	}
}

func TestStartJoins(t *testing.T) {
	in := ctx(hi, lo, 7, 6, trace.Debug)
	got := tracer.Start(reread(t, in.AppendHeaders(nil)))
	if got.TraceID != in.TraceID || got.ParentID != in.SpanID || got.Sampling != trace.Debug {
		t.Errorf("Start() = %+v, want a child of %+v", got, in)
	}
	if got.SpanID == 0 || got.SpanID == in.SpanID || got.SpanID == in.ParentID {
		t.Errorf("Start() has span id %v, want a new one", got.SpanID)
	}
	child := tracer.Child(got)
	if want := (trace.Context{TraceID: got.TraceID, SpanID: child.SpanID, ParentID: got.SpanID, Sampling: got.Sampling}); child != want || child.SpanID == got.SpanID {
		t.Errorf("Child() = %+v, want %+v", child, want)
	}
	if got := tracer.Child(trace.Context{Sampling: trace.Drop}); got != (trace.Context{Sampling: trace.Drop}) {
		t.Errorf("Child() of no span = %+v", got)
	}
}

func TestStartMakesRoots(t *testing.T) {
	seen := map[trace.TraceID]bool{}
	for range 1000 {
		got := tracer.Start(nil)
		if !got.Valid() || got.TraceID.Hi == 0 || got.TraceID.Lo == 0 || got.ParentID != 0 || got.Sampling == trace.Undecided || seen[got.TraceID] {
			t.Fatalf("Start() = %+v, want a new root", got)
		}
		seen[got.TraceID] = true
	}
	f := func(rate float64, header string, want trace.Sampling) {
		t.Helper()
		got := trace.NewTracer(trace.Options{SampleRate: rate}).Start(carry(t, header))
		if got.Sampling != want || !got.Valid() || got.ParentID != 0 {
			t.Errorf("Start() with rate %v of %q = %+v, want a root with %v", rate, header, got, want)
		}
	}
	for _, rate := range []float64{1, 2, math.Inf(1)} {
		f(rate, "b3: broken", trace.Keep)
		f(rate, "b3: 0", trace.Drop)
	}
	for _, rate := range []float64{0, -1, math.NaN()} {
		f(rate, "tracestate: a=1", trace.Drop)
		f(rate, "b3: 1", trace.Keep)
		f(rate, "X-B3-Flags: 1", trace.Debug)
	}
}

func TestSamplingShareAndAgreement(t *testing.T) {
	const n, rate = 20000, 0.1
	one := trace.NewTracer(trace.Options{SampleRate: rate})
	other := trace.NewTracer(trace.Options{SampleRate: rate})
	kept := 0
	for range n {
		root := one.Start(nil)
		if root.Sampling == trace.Keep {
			kept++
		}
		undecided := root
		undecided.Sampling = trace.Undecided
		if got := other.Start(reread(t, undecided.AppendHeaders(nil))); got.Sampling != root.Sampling {
			t.Fatalf("trace %v is %v here and %v there", root.TraceID, root.Sampling, got.Sampling)
		}
	}
	// Six standard deviations.
	if d := 6 * math.Sqrt(n*rate*(1-rate)); math.Abs(float64(kept)-n*rate) > d {
		t.Errorf("kept %d of %d traces, want %v ± %v", kept, n, n*rate, d)
	}
}

func TestNilTracerHandsOn(t *testing.T) {
	var none *trace.Tracer
	in := ctx(hi, lo, 7, 6, trace.Undecided)
	got := none.Child(none.Start(reread(t, in.AppendHeaders(nil))))
	if got != in {
		t.Errorf("a nil tracer made %+v of %+v", got, in)
	}
	if got := none.Start(nil); got != (trace.Context{}) {
		t.Errorf("a nil tracer started %+v", got)
	}
	none.Record(sampled(1))
	newTracer(nil).Record(sampled(1)) // no reporter
}

func TestRecordOnlySampled(t *testing.T) {
	r := newReporter(t, trace.ReporterConfig{})
	tr := newTracer(r)
	for _, s := range []trace.Sampling{trace.Undecided, trace.Drop, trace.Keep, trace.Debug} {
		span := sampled(1)
		span.Sampling = s
		tr.Record(span)
	}
	if got := r.Drain(); got != 2 {
		t.Errorf("recorded %d spans, want 2", got)
	}
	tr.Record(&trace.Span{Context: trace.Context{Sampling: trace.Keep}})
	if _, dropped := r.Stats(); dropped != 1 || r.Drain() != 0 {
		t.Errorf("a span without ids: dropped %d, want 1", dropped)
	}
}

func TestRecordBound(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5, 8, 100} {
		r := newReporter(t, trace.ReporterConfig{QueueSize: size})
		tr := newTracer(r)
		for range 3 { // rounds of the ring
			_, before := r.Stats()
			for i := range size + 7 {
				tr.Record(sampled(i + 1))
			}
			if _, dropped := r.Stats(); dropped-before != 7 {
				t.Errorf("queue of %d: dropped %d, want 7", size, dropped-before)
			}
			if got := r.Drain(); got != size {
				t.Errorf("queue of %d: kept %d", size, got)
			}
		}
	}
}

// TestRecordConcurrently has many producers and one consumer: every span is either
// taken or counted as dropped.
func TestRecordConcurrently(t *testing.T) {
	for _, size := range []int{4, 100, 1 << 14} {
		r := newReporter(t, trace.ReporterConfig{QueueSize: size, BatchSize: 64})
		const producers, each = 8, 2000
		var wg sync.WaitGroup
		for range producers {
			wg.Go(func() {
				tr := newTracer(r)
				for i := range each {
					tr.Record(sampled(i + 1))
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		taken := 0
		for finished := false; !finished; {
			select {
			case <-done:
				finished = true
			default:
			}
			taken += r.Drain()
		}
		for n := r.Drain(); n > 0; n = r.Drain() {
			taken += n
		}
		if _, dropped := r.Stats(); taken+int(dropped) != producers*each {
			t.Errorf("queue of %d: took %d and dropped %d of %d", size, taken, dropped, producers*each)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	r := newReporter(t, trace.ReporterConfig{QueueSize: 64})
	tr := newTracer(r)
	names := [][]byte{[]byte("X-B3-TraceId"), []byte("x-b3-spanid"), []byte("X-B3-Sampled"), []byte("Traceparent"), []byte("tracestate"), []byte("b3"), []byte("Host")}
	values := [][]byte{[]byte(long), []byte(span), []byte("1"), []byte("00-" + long + "-" + span + "-01"), []byte("a=1,b=2"), []byte(long + "-" + span + "-1"), []byte("x")}
	var c trace.Carrier
	parse := func() {
		c.Reset()
		for i := range names {
			c.Header(names[i], values[i])
		}
		c.Context()
	}
	parse()
	server := tr.Start(&c)
	dst := make([]byte, 0, 1024)
	s := sampled(1)
	f := func(name string, fn func()) {
		t.Helper()
		if n := testing.AllocsPerRun(200, fn); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	f("Carrier", parse)
	f("AppendHeaders", func() { _ = c.AppendTracestate(server.AppendHeaders(dst[:0])) })
	f("Start", func() { server = tr.Start(&c) })
	f("Start of a root", func() { tr.Start(nil) })
	f("Child", func() { _ = tr.Child(server) })
	f("Record", func() { tr.Record(s) }) // also when the queue is full
	r.Drain()
	f("Record and encode", func() { tr.Record(s); r.Drain() })
}
