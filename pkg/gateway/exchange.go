package gateway

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/route"
	"github.com/goms-io/goms/pkg/trace"
)

// exchange is one request and its answer: the steps of its life over buffers, without a read, a write
// or a wait. A driver (conn.go) calls them in order and does the I/O.
//
// Views in req and res live in the driver's buffers, which stay as they are until finish.
type exchange struct {
	gw   *Gateway
	peer netip.AddrPort // who sent it, possibly a proxy
	tls  bool           // it came over TLS

	req     http1.Request
	reqScan http1.Scanner
	res     http1.Response
	resScan http1.Scanner

	start   time.Time
	rule    *route.Rule
	stats   *routeStats
	pool    *lb.Pool
	client  netip.Addr // as far as trusted proxies say; invalid when unknown
	trusted bool       // the peer is a trusted proxy
	kept    []span     // the parts of the head that nodes see
	xff     [][]byte   // X-Forwarded-For lines, when a trusted proxy sent them
	fwd     bool       // the head holds X-Forwarded-For, from whoever
	proto   []byte
	host    []byte
	id      []byte // request id
	idBuf   [64]byte
	path    []byte // the canonical path
	pathBuf []byte
	carrier trace.Carrier
	trace   trace.Context
	upgrade bool // the client asks for an upgrade that may be passed on
	head    bool // a HEAD request: the answer has no body

	up   body // the request's body
	down body // the answer's body

	limit    int64  // until when the answer's head must be there, in the sweep's clock
	first    []byte // what had arrived of the request's body, as it is sent
	whole    bool   // first is all of it: the request can be repeated
	attempts int
	tried    [maxAttempts]*lb.Node
	status   int
	reason   Reason
	cause    error
	close    bool // the client's connection ends with this exchange
	sent     bool // a byte of the final answer has left

	out        []byte // what is to be written next
	ans        []byte // the answer as it was read: [ansR:ansW] is unused
	ansR, ansW int
	splice     io.LimitedReader

	upload upload
}

// span is a part of the client's head.
type span struct{ start, end int }

// errConnect refuses CONNECT: this is a gateway, no forward proxy.
var errConnect = &route.MethodError{Allow: "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"}

// local is an answer that the gateway gives itself.
type local struct {
	status      int
	reason      Reason
	contentType string
	allow       string
	retryAfter  string
	body        []byte
}

// reset makes x ready for the next request of a connection.
func (x *exchange) reset() {
	x.rule, x.stats, x.pool = nil, nil, nil
	x.client, x.trusted, x.fwd = netip.Addr{}, false, false
	x.kept, x.xff, x.proto, x.host, x.id, x.path = x.kept[:0], x.xff[:0], nil, nil, nil, nil
	x.carrier.Reset()
	x.trace = trace.Context{}
	x.upgrade, x.head = false, false
	x.up.reset(bodyNone, 0, -1, false)
	x.down.reset(bodyNone, 0, -1, false)
	x.attempts, x.status, x.reason, x.cause = 0, 0, ReasonNone, nil
	x.close, x.sent = false, false
	x.ansR, x.ansW = 0, 0
	x.first, x.whole = x.first[:0], false
	x.upload.reset()
}

// begin takes in the head that the scanner found complete. It returns nil when the request is to be
// forwarded, else the answer, which is the gateway's own.
func (x *exchange) begin(head []byte) *local {
	g := x.gw
	x.start = time.Now()
	err := x.req.Parse(head, &x.reqScan, g.limits)
	x.head = string(x.req.Method) == "HEAD"
	if err != nil {
		x.close = true
		return x.refuse(err)
	}
	x.close = x.req.Close
	if err := x.sift(); err != nil {
		x.close = true
		return x.refuse(err)
	}
	if x.req.Path == nil { // CONNECT
		x.close = true
		return x.refuse(errConnect)
	}
	x.trace = g.tracer.Start(&x.carrier)
	switch {
	case x.req.Chunked:
		x.up.reset(bodyChunked, 0, -1, true)
	case x.req.ContentLength > 0:
		x.up.reset(bodyLength, x.req.ContentLength, -1, false)
	}
	return x.match()
}

// match finds what the request is for: an endpoint of the gateway itself, or a route and its pool.
func (x *exchange) match() *local {
	g := x.gw
	path, err := route.Canonical(x.pathBuf[:0], x.req.Path)
	if err != nil {
		x.close = true
		return x.refuse(err)
	}
	x.path = path
	if endpoint, ok := g.endpoints[string(path)]; ok {
		x.stats = g.metrics.own
		return endpoint(x)
	}
	table := g.table.Load()
	rule, err := table.routes.Match(x.req.Method, path)
	x.rule, x.stats = rule, table.stats[rule]
	if err != nil {
		return x.refuse(err)
	}
	limit := int64(g.set.MaxBody)
	if rule.MaxBody > 0 {
		limit = rule.MaxBody
	}
	if x.req.ContentLength > limit {
		x.close = true
		return x.refuse(errBodyTooLarge)
	}
	x.up.room = limit
	view := g.view.Load()
	if view == nil {
		return x.refuse(&failure{reason: ReasonNoRegistry})
	}
	x.pool = view.pools[rule.Service]
	if x.pool == nil {
		return x.refuse(&failure{reason: ReasonNoNode})
	}
	return nil
}

// sift goes once through the client's fields: which lines a node sees as they are, and what the ones
// that the gateway owns say.
func (x *exchange) sift() error {
	g := x.gw
	x.trusted = contains(g.set.TrustedProxies, x.peer.Addr())
	x.client = x.peer.Addr()
	x.upgrade = len(x.req.Upgrade) > 0 && !x.req.HasBody() && x.req.Minor == 1 && !http1.EqualFold(x.req.Upgrade, "h2c")
	absolute := len(x.req.Target) > 0 && x.req.Target[0] != '/'
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		keep := !f.Kind.HopByHop() && !f.Nominated
		switch f.Kind {
		case http1.KindHost:
			keep = !absolute
		case http1.KindExpect:
			keep = x.req.HasBody()
		case http1.KindOther:
			if o := ownedField(f.Name); o != ownNone {
				var err error
				if keep, err = x.siftOwned(f, o); err != nil {
					return err
				}
				keep = keep && !f.Nominated
			}
		}
		if keep {
			x.keep(f.Start, f.End)
		}
	}
	if n := len(x.xff); n > 0 {
		x.client = clientOf(x.xff[n-1], g.set.TrustedProxies)
	} else if x.fwd && !x.trusted {
		x.client = netip.Addr{} // said to come from elsewhere, by somebody who is not believed
	}
	if x.id == nil {
		x.id = appendRequestID(x.idBuf[:0])
	}
	return nil
}

// keep adds a line of the head to what nodes see, joined to the one before where they touch.
func (x *exchange) keep(start, end int) {
	if n := len(x.kept); n > 0 && x.kept[n-1].end == start {
		x.kept[n-1].end = end
		return
	}
	x.kept = append(x.kept, span{start, end})
}

// siftOwned takes in a field that the gateway owns and says whether its line is passed on as it is.
func (x *exchange) siftOwned(f *http1.Field, o owned) (keep bool, err error) {
	if o != ownVia && alias(f.Name) {
		return false, nil
	}
	switch o {
	case ownVia:
		if x.gw.inVia(f.Value) {
			return false, &failure{reason: ReasonLoop}
		}
		return true, nil
	case ownTrace:
		x.carrier.Header(f.Name, f.Value)
		return false, nil
	case ownForwarded:
		x.fwd = true
		if x.trusted {
			x.xff = append(x.xff, f.Value)
		}
	case ownProto:
		if x.trusted && len(x.proto) == 0 {
			x.proto = f.Value
		}
	case ownHost:
		if x.trusted && len(x.host) == 0 {
			x.host = f.Value
		}
	case ownProxy:
		x.fwd = true
		return x.trusted, nil
	case ownRequestID:
		if x.trusted && wellFormedID(f.Value) {
			x.id = append(x.idBuf[:0], f.Value...)
		}
	}
	return false, nil
}

// wellFormedID accepts the request ids that other proxies make: 1 to 64 letters, digits, '-', '_', '.'.
func wellFormedID(id []byte) bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for _, c := range id {
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

func appendRequestID(dst []byte) []byte {
	const digits = "0123456789abcdef"
	for range 2 {
		n := rand.Uint64()
		for range 16 {
			dst = append(dst, digits[n&15])
			n >>= 4
		}
	}
	return dst
}

// clientOf returns the address that the nearest trusted proxies saw: the last one of the list that is
// not itself a trusted proxy. It is invalid when the list cannot be read.
func clientOf(list []byte, trusted []netip.Prefix) netip.Addr {
	end := len(list)
	for {
		start := end
		for start > 0 && list[start-1] != ',' {
			start--
		}
		entry, _, _ := http1.NextToken(list[start:end])
		addr, err := netip.ParseAddr(string(entry))
		if err != nil {
			return netip.Addr{}
		}
		addr = addr.Unmap()
		if start == 0 || !contains(trusted, addr) {
			return addr
		}
		end = start - 1
	}
}

func contains(list []netip.Prefix, addr netip.Addr) bool {
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

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
	if x.req.Chunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	dst = append(dst, g.keyLine...)
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

// takeAnswer settles the final answer once its head is parsed in x.res.
func (x *exchange) takeAnswer() {
	x.status = x.res.Status
	length := x.res.BodyLength(x.head)
	old := x.req.Minor == 0
	switch {
	case length == http1.BodyChunked:
		x.down.reset(bodyChunked, 0, -1, !old)
	case length == http1.BodyUntilClose:
		x.down.reset(bodyUntilClose, 0, -1, !old)
	default:
		x.down.reset(bodyLength, length, -1, false)
	}
	if old && (length == http1.BodyChunked || length == http1.BodyUntilClose) {
		x.close = true // only the end of the connection tells an HTTP/1.0 client where the body ends
	}
	if x.gw.draining.Load() {
		x.close = true
	}
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
	switch {
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
		if f.Kind.HopByHop() || f.Nominated || f.Kind == http1.KindOther && ownedField(f.Name) == ownCallKey {
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

// refuse makes the answer to an error.
func (x *exchange) refuse(err error) *local {
	reason, status := statusOf(err)
	x.reason, x.status, x.cause = reason, status, err
	l := &local{status: status, reason: reason, contentType: "application/json"}
	if m, ok := err.(*route.MethodError); ok {
		l.allow = m.Allow
	}
	if status == 503 {
		l.retryAfter = "1"
	}
	l.body = appendErrorBody(nil, status, reason, x.id)
	return l
}

func appendErrorBody(dst []byte, status int, reason Reason, id []byte) []byte {
	dst = append(dst, `{"status":false,"code":`...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, `,"reason":"`...)
	dst = append(dst, reasons[reason].name...)
	dst = append(dst, `","msg":"`...)
	dst = append(dst, reasons[reason].msg...)
	dst = append(dst, `","requestId":"`...)
	dst = append(dst, id...) // letters, digits and "-_." only
	return append(dst, "\"}\n"...)
}

// appendLocal appends the whole of an answer of the gateway's own.
func (x *exchange) appendLocal(dst []byte, l *local) []byte {
	if x.gw.draining.Load() {
		x.close = true
	}
	x.status = l.status
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(l.status), 10)
	dst = append(dst, ' ')
	dst = append(dst, statusText(l.status)...)
	dst = append(dst, "\r\nContent-Type: "...)
	dst = append(dst, l.contentType...)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(l.body)), 10)
	dst = append(dst, "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"...)
	dst = append(dst, x.gw.date.Load().line...)
	if l.allow != "" {
		dst = append(dst, "Allow: "...)
		dst = append(dst, l.allow...)
		dst = append(dst, "\r\n"...)
	}
	if l.retryAfter != "" {
		dst = append(dst, "Retry-After: "...)
		dst = append(dst, l.retryAfter...)
		dst = append(dst, "\r\n"...)
	}
	if len(x.id) > 0 {
		dst = append(dst, "X-Request-Id: "...)
		dst = append(dst, x.id...)
		dst = append(dst, "\r\n"...)
	}
	switch {
	case x.close:
		dst = append(dst, "Connection: close\r\n"...)
	case x.req.Minor == 0:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	dst = append(dst, "\r\n"...)
	if !x.head {
		dst = append(dst, l.body...)
	}
	return dst
}

// idempotent reports whether a repetition does no more than the first request (RFC 9110 section 9.2.2).
func (x *exchange) idempotent() bool {
	switch string(x.req.Method) {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// answerTimeout is the route's.
func (x *exchange) answerTimeout() time.Duration {
	if x.rule.Timeout > 0 {
		return x.rule.Timeout
	}
	return x.gw.set.AnswerTimeout
}

// retries is the number of further attempts that the route allows.
func (x *exchange) retries() int {
	if x.rule.Retries != route.RetriesUnset {
		return x.rule.Retries
	}
	return x.gw.set.Retries
}
