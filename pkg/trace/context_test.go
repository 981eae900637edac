package trace_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/trace"
)

func TestAppendHeaders(t *testing.T) {
	f := func(c trace.Context, want ...string) {
		t.Helper()
		text := ""
		if len(want) > 0 {
			text = strings.Join(want, "\r\n") + "\r\n"
		}
		if got := string(c.AppendHeaders([]byte("x"))); got != "x"+text {
			t.Errorf("AppendHeaders() of %+v = %q, want %q", c, got, text)
		}
		injected := ""
		c.Inject(func(name, value string) { injected += name + ": " + value + "\r\n" })
		if injected != text {
			t.Errorf("Inject() of %+v = %q, want %q", c, injected, text)
		}
	}
	f(trace.Context{})
	f(trace.Context{Sampling: trace.Drop}, "X-B3-Sampled: 0")
	f(trace.Context{Sampling: trace.Keep}, "X-B3-Sampled: 1")
	f(trace.Context{Sampling: trace.Debug}, "X-B3-Flags: 1")
	f(trace.Context{TraceID: trace.TraceID{Lo: 1}})
	f(ctx(hi, lo, 0xe457b5a2e4d86bd1, 0x05e3ac9a4f6e3b90, trace.Keep),
		"X-B3-TraceId: "+long, "X-B3-SpanId: "+span, "X-B3-ParentSpanId: "+parent, "X-B3-Sampled: 1",
		"traceparent: 00-"+long+"-"+span+"-01")
	f(ctx(hi, lo, 0xe457b5a2e4d86bd1, 0, trace.Drop),
		"X-B3-TraceId: "+long, "X-B3-SpanId: "+span, "X-B3-Sampled: 0",
		"traceparent: 00-"+long+"-"+span+"-00")
	f(ctx(0, lo, 1, 0, trace.Debug),
		"X-B3-TraceId: "+short, "X-B3-SpanId: 0000000000000001", "X-B3-Flags: 1",
		"traceparent: 00-"+zero16+short+"-0000000000000001-01")
	f(ctx(hi, 0, 1, 0, trace.Undecided),
		"X-B3-TraceId: "+long[:16]+zero16, "X-B3-SpanId: 0000000000000001",
		"traceparent: 00-"+long[:16]+zero16+"-0000000000000001-00")
}

func TestInjectHTTP(t *testing.T) {
	h := http.Header{"Traceparent": {"a forged one"}, "X-B3-Traceid": {"another"}}
	c := ctx(hi, lo, 1, 0, trace.Keep)
	c.Inject(h.Set)
	if got := h.Values("traceparent"); len(got) != 1 || got[0] != "00-"+long+"-0000000000000001-01" {
		t.Errorf("traceparent = %q", got)
	}
	if got := h.Get("X-B3-TraceId"); got != long {
		t.Errorf("X-B3-TraceId = %q, want %q", got, long)
	}
}

func TestStrings(t *testing.T) {
	f := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(trace.TraceID{}.String(), zero16)
	f(trace.TraceID{Lo: lo}.String(), short)
	f(trace.TraceID{Hi: hi, Lo: lo}.String(), long)
	f(trace.TraceID{Hi: 1}.String(), "0000000000000001"+zero16)
	f(trace.SpanID(0xab).String(), "00000000000000ab")
	f(trace.Undecided.String()+trace.Drop.String()+trace.Keep.String()+trace.Debug.String(), "undecideddropkeepdebug")
	f(trace.Server.String()+trace.Client.String(), "SERVERCLIENT")
}
