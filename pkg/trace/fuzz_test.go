package trace_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/openzipkin/zipkin-go/model"

	"github.com/goms-io/goms/pkg/trace"
)

// FuzzCarrier feeds header lines to a carrier: whatever it makes of them, it writes and
// reads again the same.
func FuzzCarrier(f *testing.F) {
	w3c := "traceparent: 00-" + long + "-" + span + "-01\n"
	for _, seed := range []string{
		"", "b3: 0", "b3: d\n" + w3c, w3c + "tracestate: a=1, b=2", "b3: " + long + "-" + span + "-1-" + parent,
		"X-B3-TraceId: " + short + "\nX-B3-SpanId: " + span + "\nX-B3-Flags: 1", "b3: " + short + "-" + span,
		"X-B3-Sampled: true", "traceparent: fe-" + long + "-" + span + "-00-x", w3c + "tracestate: a=\r\nb=1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, lines []byte) {
		var c trace.Carrier
		for line := range bytes.SplitSeq(lines, []byte("\n")) {
			name, value, _ := bytes.Cut(line, []byte(":"))
			c.Header(name, value)
		}
		want, ok := c.Context()
		if ok != want.Valid() {
			t.Fatalf("Context() = %+v, %v", want, ok)
		}
		head := c.AppendTracestate(want.AppendHeaders(nil))
		state := c.Tracestate()
		if len(state) > 512 || state != "" && !ok {
			t.Fatalf("Tracestate() = %q with %+v", state, want)
		}
		again := reread(t, head)
		if got, _ := again.Context(); got != want {
			t.Fatalf("%+v was written as %q and read as %+v", want, head, got)
		}
		if got := again.Tracestate(); got != state {
			t.Fatalf("tracestate %q was read as %q", state, got)
		}
		// A tracer's own contexts survive too.
		child := tracer.Child(tracer.Start(&c))
		if got, _ := reread(t, child.AppendHeaders(nil)).Context(); got != child || !child.Valid() {
			t.Fatalf("%+v was read as %+v", child, got)
		}
	})
}

var tracer = trace.NewTracer(trace.Options{SampleRate: 0.5})

func reread(t *testing.T, head []byte) *trace.Carrier {
	t.Helper()
	var c trace.Carrier
	for len(head) > 0 {
		line, rest, ok := bytes.Cut(head, []byte("\r\n"))
		name, value, colon := bytes.Cut(line, []byte(": "))
		if !ok || !colon || bytes.ContainsAny(line, "\r\n\x00") || !c.Header(name, value) {
			t.Fatalf("wrote a line that it does not read: %q", line)
		}
		head = rest
	}
	return &c
}

// FuzzEncode checks that spans of any content are valid JSON that says the same.
func FuzzEncode(f *testing.F) {
	f.Add("get /a", "GET", "svc", "reason", uint64(1), uint64(2), uint64(3), int64(1e18), int64(5), 200, []byte{1, 2, 3, 4})
	f.Add("\"\\\x00\x1f\u2028", "\xff\xfe", "É", "\x7f", uint64(0), uint64(0), uint64(0), int64(-1), int64(-5), -1, []byte{})
	f.Add("", "", "", "", uint64(1)<<63, uint64(2), uint64(3), int64(0), int64(0), 0, bytes.Repeat([]byte{0xfe}, 16))
	f.Fuzz(func(t *testing.T, name, method, service, reason string, hi, lo, id uint64, start, d int64, n int, addr []byte) {
		ip, _ := netip.AddrFromSlice(addr)
		at := netip.AddrPortFrom(ip, uint16(n))
		when := time.Unix(0, start)
		s := &trace.Span{
			Context: ctx(hi, lo, trace.SpanID(id), trace.SpanID(lo), trace.Sampling(n&3)), Kind: trace.Kind(n & 1),
			Name: name, Method: method, Route: reason, RemoteService: service, Error: reason, RemoteAddr: at,
			Start: when, Duration: time.Duration(d), Status: n, Attempt: -n,
		}
		check := func(b []byte, tag, want string) {
			t.Helper()
			if !json.Valid(b) || !utf8.Valid(b) {
				t.Fatalf("not JSON: %q", b)
			}
			var got model.SpanModel
			if err := json.Unmarshal(b, &got); id != 0 && err != nil {
				t.Fatalf("Unmarshal(%q): %v", b, err)
			}
			if want = strings.ToValidUTF8(want, "\ufffd"); utf8.ValidString(reason) && got.Tags[tag] != want {
				t.Fatalf("tag %q = %q, want %q", tag, got.Tags[tag], want)
			}
		}
		check(trace.EncodeSpan(s, service, at), "error", reason)
		pid := model.ID(id)
		sampled := n&1 == 0
		check(trace.EncodeModel(&model.SpanModel{
			SpanContext: model.SpanContext{TraceID: model.TraceID{High: hi, Low: lo}, ID: model.ID(id), ParentID: &pid, Debug: sampled, Sampled: &sampled},
			Name:        name, Kind: model.Kind(method), Timestamp: when, Duration: time.Duration(d), Shared: sampled,
			LocalEndpoint:  &model.Endpoint{ServiceName: service, IPv4: addr, IPv6: addr, Port: uint16(n)},
			RemoteEndpoint: &model.Endpoint{ServiceName: reason, IPv6: addr},
			Annotations:    []model.Annotation{{Timestamp: when, Value: name}, {Timestamp: time.Unix(1, 0), Value: reason}},
			Tags:           map[string]string{"tag": reason},
		}), "tag", reason)
	})
}
