package trace

// traceparentLen is the length of a traceparent of version 00:
// 00-<32 digits>-<16 digits>-<2 digits>.
const traceparentLen = 55

func (c *Carrier) readTraceparent(value []byte) {
	if c.w3c.seen {
		c.w3c.ok = false // two of them contradict each other
		return
	}
	c.w3c.seen = true
	c.w3c.ctx, c.w3c.ok = parseTraceparent(trim(value))
}

// parseTraceparent reads any version but ff. One after 00 may go on after the flags,
// with a dash; of it only the parts of version 00 are used.
// See https://www.w3.org/TR/trace-context/#versioning-of-traceparent.
func parseTraceparent(s []byte) (c Context, ok bool) {
	if len(s) < traceparentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Context{}, false
	}
	version, ok := parseLowerHex64(s[:2])
	switch {
	case !ok || version == 0xff:
		return Context{}, false
	case len(s) == traceparentLen:
	case version == 0 || s[traceparentLen] != '-':
		return Context{}, false
	}
	if c.TraceID.Hi, ok = parseLowerHex64(s[3:19]); !ok {
		return Context{}, false
	}
	if c.TraceID.Lo, ok = parseLowerHex64(s[19:35]); !ok {
		return Context{}, false
	}
	span, ok := parseLowerHex64(s[36:52])
	if !ok {
		return Context{}, false
	}
	flags, ok := parseLowerHex64(s[53:55])
	if !ok {
		return Context{}, false
	}
	c.SpanID, c.Sampling = SpanID(span), Drop
	if flags&1 != 0 {
		c.Sampling = Keep
	}
	return c, c.Valid()
}

const (
	maxTracestate        = 512
	maxTracestateEntries = 32
	maxTracestateKey     = 256
	maxTracestateValue   = 256
)

// tracestate is a bounded copy of the tracestate entries, joined by commas.
type tracestate struct {
	len, entries int
	bad          bool // an entry is malformed: nothing is passed on
	buf          [maxTracestate]byte
}

func (t *tracestate) reset() { t.len, t.entries, t.bad = 0, 0, false }

// read adds the entries of one header; several headers are one list. An entry that
// no longer fits is left out, later and shorter ones may still fit.
func (t *tracestate) read(value []byte) {
	for len(value) > 0 && !t.bad {
		end := 0
		for end < len(value) && value[end] != ',' {
			end++
		}
		t.add(trim(value[:end]))
		value = value[min(end+1, len(value)):]
	}
}

func (t *tracestate) add(entry []byte) {
	if len(entry) == 0 {
		return // the list may have empty entries
	}
	t.entries++
	if t.entries > maxTracestateEntries || !validEntry(entry) {
		t.bad = true
		return
	}
	n := t.len
	if n > 0 {
		n++
	}
	if n+len(entry) > len(t.buf) {
		return
	}
	if t.len > 0 {
		t.buf[t.len] = ','
	}
	t.len = n + copy(t.buf[n:], entry)
}

// validEntry checks key=value: a key of lower-case letters, digits and _-*/@ that
// begins with a letter or digit, and a printable value without comma, equals sign and
// blank at its end. Nothing that could end a header line passes.
func validEntry(s []byte) bool {
	eq := 0
	for eq < len(s) && s[eq] != '=' {
		eq++
	}
	if eq == len(s) || eq == 0 || eq > maxTracestateKey {
		return false
	}
	for i, b := range s[:eq] {
		switch {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9':
		case i > 0 && (b == '_' || b == '-' || b == '*' || b == '/' || b == '@'):
		default:
			return false
		}
	}
	value := s[eq+1:]
	if len(value) == 0 || len(value) > maxTracestateValue {
		return false
	}
	for _, b := range value {
		if b < 0x20 || b > 0x7e || b == '=' {
			return false
		}
	}
	return true
}
