package gateway

import (
	"io"
	"net/netip"
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

	start    time.Time
	took     time.Duration // until the answer had passed; 0 when that is not known
	rule     *route.Rule
	stats    *routeStats
	pool     *lb.Pool
	key      uint64     // what a hash policy goes by
	client   netip.Addr // as far as trusted proxies say; invalid when unknown
	trusted  bool       // the peer is a trusted proxy
	kept     []span     // the parts of the head that nodes see
	xff      [][]byte   // X-Forwarded-For lines, when a trusted proxy sent them
	fwd      bool       // the head holds X-Forwarded-For, from whoever
	proto    []byte
	host     []byte
	id       []byte // request id
	idBuf    [64]byte
	path     []byte // the canonical path
	pathBuf  []byte
	carrier  trace.Carrier
	trace    trace.Context
	forwards int64 // how many more may pass the request on; unlimited
	upgrade  bool  // the client asks for an upgrade that may be passed on
	head     bool  // a HEAD request: the answer has no body

	up   body // the request's body
	down body // the answer's body

	asked    time.Duration // how long the request may take, as the client says; noTimeout when it does not
	rpcAsked time.Duration // the same, of a gRPC call
	limit    int64         // until when the answer's head must be there, in the sweep's clock
	asking   time.Time     // when the node had been sent what there was of the request; zero when it was not
	first    []byte        // what had arrived of the request's body, as it is sent
	whole    bool          // first is all of it: the request can be repeated
	attempts int
	repeats  int  // of these, after a node that may have begun
	granted  bool // the last of these, by the retry budget
	tried    [maxAttempts]*lb.Node
	open     [2]*lb.Node // of the attempts that have begun and not ended
	flows    *lb.Node    // of the one of them that waits for its node no longer, or for the client

	began        time.Time // the present attempt
	attemptLimit int64     // as limit, for this attempt alone; 0 when it has all that is left
	named        bool      // name was sent to the node
	name         [16]byte
	leaves       bool // the node says that it is draining
	refused      bool // the node has proved that it refused the request before its handler

	status int
	reason Reason
	cause  error
	close  bool // the client's connection ends with this exchange
	broken bool // the answer was broken off
	sent   bool // a byte of the final answer has left

	out        []byte // what is to be written next: small, or a larger one
	small      []byte
	ans        []byte // the answer as it was read: [ansR:ansW] is unused; nil when there is nothing
	ansR, ansW int
	ansSize    int   // of a new buffer for the answer
	unread     error // why the answer's beginning could not be read; fillAnswer returns it
	splice     io.LimitedReader

	upload upload

	extended *extended // the request was an extended CONNECT; nil for all others
}

// span is a part of the client's head.
type span struct{ start, end int }

// reset makes x ready for the next request of a connection.
func (x *exchange) reset() {
	x.rule, x.stats, x.pool, x.took = nil, nil, nil, 0
	x.client, x.trusted, x.fwd = netip.Addr{}, false, false
	x.kept, x.xff, x.proto, x.host, x.id, x.path = x.kept[:0], x.xff[:0], nil, nil, appendRequestID(x.idBuf[:0]), nil
	x.carrier.Reset()
	x.trace = trace.Context{}
	x.upgrade, x.head, x.extended, x.forwards = false, false, nil, unlimited
	x.up.reset(bodyNone, 0, -1, false)
	x.down.reset(bodyNone, 0, -1, false)
	x.asked, x.rpcAsked, x.attemptLimit, x.named, x.leaves, x.refused = noTimeout, noTimeout, 0, false, false, false
	x.granted = false
	x.attempts, x.repeats, x.status, x.reason, x.cause = 0, 0, 0, ReasonNone, nil
	x.close, x.sent, x.broken = false, false, false
	x.ansR, x.ansW = 0, 0
	x.first, x.whole = x.first[:0], false
	x.upload.reset()
}

// begin takes in the head that the scanner found complete. It returns nil when the request is to be
// forwarded, else the answer, which is the gateway's own.
func (x *exchange) begin(head []byte) *local {
	g := x.gw
	x.start = time.Now()
	err := x.req.Parse(head, &x.reqScan, *g.limits())
	x.head = string(x.req.Method) == "HEAD"
	if err != nil {
		x.close = true
		return x.refuse(err)
	}
	x.close = x.req.Close
	if x.extended != nil && x.extended.fault != nil {
		return x.refuse(x.extended.fault)
	}
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
	if x.wholeServer() {
		return x.options(forwarded)
	}
	g := x.gw
	path, err := route.Canonical(x.pathBuf[:0], x.req.Path)
	if err != nil {
		x.close = true
		return x.refuse(err)
	}
	x.path = path
	if endpoint, ok := g.endpoints[string(path)]; ok && x.extended == nil {
		x.stats = g.metrics.own
		return endpoint(x)
	}
	live := g.live.Load()
	rule, err := live.routes.Match(x.req.Method, path)
	x.rule, x.stats = rule, live.stats[rule]
	if err != nil {
		return x.refuse(err)
	}
	if x.forwards == 0 {
		return x.options(rule.Allow())
	}
	limit := int64(g.set().MaxBody)
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
	x.key = g.balance.Load().key(x)
	return nil
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
	return x.gw.set().AnswerTimeout
}

// retries is the number of further attempts that the route allows.
func (x *exchange) retries() int {
	if x.rule.Retries != route.RetriesUnset {
		return x.rule.Retries
	}
	return x.gw.set().Retries
}
