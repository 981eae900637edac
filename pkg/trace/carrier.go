package trace

import "net/http"

// Carrier collects the trace headers of one message, in any order, and says which
// trace they name. The zero value is ready; Reset makes a used one ready again. It
// holds parsed values, no views of what it was given, and allocates nothing. It is
// not safe for concurrent use.
//
// A format that is malformed counts as absent. A repeated B3 header counts once, the
// first (as B3 says); a repeated traceparent is malformed (as W3C says).
type Carrier struct {
	single, w3c format
	multi       multi
	state       tracestate
}

// format is what one header that carries everything said.
type format struct {
	ctx  Context
	seen bool
	ok   bool // well formed
}

// Reset forgets all headers.
func (c *Carrier) Reset() {
	c.single, c.w3c, c.multi = format{}, format{}, multi{}
	c.state.reset()
}

// Header takes one header of the message and reports whether it is a trace header,
// which then must not be passed on as it is: b3, X-B3-TraceId, X-B3-SpanId,
// X-B3-ParentSpanId, X-B3-Sampled, X-B3-Flags, traceparent or tracestate, in any
// case. It is true for malformed ones also. Neither slice is kept.
func (c *Carrier) Header(name, value []byte) (consumed bool) {
	switch len(name) {
	case 2:
		if isName(name, "b3") {
			c.readSingle(value)
			return true
		}
	case 10:
		if isName(name, "x-b3-flags") {
			c.multi.readFlags(value)
			return true
		}
		if isName(name, "tracestate") {
			c.state.read(value)
			return true
		}
	case 11:
		if isName(name, "x-b3-spanid") {
			c.multi.readSpanID(value)
			return true
		}
		if isName(name, "traceparent") {
			c.readTraceparent(value)
			return true
		}
	case 12:
		if isName(name, "x-b3-traceid") {
			c.multi.readTraceID(value)
			return true
		}
		if isName(name, "x-b3-sampled") {
			c.multi.readSampled(value)
			return true
		}
	case 17:
		if isName(name, "x-b3-parentspanid") {
			c.multi.readParentSpanID(value)
			return true
		}
	}
	return false
}

// Context returns the context that the headers name, and whether they name one. The
// first well-formed format with ids wins whole, in the order B3 single, B3 multi,
// traceparent. A bare decision ("b3: 0", or X-B3-Sampled alone) overrides the
// decision of a format after it; with no ids anywhere it is the Sampling of the
// Context that is returned with false.
func (c *Carrier) Context() (Context, bool) {
	decision := Undecided
	if c.single.ok {
		if c.single.ctx.Valid() {
			return c.single.ctx, true
		}
		decision = c.single.ctx.Sampling
	}
	if c.multi.seen != 0 {
		if ctx := c.multi.context(); ctx.Valid() {
			return ctx.decided(decision), true
		} else if decision == Undecided {
			decision = ctx.Sampling
		}
	}
	if c.w3c.ok {
		return c.w3c.ctx.decided(decision), true
	}
	return Context{Sampling: decision}, false
}

// Tracestate returns the tracestate to pass on with any context of this trace, ""
// for none. It belongs to traceparent: it is given only when traceparent names the
// span that Context returns, alone or beside B3. It is valid, of 32 entries and 512
// bytes at most: an invalid one is discarded, and entries beyond the 512 bytes are
// left out.
func (c *Carrier) Tracestate() string { return string(c.tracestate()) }

// AppendTracestate appends the tracestate header line with its CRLF to dst, nothing
// when there is none to pass on.
func (c *Carrier) AppendTracestate(dst []byte) []byte {
	state := c.tracestate()
	if len(state) == 0 {
		return dst
	}
	dst = append(dst, "tracestate: "...)
	dst = append(dst, state...)
	return append(dst, '\r', '\n')
}

// Extract takes all trace headers from get, which returns the values of a header by
// name: http.Header.Values and gRPC's metadata.MD.Get are suitable. It is for code
// off the hot path.
func (c *Carrier) Extract(get func(name string) []string) {
	for _, name := range headerNames {
		for _, value := range get(name) {
			c.Header([]byte(name), []byte(value))
		}
	}
}

// FromHTTP returns what a Carrier that was given h returns as its Context. It
// allocates little; the hot path uses a Carrier.
func FromHTTP(h http.Header) (Context, bool) {
	var c Carrier
	c.Extract(h.Values)
	return c.Context()
}

var headerNames = [...]string{
	"b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags",
	"traceparent", "tracestate",
}

func (c *Carrier) tracestate() []byte {
	if c.state.len == 0 || c.state.bad {
		return nil
	}
	ctx, _ := c.Context()
	parent := c.w3c.ctx
	if !c.w3c.ok || parent.TraceID != ctx.TraceID || parent.SpanID != ctx.SpanID {
		return nil
	}
	return c.state.buf[:c.state.len]
}

// decided returns c with the decision of a format before it, if that made one.
func (c Context) decided(decision Sampling) Context {
	if decision != Undecided {
		c.Sampling = decision
	}
	return c
}

// isName compares a header name with one that is already in lower case.
func isName(name []byte, lower string) bool {
	for i, b := range name {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != lower[i] {
			return false
		}
	}
	return true
}

// trim cuts the optional white space around a header value.
func trim(s []byte) []byte {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
