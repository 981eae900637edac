package trace

import (
	"net/netip"
)

// Options configure a Tracer.
type Options struct {
	Service    string         // the name of this end in all spans
	LocalAddr  netip.AddrPort // the address of this end; the zero value leaves it out
	SampleRate float64        // the share of traces to keep that nobody has decided on: 0 none, 1 all
	Reporter   *Reporter      // where spans go; nil keeps contexts passing on and reports nothing
}

// Tracer starts, continues and records spans by value. All methods are safe for
// concurrent use, do not block, take no lock and do not allocate.
//
// A nil Tracer adds no spans: it hands on contexts as they came, so that a trace
// survives a program which does not trace.
type Tracer struct {
	sample   sampler
	local    *endpoint
	reporter *Reporter
	queue    *ring[record]
}

// endpoint is the encoded ,"localEndpoint":{…} part of a span.
type endpoint []byte

// record is a span in the ring.
type record struct {
	span  Span
	local *endpoint
}

// NewTracer returns a Tracer. Several tracers may share a Reporter. A sample rate
// outside of 0 to 1 is taken as the nearer of the two.
func NewTracer(o Options) *Tracer {
	local := endpoint(appendEndpoint(nil, "localEndpoint", o.Service, o.LocalAddr))
	t := &Tracer{sample: newSampler(o.SampleRate), local: &local, reporter: o.Reporter}
	if o.Reporter != nil {
		t.queue = o.Reporter.spanRing()
	}
	return t
}

// Start returns the context of a new server span: a child of the context that c
// carries, or the root of a new trace with a 128-bit id. The sampling decision of c
// is kept; without one it is made here, by the trace id, for the whole trace. c may
// be nil.
func (t *Tracer) Start(c *Carrier) Context {
	var ctx Context
	ok := false
	if c != nil {
		ctx, ok = c.Context()
	}
	if t == nil {
		return ctx
	}
	if ok {
		ctx.ParentID = ctx.SpanID
	} else {
		ctx.TraceID = newTraceID()
	}
	ctx.SpanID = newSpanID()
	if ctx.Sampling == Undecided {
		ctx.Sampling = Drop
		if t.sample.keeps(ctx.TraceID.Lo) {
			ctx.Sampling = Keep
		}
	}
	return ctx
}

// Child returns the context of a new span whose parent is c. A context without ids
// has no children and is returned as it is.
func (t *Tracer) Child(c Context) Context {
	if t == nil || !c.Valid() {
		return c
	}
	c.ParentID, c.SpanID = c.SpanID, newSpanID()
	return c
}

// Record queues a copy of s for the Reporter when s is sampled. When the queue is
// full, or the Reporter closed, s is dropped and counted.
func (t *Tracer) Record(s *Span) {
	if t == nil || t.queue == nil || !s.Sampling.Sampled() {
		return
	}
	// A collector refuses the whole batch for one span without ids.
	if t.reporter.closed.Load() || !s.Valid() {
		t.reporter.dropped.Add(1)
		return
	}
	slot, pos := t.queue.reserve()
	if slot == nil {
		t.reporter.dropped.Add(1)
		return
	}
	slot.val.span, slot.val.local = *s, t.local
	slot.publish(pos)
	t.reporter.queued(pos)
}

// sampler decides by the low 56 bits of the trace id, which are random in all
// generators (zipkin-go's leave the top bit of 64 clear), so that everybody who
// samples at the same rate decides alike.
type sampler struct{ threshold uint64 }

const sampleBits = 56

func newSampler(rate float64) sampler {
	switch {
	case rate >= 1:
		return sampler{0}
	case rate > 0:
		return sampler{uint64((1 - rate) * (1 << sampleBits))}
	}
	return sampler{1 << sampleBits} // 0, less, or not a number
}

func (s sampler) keeps(low uint64) bool { return low&(1<<sampleBits-1) >= s.threshold }
