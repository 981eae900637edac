package trace_test

import (
	"encoding/json"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/openzipkin/zipkin-go/model"

	"github.com/goms-io/goms/pkg/trace"
)

func TestEncodeSpan(t *testing.T) {
	f := func(s trace.Span, service, local, want string) {
		t.Helper()
		var at netip.AddrPort
		if local != "" {
			at = netip.MustParseAddrPort(local)
		}
		if got := string(trace.EncodeSpan(&s, service, at)); got != want {
			t.Errorf("encoded\n%s\nwant\n%s", got, want)
		}
	}
	f(trace.Span{}, "", "", `{"traceId":"0000000000000000","id":"0000000000000000","kind":"SERVER","duration":1}`)
	f(trace.Span{
		Context: ctx(hi, lo, 1, 2, trace.Debug), Kind: trace.Client, Name: "GET /User", Method: "GET", Route: "/api/user/*",
		RemoteService: "User", Error: "dial: \"refused\"\n", RemoteAddr: netip.MustParseAddrPort("[::ffff:10.0.0.1]:9080"),
		Start: time.UnixMicro(1700000000123456).Add(999), Duration: 1999 * time.Nanosecond, Status: 502, Attempt: 2,
	}, "Gateway", "[fe80::1%eth0]:8080",
		`{"traceId":"`+long+`","id":"0000000000000001","parentId":"0000000000000002","kind":"CLIENT","name":"get /user",`+
			`"timestamp":1700000000123456,"duration":1,"debug":true,`+
			`"localEndpoint":{"serviceName":"gateway","ipv6":"fe80::1","port":8080},`+
			`"remoteEndpoint":{"serviceName":"user","ipv4":"10.0.0.1","port":9080},`+
			`"tags":{"http.method":"GET","http.route":"/api/user/*","http.status_code":"502","error":"dial: \"refused\"\n","attempt":"2"}}`)
	f(trace.Span{Context: ctx(0, lo, 1, 0, trace.Keep), Start: time.Unix(-5, 0), Duration: -time.Second, Status: 200},
		"s", "", `{"traceId":"`+short+`","id":"0000000000000001","kind":"SERVER","duration":1,"localEndpoint":{"serviceName":"s"},"tags":{"http.status_code":"200"}}`)
	f(trace.Span{Context: ctx(0, lo, 1, 0, trace.Keep), Name: "ÄÖ\x00\x80ß\\", Duration: time.Minute},
		"", "", `{"traceId":"`+short+`","id":"0000000000000001","kind":"SERVER","name":"äö\u0000`+"\ufffd"+`ß\\","duration":60000000}`)
}

// TestEncodeModel compares with the encoding of zipkin-go's own reporter.
func TestEncodeModel(t *testing.T) {
	f := func(s model.SpanModel) {
		t.Helper()
		own, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := json.Unmarshal(trace.EncodeModel(&s), &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(own, &want); err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Errorf("encoded\n%s\nwant\n%s", a, b)
		}
	}
	parent := model.ID(7)
	base := model.SpanContext{TraceID: model.TraceID{Low: 5}, ID: 6}
	f(model.SpanModel{SpanContext: base})
	f(model.SpanModel{
		SpanContext: model.SpanContext{TraceID: model.TraceID{High: 4, Low: 5}, ID: 6, ParentID: &parent, Debug: true},
		Name:        "GET /User", Kind: model.Client, Shared: true,
		Timestamp: time.UnixMicro(1700000000123456), Duration: 1500 * time.Microsecond,
		LocalEndpoint:  &model.Endpoint{ServiceName: "User", IPv4: net.IPv4(10, 0, 0, 1), Port: 80},
		RemoteEndpoint: &model.Endpoint{IPv6: net.ParseIP("2001:db8::1"), Port: 443},
		Annotations:    []model.Annotation{{Timestamp: time.UnixMicro(1700000000123457), Value: "a \"b\""}},
		Tags:           map[string]string{"k": "v\n", "": "empty", "é": "\t"},
	})
	f(model.SpanModel{SpanContext: base, Kind: model.Producer, Duration: 10, LocalEndpoint: &model.Endpoint{}, Timestamp: time.Unix(5, 0)})

	// What the model's own encoding refuses, with the whole batch, is left out.
	got := string(trace.EncodeModel(&model.SpanModel{
		SpanContext: base, Timestamp: time.Unix(-1, 0), Duration: -1,
		Annotations: []model.Annotation{{Value: "no time"}},
	}))
	if want := `{"traceId":"0000000000000005","id":"0000000000000006","duration":1}`; got != want {
		t.Errorf("encoded %s, want %s", got, want)
	}
}
