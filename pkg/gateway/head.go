package gateway

import (
	"strconv"

	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/trace"
)

// appendRequest appends the head that a node sees. head is the client's, as given to begin; ctx is
// the attempt's span.
func (x *exchange) appendRequest(dst, head []byte, ctx trace.Context, addr string) []byte {
	g := x.gw
	dst = append(dst, x.req.Method...)
	dst = append(dst, ' ')
	dst = append(dst, x.rule.Path...)
	dst = append(dst, x.req.Query...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	if len(x.req.Target) > 0 && x.req.Target[0] != '/' || len(x.req.Host) == 0 {
		dst = append(dst, "Host: "...)
		if len(x.req.Host) > 0 {
			dst = append(dst, x.req.Host...)
		} else {
			dst = append(dst, addr...)
		}
		dst = append(dst, "\r\n"...)
	}
	for _, s := range x.kept {
		dst = append(dst, head[s.start:s.end]...)
	}
	switch {
	case x.upgrade:
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, x.req.Upgrade...)
		dst = append(dst, "\r\n"...)
	case x.req.TETrailers:
		dst = append(dst, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	if x.forwards != unlimited {
		dst = append(dst, "Max-Forwards: "...)
		dst = strconv.AppendInt(dst, x.forwards-1, 10)
		dst = append(dst, "\r\n"...)
	}
	if x.req.Chunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	dst = append(dst, g.live.Load().keyLine...)
	dst = x.appendAttempt(dst)
	dst = x.appendTimeout(dst)
	dst = x.appendForwarded(dst)
	dst = append(dst, "Via: 1."...)
	dst = append(dst, '0'+x.req.Minor)
	dst = append(dst, ' ')
	dst = append(dst, g.pseudonym...)
	dst = append(dst, "\r\n"...)
	dst = ctx.AppendHeaders(dst)
	dst = x.carrier.AppendTracestate(dst)
	return append(dst, "\r\n"...)
}

// appendForwarded appends what the gateway says of the client.
func (x *exchange) appendForwarded(dst []byte) []byte {
	dst = append(dst, "X-Forwarded-For: "...)
	for _, list := range x.xff { // one line, since many servers read the first one only
		dst = append(dst, list...)
		dst = append(dst, ", "...)
	}
	dst = x.peer.Addr().AppendTo(dst)
	dst = append(dst, "\r\nX-Forwarded-Proto: "...)
	switch {
	case len(x.proto) > 0:
		dst = append(dst, x.proto...)
	case x.tls:
		dst = append(dst, "https"...)
	default:
		dst = append(dst, "http"...)
	}
	dst = append(dst, "\r\nX-Forwarded-Host: "...)
	if len(x.host) > 0 {
		dst = append(dst, x.host...)
	} else {
		dst = append(dst, x.req.Host...)
	}
	dst = append(dst, "\r\nX-Request-Id: "...)
	dst = append(dst, x.id...)
	return append(dst, "\r\n"...)
}

// appendAnswer appends the head that the client sees; head is the node's.
func (x *exchange) appendAnswer(dst, head []byte) []byte {
	dst = append(dst, "HTTP/1.1"...)
	dst = append(dst, x.res.Line...)
	dst = append(dst, "\r\n"...)
	dst = x.appendKept(dst, head)
	if x.res.Status < 200 {
		return append(dst, "\r\n"...)
	}
	if !x.res.HasDate {
		dst = append(dst, x.gw.date.Load().line...)
	}
	if x.down.rechunk || x.head && x.res.Chunked && x.req.Minor == 1 {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	upgrade := x.upgradeRequired()
	if upgrade {
		dst = append(dst, "Upgrade: "...)
		dst = append(dst, x.res.Upgrade...)
		dst = append(dst, "\r\n"...)
	}
	switch {
	case x.close && upgrade:
		dst = append(dst, "Connection: close, Upgrade\r\n"...)
	case upgrade:
		dst = append(dst, "Connection: Upgrade\r\n"...)
	case x.close:
		dst = append(dst, "Connection: close\r\n"...)
	case x.req.Minor == 0:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// appendKept appends the lines of the node's head that are for the client.
func (x *exchange) appendKept(dst, head []byte) []byte {
	from, to := 0, 0 // the run of lines that touch
	for i := range x.res.Fields {
		f := &x.res.Fields[i]
		if f.Kind.HopByHop() || f.Nominated || x.meaningless(f) || f.Kind == http1.KindOther && ownedSecret(f.Name) {
			continue
		}
		if f.Start != to {
			dst = append(dst, head[from:to]...)
			from = f.Start
		}
		to = f.End
	}
	return append(dst, head[from:to]...)
}

// appendUpgrade appends the head of a 101 answer.
func (x *exchange) appendUpgrade(dst, head []byte) []byte {
	dst = append(dst, "HTTP/1.1"...)
	dst = append(dst, x.res.Line...)
	dst = append(dst, "\r\n"...)
	dst = x.appendKept(dst, head)
	dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
	dst = append(dst, x.res.Upgrade...)
	return append(dst, "\r\n\r\n"...)
}
