package trace_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/trace"
)

const (
	hi     = 0x80f198ee56343ba8
	lo     = 0x64fe8b2a57d3eff7
	long   = "80f198ee56343ba864fe8b2a57d3eff7"
	short  = "64fe8b2a57d3eff7"
	span   = "e457b5a2e4d86bd1"
	parent = "05e3ac9a4f6e3b90"
	zero16 = "0000000000000000"
	zero32 = zero16 + zero16
)

func ctx(hi, lo uint64, span, parent trace.SpanID, s trace.Sampling) trace.Context {
	return trace.Context{TraceID: trace.TraceID{Hi: hi, Lo: lo}, SpanID: span, ParentID: parent, Sampling: s}
}

// carry feeds header lines "name: value" to a carrier.
func carry(t *testing.T, lines ...string) *trace.Carrier {
	t.Helper()
	var c trace.Carrier
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		if !c.Header([]byte(name), []byte(value)) {
			t.Errorf("Header(%q) = false, want true", name)
		}
	}
	return &c
}

func TestCarrierContext(t *testing.T) {
	f := func(want trace.Context, lines ...string) {
		t.Helper()
		c := carry(t, lines...)
		got, ok := c.Context()
		if got != want || ok != want.Valid() {
			t.Errorf("Context() of %q = %+v, %v; want %+v, %v", lines, got, ok, want, want.Valid())
		}
	}
	none := trace.Context{}
	drop, keep, debug := trace.Context{Sampling: trace.Drop}, trace.Context{Sampling: trace.Keep}, trace.Context{Sampling: trace.Debug}
	const spanN, parentN = 0xe457b5a2e4d86bd1, 0x05e3ac9a4f6e3b90
	f(none)

	// B3 single
	f(ctx(hi, lo, spanN, parentN, trace.Keep), "b3: "+long+"-"+span+"-1-"+parent)
	f(ctx(hi, lo, spanN, 0, trace.Drop), "B3: "+long+"-"+span+"-0")
	f(ctx(hi, lo, spanN, 0, trace.Debug), "b3: "+long+"-"+span+"-d")
	f(ctx(hi, lo, spanN, 0, trace.Undecided), "b3: "+long+"-"+span)
	f(ctx(0, lo, spanN, 0, trace.Undecided), "b3: "+short+"-"+span)
	f(ctx(0, lo, spanN, parentN, trace.Undecided), "b3: "+short+"-"+span+"-"+parent)
	f(ctx(0, lo, spanN, parentN, trace.Debug), "b3:\t "+short+"-"+span+"-d-"+parent+" \t")
	f(ctx(0, lo, spanN, 0, trace.Undecided), "b3: "+zero16+short+"-"+span)
	f(ctx(hi, lo, spanN, 0, trace.Keep), "b3: "+strings.ToUpper(long+"-"+span)+"-1")
	f(ctx(0, lo, spanN, 0, trace.Keep), "b3: "+short+"-"+span+"-1-"+zero16)
	f(drop, "b3: 0")
	f(keep, "b3: 1")
	f(debug, "b3: d")
	for _, bad := range []string{
		"", " ", "x", "2", "-", "true", long, span, long + "-", long + "-" + span[1:], long + "-" + span + "-",
		long + "-" + span + "-2", long + "-" + span + "-1-", long + "-" + span + "-1-" + parent[1:],
		long + "-" + span + "-1-" + parent + "0", long + "-" + span + "-1" + parent, long + "-" + span + "1",
		long + "-" + zero16 + "-1", zero16 + "-" + span, zero32 + "-" + span + "-1", "g" + long[1:] + "-" + span,
		long[1:] + "-" + span, long + "_" + span, "00" + long + "-" + span, long + "-" + span + "-1-" + parent[:15] + "g",
	} {
		f(none, "b3: "+bad)
	}

	// B3 multi
	f(ctx(hi, lo, spanN, parentN, trace.Keep), "x-b3-traceid: "+long, "X-B3-SPANID: "+span, "X-B3-ParentSpanId: "+parent, "X-B3-Sampled: 1")
	f(ctx(0, lo, spanN, 0, trace.Undecided), "X-B3-TraceId: "+short, "X-B3-SpanId: "+span)
	f(ctx(0, lo, spanN, 0, trace.Drop), "X-B3-Sampled: 0", "X-B3-SpanId: "+span, "X-B3-TraceId: "+short)
	f(ctx(0, lo, spanN, 0, trace.Drop), "X-B3-Sampled: False", "X-B3-SpanId: "+span, "X-B3-TraceId: "+short)
	f(ctx(0, lo, spanN, 0, trace.Keep), "X-B3-Sampled: true", "X-B3-SpanId: "+span, "X-B3-TraceId: "+short)
	f(ctx(0, lo, spanN, 0, trace.Debug), "X-B3-Flags: 1", "X-B3-Sampled: 0", "X-B3-SpanId: "+span, "X-B3-TraceId: "+short)
	f(ctx(0, lo, spanN, 0, trace.Keep), "X-B3-Flags: 0", "X-B3-Sampled: 1", "X-B3-SpanId: "+span, "X-B3-TraceId: "+short)
	f(ctx(0, lo, spanN, 0, trace.Undecided), "X-B3-TraceId: "+short, "X-B3-SpanId: "+span, "X-B3-ParentSpanId: "+zero16)
	f(ctx(0, lo, spanN, 0, trace.Undecided), "X-B3-TraceId: "+short, "X-B3-SpanId: "+span, "X-B3-ParentSpanId: ", "X-B3-Sampled:")
	f(ctx(0, lo, spanN, 0, trace.Undecided), "X-B3-TraceId: "+short, "X-B3-TraceId: "+long, "X-B3-SpanId: "+span, "X-B3-SpanId: "+parent)
	f(drop, "X-B3-Sampled: 0")
	f(debug, "X-B3-Flags: 1")
	f(none, "X-B3-Flags: 5")
	f(none, "X-B3-TraceId: "+short)
	f(none, "X-B3-SpanId: "+span)
	f(none, "X-B3-ParentSpanId: "+span, "X-B3-Sampled: 1")
	f(none, "X-B3-TraceId: "+zero32, "X-B3-SpanId: "+span)
	f(none, "X-B3-TraceId: "+short, "X-B3-SpanId: "+zero16)
	f(none, "X-B3-TraceId: "+short+"0", "X-B3-SpanId: "+span)
	f(none, "X-B3-TraceId: "+short, "X-B3-SpanId: "+span+"0")
	f(none, "X-B3-TraceId: "+short, "X-B3-SpanId: "+span, "X-B3-Sampled: 2")
	f(none, "X-B3-TraceId: "+short, "X-B3-SpanId: "+span, "X-B3-Sampled: trueish")
	f(none, "X-B3-TraceId: "+short, "X-B3-SpanId: "+span, "X-B3-ParentSpanId: nothing")

	// traceparent
	f(ctx(hi, lo, spanN, 0, trace.Keep), "traceparent: 00-"+long+"-"+span+"-01")
	f(ctx(hi, lo, spanN, 0, trace.Drop), "Traceparent: 00-"+long+"-"+span+"-00")
	f(ctx(hi, lo, spanN, 0, trace.Keep), "traceparent: 00-"+long+"-"+span+"-ff")
	f(ctx(hi, lo, spanN, 0, trace.Drop), "traceparent: 00-"+long+"-"+span+"-02")
	f(ctx(0, lo, spanN, 0, trace.Keep), "traceparent: 00-"+zero16+short+"-"+span+"-01")
	f(ctx(hi, 0, spanN, 0, trace.Keep), "traceparent: 00-"+long[:16]+zero16+"-"+span+"-01")
	f(ctx(hi, lo, spanN, 0, trace.Keep), "traceparent: cc-"+long+"-"+span+"-01")
	f(ctx(hi, lo, spanN, 0, trace.Keep), "traceparent: 01-"+long+"-"+span+"-01-what-the-future-will-be-like")
	f(ctx(hi, lo, spanN, 0, trace.Keep), "traceparent: fe-"+long+"-"+span+"-01-")
	for _, bad := range []string{
		"", "00", "00-" + long + "-" + span, "00-" + long + "-" + span + "-1", "00-" + long + "-" + span + "-01-",
		"00-" + long + "-" + span + "-01-more", "00-" + long + "-" + span + "-011", "01-" + long + "-" + span + "-011",
		"01-" + long + "-" + span + "-01.x", "ff-" + long + "-" + span + "-01", "fF-" + long + "-" + span + "-01",
		"0-" + long + "-" + span + "-01", "0x-" + long + "-" + span + "-01", "CC-" + long + "-" + span + "-01",
		"00-" + strings.ToUpper(long) + "-" + span + "-01", "00-" + long + "-" + strings.ToUpper(span) + "-01",
		"00-" + long + "-" + span + "-0A", "00-" + long + "-" + span + "-0g", "00_" + long + "_" + span + "_01",
		"00-" + zero32 + "-" + span + "-01", "00-" + long + "-" + zero16 + "-01", "00-" + long[1:] + "g-" + span + "-01",
		"00-g" + long[1:] + "-" + span + "-01", "00-" + long + "-" + span[1:] + "g-01",
	} {
		f(none, "traceparent: "+bad)
	}
	f(none, "traceparent: 00-"+long+"-"+span+"-01", "traceparent: 00-"+long+"-"+span+"-01")

	// precedence
	w3c := "traceparent: 00-" + long + "-" + parent + "-01"
	f(ctx(0, lo, spanN, 0, trace.Undecided), w3c, "X-B3-TraceId: "+short, "X-B3-SpanId: "+parent, "X-B3-Sampled: 0", "b3: "+short+"-"+span)
	f(ctx(0, lo, spanN, 0, trace.Undecided), w3c, "X-B3-TraceId: "+short, "X-B3-SpanId: "+span)
	f(ctx(hi, lo, parentN, 0, trace.Keep), w3c, "X-B3-TraceId: broken", "X-B3-SpanId: "+span, "X-B3-Sampled: 0", "b3: broken")
	f(ctx(0, lo, spanN, 0, trace.Keep), "b3: broken", "b3: 0", "X-B3-TraceId: "+short, "X-B3-SpanId: "+span, "X-B3-Sampled: 1")
	f(ctx(hi, lo, parentN, 0, trace.Drop), w3c, "b3: 0")
	f(ctx(hi, lo, parentN, 0, trace.Debug), w3c, "X-B3-Flags: 1")
	f(ctx(hi, lo, parentN, 0, trace.Keep), "b3: 1", "X-B3-Sampled: 0", "traceparent: 00-"+long+"-"+parent+"-00")
}

func TestCarrierConsumes(t *testing.T) {
	f := func(name string, want bool) {
		t.Helper()
		var c trace.Carrier
		if got := c.Header([]byte(name), []byte("\x00 whatever")); got != want {
			t.Errorf("Header(%q) = %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "traceparent", "tracestate"} {
		f(name, true)
		f(strings.ToUpper(name), true)
		f(name+"x", false)
		f(name[1:], false)
	}
	for _, name := range []string{"", "b4", "host", "user-agent", "connection", "x\rb3\rflags", "b\x13", "content-type", "x-b3-spaniD\x00"} {
		f(name, false)
	}
}

func TestCarrierKeepsNoViews(t *testing.T) {
	var c trace.Carrier
	name, value := []byte("traceparent"), []byte("00-"+long+"-"+span+"-01")
	state := []byte("a=1")
	c.Header(name, value)
	c.Header([]byte("tracestate"), state)
	clear(value)
	clear(state)
	if got, ok := c.Context(); !ok || got.TraceID.String() != long {
		t.Errorf("Context() = %+v, %v after the buffer was reused", got, ok)
	}
	if got := c.Tracestate(); got != "a=1" {
		t.Errorf("Tracestate() = %q after the buffer was reused", got)
	}
	c.Reset()
	if got, ok := c.Context(); ok || got != (trace.Context{}) {
		t.Errorf("Context() = %+v, %v after Reset", got, ok)
	}
	c.Header([]byte("traceparent"), []byte("00-"+long+"-"+span+"-01"))
	if got := c.Tracestate(); got != "" {
		t.Errorf("Tracestate() = %q after Reset", got)
	}
}

func TestTracestate(t *testing.T) {
	w3c := "traceparent: 00-" + long + "-" + span + "-01"
	f := func(want string, lines ...string) {
		t.Helper()
		c := carry(t, lines...)
		if got := c.Tracestate(); got != want {
			t.Errorf("Tracestate() of %q = %q, want %q", lines, got, want)
		}
		if want != "" {
			want = "tracestate: " + want + "\r\n"
		}
		if got := string(c.AppendTracestate(nil)); got != want {
			t.Errorf("AppendTracestate() of %q = %q, want %q", lines, got, want)
		}
	}
	repeat := func(n int) string { return strings.TrimSuffix(strings.Repeat("k=v,", n), ",") }

	f("rojo=1,congo=t61rcWkgMzE", "tracestate: rojo=1, congo=t61rcWkgMzE", w3c)
	f("a=1,b=2,c=3", w3c, "tracestate: a=1 ,,\tb=2", "Tracestate: ", "tracestate: ,c=3,")
	f("0a@b/c*d_e-f=! ~;", w3c, "tracestate: 0a@b/c*d_e-f=! ~;")
	f("", "tracestate: a=1")
	f("", "tracestate: a=1", "traceparent: broken")
	f("", "tracestate: a=1", w3c, w3c)
	f("", "tracestate: a=1", w3c, "b3: "+short+"-"+span)
	f("", "tracestate: a=1", w3c, "b3: "+long+"-"+parent)
	f("a=1", "tracestate: a=1", w3c, "b3: "+long+"-"+span+"-1") // both name the same span
	f("a=1", "tracestate: a=1", w3c, "b3: 0")
	f(repeat(32), w3c, "tracestate: "+repeat(32))
	f("", w3c, "tracestate: "+repeat(33))
	f("", w3c, "tracestate: "+repeat(30), "tracestate: "+repeat(3))
	for _, bad := range []string{"a", "=1", "a=", "A=1", "_a=1", "a b=1", "a=b=c", "a=\x01", "a=\r\nX: y", "a=\x7f", "a=é", "é=1", "a=1,b", strings.Repeat("a", 257) + "=1", "a=" + strings.Repeat("b", 257)} {
		f("", w3c, "tracestate: "+bad)
		f("", w3c, "tracestate: good=1", "tracestate: "+bad)
	}
	// 512 bytes at most, whole entries only
	e250 := strings.Repeat("x", 248) + "="
	f("a"+e250+"1,b"+e250+"2,c=123456", w3c, "tracestate: a"+e250+"1,b"+e250+"2,c=123456,d=0")
	f("a"+e250+"1,b"+e250+"2,d=1", w3c, "tracestate: a"+e250+"1", "tracestate: b"+e250+"2", "tracestate: c=12345690", "tracestate: d=1")
}

func TestFromHTTP(t *testing.T) {
	h := http.Header{}
	want := ctx(hi, lo, 1, 2, trace.Keep)
	want.Inject(h.Set)
	if got, ok := trace.FromHTTP(h); got != want || !ok {
		t.Errorf("FromHTTP(%v) = %+v, %v; want %+v", h, got, ok, want)
	}
	if got, ok := trace.FromHTTP(http.Header{"B3": {"0"}}); ok || got.Sampling != trace.Drop {
		t.Errorf("FromHTTP(b3: 0) = %+v, %v; want drop, false", got, ok)
	}
	if got, ok := trace.FromHTTP(nil); ok || got != (trace.Context{}) {
		t.Errorf("FromHTTP(nil) = %+v, %v", got, ok)
	}
	var c trace.Carrier
	h.Set("tracestate", "a=1")
	c.Extract(h.Values)
	if got := c.Tracestate(); got != "a=1" {
		t.Errorf("Tracestate() = %q after Extract, want a=1", got)
	}
}
