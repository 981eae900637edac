// Package trace joins, makes, passes on and reports traces.
//
// A gateway reads the trace headers of a request into a Carrier, starts a server
// span from it, makes one child per attempt, writes the child's headers into the
// head it sends, and records both spans when they are over:
//
//	var c trace.Carrier                       // one per connection, Reset between requests
//	for each header { consumed := c.Header(name, value) }
//	server := tracer.Start(&c)
//	client := tracer.Child(server)
//	head = client.AppendHeaders(head)
//	head = c.AppendTracestate(head)
//	…
//	tracer.Record(&trace.Span{Context: server, Kind: trace.Server, Start: start, Duration: d, Status: 200})
//
// None of these steps allocates, takes a lock or blocks. A Reporter, whose Run the
// caller starts, encodes what was recorded as Zipkin v2 JSON and posts it in
// batches. The same Reporter is a zipkin-go reporter, so a program that uses
// zipkin-go's tracer (NewZipkinTracer) reports through it too.
//
// B3 single, B3 multi and W3C traceparent are read; B3 multi and traceparent are
// written.
//
// The package knows nothing of HTTP heads, routes, nodes or configuration, and it
// never makes a request wait for a collector: what cannot be delivered in time is
// dropped and counted.
package trace

import (
	"net/netip"
	"time"
)

// Kind says which side of a call a span describes.
type Kind uint8

// The kinds of spans.
const (
	// Server is the side that answers.
	Server Kind = iota
	// Client is the side that asks.
	Client
)

// String returns "SERVER" or "CLIENT", as Zipkin writes it.
func (k Kind) String() string {
	if k == Client {
		return "CLIENT"
	}
	return "SERVER"
}

// Span is one finished span, a fixed record that Tracer.Record copies. Its strings
// are kept by reference until the span was reported, so they must not be views of a
// buffer that is reused. Empty and zero fields are left out of the report.
type Span struct {
	Context
	Kind          Kind
	Name          string         // the operation; reported in lower case, as Zipkin wants it
	Method        string         // tag http.method
	Route         string         // tag http.route
	RemoteService string         // the service at the other end
	Error         string         // tag error: the reason of the failure, "" for none
	RemoteAddr    netip.AddrPort // the other end
	Start         time.Time
	Duration      time.Duration // reported in whole microseconds, at least one
	Status        int           // tag http.status_code
	Attempt       int           // tag attempt, from 1
}
