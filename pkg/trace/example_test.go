package trace_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/goms-io/goms/pkg/trace"
)

func Example() {
	reporter, err := trace.NewReporter(trace.ReporterConfig{URL: "http://127.0.0.1:9411/api/v2/spans"})
	if err != nil {
		fmt.Println(err)
		return
	}
	// go reporter.Run(ctx), and wait for it.
	tracer := trace.NewTracer(trace.Options{Service: "gateway", SampleRate: 1, Reporter: reporter})

	var c trace.Carrier
	c.Header([]byte("traceparent"), []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
	start := time.Now()
	server := tracer.Start(&c)
	client := tracer.Child(server) // one for each attempt
	head := client.AppendHeaders([]byte("GET /login HTTP/1.1\r\nHost: user\r\n"))
	tracer.Record(&trace.Span{Context: client, Kind: trace.Client, Name: "get", Start: start, Duration: time.Since(start), Status: 200, Attempt: 1})
	tracer.Record(&trace.Span{Context: server, Kind: trace.Server, Name: "get", Start: start, Duration: time.Since(start), Status: 200})

	fmt.Println(server.TraceID, server.ParentID, server.Sampling, client.ParentID == server.SpanID)
	fmt.Println(strings.Count(string(head), "\r\n"))
	// Output:
	// 4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 keep true
	// 7
}
