package trace

// Sampling is the decision whether the spans of a trace are reported.
type Sampling uint8

// The decisions. Keep and Debug report, Drop does not.
const (
	// Undecided leaves the decision to the next one who sees the trace.
	Undecided Sampling = iota
	// Drop reports nothing.
	Drop
	// Keep reports all spans.
	Keep
	// Debug is Keep, marked so that collectors do not sample it away either.
	Debug
)

// Sampled reports whether spans are to be reported: Keep or Debug.
func (s Sampling) Sampled() bool { return s >= Keep }

// String returns "undecided", "drop", "keep" or "debug".
func (s Sampling) String() string {
	switch s {
	case Drop:
		return "drop"
	case Keep:
		return "keep"
	case Debug:
		return "debug"
	}
	return "undecided"
}

// Context is what one span passes to the next: a comparable value. The zero Context
// is no trace; one with a Sampling but no ids is a bare decision for the trace that
// the next one starts. ParentID is zero for the root of a trace, and unknown (zero)
// when the context came by traceparent.
type Context struct {
	TraceID          TraceID
	SpanID, ParentID SpanID
	Sampling         Sampling
}

// Valid reports whether c names a span: neither its trace id nor its span id is zero.
func (c Context) Valid() bool { return !c.TraceID.IsZero() && c.SpanID != 0 }

// AppendHeaders appends the B3 multi and the traceparent header lines, each ended by
// CRLF, to dst. A bare decision is one B3 line; the zero Context appends nothing. It
// does not allocate when dst has room for 256 bytes.
func (c Context) AppendHeaders(dst []byte) []byte {
	if !c.Valid() {
		return c.appendDecision(dst)
	}
	dst = append(dst, "X-B3-TraceId: "...)
	dst = c.TraceID.AppendHex(dst)
	dst = append(dst, "\r\nX-B3-SpanId: "...)
	dst = c.SpanID.AppendHex(dst)
	if c.ParentID != 0 {
		dst = append(dst, "\r\nX-B3-ParentSpanId: "...)
		dst = c.ParentID.AppendHex(dst)
	}
	dst = append(dst, '\r', '\n')
	dst = c.appendDecision(dst)
	dst = append(dst, "traceparent: "...)
	dst = c.appendTraceparent(dst)
	return append(dst, '\r', '\n')
}

// Inject calls set with the name and value of each header that AppendHeaders writes,
// in the same order. http.Header.Set and, since names are case-insensitive,
// gRPC's metadata.MD adapted to one value are suitable.
func (c Context) Inject(set func(name, value string)) {
	valid := c.Valid()
	if valid {
		set("X-B3-TraceId", c.TraceID.String())
		set("X-B3-SpanId", c.SpanID.String())
		if c.ParentID != 0 {
			set("X-B3-ParentSpanId", c.ParentID.String())
		}
	}
	switch c.Sampling {
	case Drop:
		set("X-B3-Sampled", "0")
	case Keep:
		set("X-B3-Sampled", "1")
	case Debug:
		set("X-B3-Flags", "1")
	}
	if valid {
		var buf [traceparentLen]byte
		set("traceparent", string(c.appendTraceparent(buf[:0])))
	}
}

// appendDecision appends the B3 line of the decision. Debug implies Keep, so it goes
// without X-B3-Sampled, as B3 asks.
func (c Context) appendDecision(dst []byte) []byte {
	switch c.Sampling {
	case Drop:
		return append(dst, "X-B3-Sampled: 0\r\n"...)
	case Keep:
		return append(dst, "X-B3-Sampled: 1\r\n"...)
	case Debug:
		return append(dst, "X-B3-Flags: 1\r\n"...)
	}
	return dst
}

func (c Context) appendTraceparent(dst []byte) []byte {
	dst = append(dst, "00-"...)
	dst = appendHex64(dst, c.TraceID.Hi)
	dst = appendHex64(dst, c.TraceID.Lo)
	dst = append(dst, '-')
	dst = c.SpanID.AppendHex(dst)
	if c.Sampling.Sampled() {
		return append(dst, "-01"...)
	}
	return append(dst, "-00"...)
}
