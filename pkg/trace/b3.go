package trace

// multi is what the five B3 headers said. Ids may be in upper case too: B3 asks for
// lower case, zipkin-go and others read both.
type multi struct {
	traceID          TraceID
	spanID, parentID SpanID
	sampling         Sampling
	debug            bool
	seen             uint8 // bits of the headers that were there
	bad              bool  // one of them is malformed
}

const (
	seenTraceID = 1 << iota
	seenSpanID
	seenParentSpanID
	seenSampled
	seenFlags
)

// first marks a header as seen and returns its value; ok is false for the empty
// value, which counts as absent, and for all but the first occurrence.
func (m *multi) first(bit uint8, value []byte) (v []byte, ok bool) {
	if v = trim(value); len(v) == 0 || m.seen&bit != 0 {
		return nil, false
	}
	m.seen |= bit
	return v, true
}

func (m *multi) readTraceID(value []byte) {
	if v, ok := m.first(seenTraceID, value); ok {
		m.traceID, ok = parseTraceID(v)
		m.bad = m.bad || !ok
	}
}

func (m *multi) readSpanID(value []byte) {
	if v, ok := m.first(seenSpanID, value); ok {
		m.spanID, ok = parseSpanID(v)
		m.bad = m.bad || !ok || m.spanID == 0
	}
}

// readParentSpanID takes an all-zero parent for none, which some tracers write.
func (m *multi) readParentSpanID(value []byte) {
	if v, ok := m.first(seenParentSpanID, value); ok {
		m.parentID, ok = parseSpanID(v)
		m.bad = m.bad || !ok
	}
}

func (m *multi) readSampled(value []byte) {
	v, ok := m.first(seenSampled, value)
	if !ok {
		return
	}
	if len(v) == 1 {
		m.sampling = decisionOf(v[0])
	} else if len(v) == 4 && isName(v, "true") {
		m.sampling = Keep // written before B3 was specified
	} else if len(v) == 5 && isName(v, "false") {
		m.sampling = Drop
	}
	m.bad = m.bad || m.sampling == Undecided
}

// readFlags ignores everything but "1": B3 knows no other flag.
func (m *multi) readFlags(value []byte) {
	if v, ok := m.first(seenFlags, value); ok {
		m.debug = len(v) == 1 && v[0] == '1'
	}
}

// context returns the zero Context for malformed headers: a trace id without a span
// id, or the other way round, or a parent without both.
func (m *multi) context() Context {
	if m.bad {
		return Context{}
	}
	sampling := m.sampling
	if m.debug {
		sampling = Debug
	}
	switch m.seen & (seenTraceID | seenSpanID) {
	case 0:
		if m.seen&seenParentSpanID != 0 {
			return Context{}
		}
		return Context{Sampling: sampling}
	case seenTraceID | seenSpanID:
		return Context{TraceID: m.traceID, SpanID: m.spanID, ParentID: m.parentID, Sampling: sampling}
	}
	return Context{}
}

func (c *Carrier) readSingle(value []byte) {
	v := trim(value)
	if len(v) == 0 || c.single.seen {
		return
	}
	c.single.seen = true
	c.single.ctx, c.single.ok = parseSingle(v)
}

// parseSingle reads a decision alone ("0", "1", "d"), or
// traceid-spanid[-decision][-parentspanid].
func parseSingle(s []byte) (c Context, ok bool) {
	if len(s) == 1 {
		c.Sampling = decisionOf(s[0])
		return c, c.Sampling != Undecided
	}
	end := 16
	if len(s) > 32 && s[32] == '-' {
		end = 32
	}
	if len(s) < end+1+16 || s[end] != '-' {
		return Context{}, false
	}
	if c.TraceID, ok = parseTraceID(s[:end]); !ok {
		return Context{}, false
	}
	s = s[end+1:]
	if c.SpanID, ok = parseSpanID(s[:16]); !ok || c.SpanID == 0 {
		return Context{}, false
	}
	s = s[16:]
	if len(s) == 2 || len(s) == 2+1+16 {
		if s[0] != '-' {
			return Context{}, false
		}
		if c.Sampling = decisionOf(s[1]); c.Sampling == Undecided {
			return Context{}, false
		}
		s = s[2:]
	}
	if len(s) == 0 {
		return c, true
	}
	if len(s) != 1+16 || s[0] != '-' {
		return Context{}, false
	}
	if c.ParentID, ok = parseSpanID(s[1:]); !ok {
		return Context{}, false
	}
	return c, true
}

// decisionOf returns Undecided for what is no B3 decision.
func decisionOf(b byte) Sampling {
	switch b {
	case '0':
		return Drop
	case '1':
		return Keep
	case 'd':
		return Debug
	}
	return Undecided
}

// parseTraceID reads 16 or 32 digits, not all zero.
func parseTraceID(s []byte) (id TraceID, ok bool) {
	switch len(s) {
	case 32:
		if id.Hi, ok = parseHex64(s[:16]); !ok {
			return TraceID{}, false
		}
		s = s[16:]
	case 16:
	default:
		return TraceID{}, false
	}
	if id.Lo, ok = parseHex64(s); !ok || id.IsZero() {
		return TraceID{}, false
	}
	return id, true
}

// parseSpanID reads 16 digits, which may be zero.
func parseSpanID(s []byte) (SpanID, bool) {
	if len(s) != 16 {
		return 0, false
	}
	v, ok := parseHex64(s)
	return SpanID(v), ok
}
