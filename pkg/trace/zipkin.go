package trace

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"
)

// NewZipkinTracer returns a zipkin-go tracer that reports to r, for programs whose own
// cost dwarfs zipkin-go's. It makes 128-bit trace ids, never shares a span id between
// client and server, and samples undecided traces as Tracer does. A zero local leaves
// the address out. With a nil r the tracer is zipkin-go's no-op: it hands on the
// context it is given as parent.
func NewZipkinTracer(service string, local netip.AddrPort, sampleRate float64, r *Reporter) (*zipkin.Tracer, error) {
	if service == "" {
		return nil, errors.New("make zipkin tracer: no service name")
	}
	if !(sampleRate >= 0 && sampleRate <= 1) { // refuses NaN too
		return nil, fmt.Errorf("make zipkin tracer for %q: sample rate %v is not in 0 to 1", service, sampleRate)
	}
	options := []zipkin.TracerOption{
		zipkin.WithLocalEndpoint(modelEndpoint(service, local)),
		zipkin.WithSharedSpans(false),
		zipkin.WithIDGenerator(generator{}),
		zipkin.WithSampler(newSampler(sampleRate).keeps),
		zipkin.WithNoopSpan(true),
	}
	if r == nil { // a nil *Reporter in the interface would not be a nil interface
		return zipkin.NewTracer(nil, options...)
	}
	return zipkin.NewTracer(r, options...)
}

// Zipkin returns c as zipkin-go's span context, fit for zipkin.Parent. A bare decision
// makes zipkin-go start a trace with that decision.
func (c Context) Zipkin() model.SpanContext {
	var sc model.SpanContext
	if c.Valid() {
		sc.TraceID = model.TraceID{High: c.TraceID.Hi, Low: c.TraceID.Lo}
		sc.ID = model.ID(c.SpanID)
		if c.ParentID != 0 {
			parent := model.ID(c.ParentID)
			sc.ParentID = &parent
		}
	}
	switch c.Sampling {
	case Debug:
		sc.Debug = true
	case Keep, Drop:
		sampled := c.Sampling == Keep
		sc.Sampled = &sampled
	}
	return sc
}

// FromZipkin is the reverse of Context.Zipkin, for the context of a zipkin-go span. A
// context with an extraction error is the zero Context.
func FromZipkin(sc model.SpanContext) Context {
	if sc.Err != nil {
		return Context{}
	}
	c := Context{TraceID: TraceID{Hi: sc.TraceID.High, Lo: sc.TraceID.Low}, SpanID: SpanID(sc.ID)}
	if sc.ParentID != nil {
		c.ParentID = SpanID(*sc.ParentID)
	}
	switch {
	case sc.Debug:
		c.Sampling = Debug
	case sc.Sampled != nil && *sc.Sampled:
		c.Sampling = Keep
	case sc.Sampled != nil:
		c.Sampling = Drop
	}
	return c
}

// generator replaces zipkin-go's ids, which come from one locked source that is seeded
// by the clock.
type generator struct{}

// TraceID implements zipkin-go's IDGenerator.
func (generator) TraceID() model.TraceID {
	id := newTraceID()
	return model.TraceID{High: id.Hi, Low: id.Lo}
}

// SpanID implements zipkin-go's IDGenerator.
func (generator) SpanID(model.TraceID) model.ID { return model.ID(newSpanID()) }
