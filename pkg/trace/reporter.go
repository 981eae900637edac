package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openzipkin/zipkin-go/model"
	"github.com/openzipkin/zipkin-go/reporter"
)

// Defaults of ReporterConfig.
const (
	DefaultQueueSize = 8192
	DefaultBatchSize = 1000
	DefaultInterval  = time.Second
	DefaultTimeout   = 5 * time.Second
)

const (
	maxBatchBytes  = 1 << 20   // a batch is posted when it is this long, however few spans it has
	maxSpanBytes   = 256 << 10 // a span of zipkin-go that is longer is dropped
	maxQueuedBytes = 32 << 20  // of spans of zipkin-go
	maxPooledBytes = 16 << 10  // longer buffers are left to the garbage collector
)

// ReporterConfig configures a Reporter. Zero values mean the defaults.
type ReporterConfig struct {
	// URL is the collector's, as in http://127.0.0.1:9411/api/v2/spans. A user and
	// password in it are sent as basic authentication, and never logged.
	URL string
	// QueueSize bounds the spans that wait, of each of the two sources: gateway
	// tracers and zipkin-go. 8192 by default.
	QueueSize int
	// BatchSize is the largest number of spans in one post. 1000 by default.
	BatchSize int
	// Interval is the longest a span waits for its batch to fill. 1 s by default.
	Interval time.Duration
	// Timeout bounds one post, from dialing to the answer. 5 s by default.
	Timeout time.Duration
	// Log gets a line when delivery begins to fail, one a minute while it does, and one
	// when it works again. nil discards.
	Log *slog.Logger
}

// Reporter posts spans to a Zipkin collector in batches: those that tracers made by
// NewTracer record, and those that zipkin-go's tracer sends. All methods are safe for
// concurrent use.
//
// Until Run is called, spans are queued up to the bound and then dropped. A nil
// Reporter drops everything.
type Reporter struct {
	url, addr      string // without userinfo; addr is for the log
	user, password string
	auth           bool
	queueSize      int
	batchSize      int
	interval       time.Duration
	timeout        time.Duration
	log            *slog.Logger
	client         *http.Client

	closed      atomic.Bool
	sent        atomic.Int64
	dropped     atomic.Int64
	spans       atomic.Pointer[ring[record]]  // made by the first gateway tracer
	models      atomic.Pointer[ring[*[]byte]] // encoded spans of zipkin-go; made by the first Send
	queuedBytes atomic.Int64                  // in models
	buffers     sync.Pool                     // of *[]byte
	wake        chan struct{}                 // a batch is full
	wakeMask    uint64                        // how often to say so

	mu   sync.Mutex // guards stop, and the making of the rings
	stop context.CancelFunc

	run delivery // owned by Run
}

var _ reporter.Reporter = (*Reporter)(nil)

// NewReporter checks c and returns a Reporter. It starts nothing and opens no
// connection: Run does.
func NewReporter(c ReporterConfig) (*Reporter, error) {
	r := &Reporter{
		queueSize: c.QueueSize, batchSize: c.BatchSize,
		interval: c.Interval, timeout: c.Timeout, log: c.Log,
		wake: make(chan struct{}, 1),
	}
	if err := r.setURL(c.URL); err != nil {
		return nil, err
	}
	if c.QueueSize < 0 || c.BatchSize < 0 || c.Interval < 0 || c.Timeout < 0 {
		return nil, fmt.Errorf("make reporter for %q: a queue size, batch size, interval or timeout is negative", r.addr)
	}
	if r.queueSize == 0 {
		r.queueSize = DefaultQueueSize
	}
	if r.batchSize == 0 {
		r.batchSize = DefaultBatchSize
	}
	if r.interval == 0 {
		r.interval = DefaultInterval
	}
	if r.timeout == 0 {
		r.timeout = DefaultTimeout
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	// Run is woken every wakeMask+1 spans: a power of two, a batch at most, and early
	// enough to find room left in the queue.
	step := 1
	for step*2 <= min(r.batchSize, r.queueSize/2) {
		step *= 2
	}
	r.wakeMask = uint64(step - 1)
	r.client = newClient(r.timeout)
	r.run.health = health{log: r.log, addr: r.addr}
	return r, nil
}

// Send queues a finished span of zipkin-go. It never blocks; when the queue is full or
// the Reporter is closed, the span is dropped and counted. The span is encoded before
// Send returns, so that its tags may be changed afterwards.
func (r *Reporter) Send(s model.SpanModel) {
	if r == nil {
		return
	}
	if r.closed.Load() || s.TraceID.Empty() || s.ID == 0 || !r.sendModel(&s) {
		r.dropped.Add(1)
	}
}

// Close makes the Reporter drop what it is given from now on, and tells a running Run
// to flush and return; wait for Run to know when that is done. It does not block, may
// be called repeatedly, and always returns nil.
func (r *Reporter) Close() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	r.closed.Store(true)
	stop := r.stop
	r.mu.Unlock()
	if stop != nil {
		stop()
	}
	return nil
}

// Stats returns how many spans a collector has accepted and how many were lost: the
// queue full, refused by the collector, given up, or recorded after Close. Those that
// wait are in neither.
func (r *Reporter) Stats() (sent, dropped int64) {
	if r == nil {
		return 0, 0
	}
	return r.sent.Load(), r.dropped.Load()
}

func (r *Reporter) sendModel(s *model.SpanModel) bool {
	q := r.modelRing()
	if q.full() {
		return false // before the work of encoding
	}
	buf, _ := r.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	*buf = appendModel((*buf)[:0], s)
	n := int64(len(*buf))
	if n > maxSpanBytes || r.queuedBytes.Add(n) > maxQueuedBytes {
		if n <= maxSpanBytes {
			r.queuedBytes.Add(-n)
		}
		r.recycle(buf)
		return false
	}
	slot, pos := q.reserve()
	if slot == nil {
		r.queuedBytes.Add(-n)
		r.recycle(buf)
		return false
	}
	slot.val = buf
	slot.publish(pos)
	r.queued(pos)
	return true
}

// queued wakes Run when the span at pos fills a batch.
func (r *Reporter) queued(pos uint64) {
	if pos&r.wakeMask != r.wakeMask {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default: // it is awake
	}
}

func (r *Reporter) recycle(buf *[]byte) {
	if cap(*buf) <= maxPooledBytes {
		r.buffers.Put(buf)
	}
}

// spanRing and modelRing make the rings when they are first needed, since few programs
// use both and each may take megabytes.
func (r *Reporter) spanRing() *ring[record] {
	return lazyRing(&r.mu, &r.spans, r.queueSize)
}

func (r *Reporter) modelRing() *ring[*[]byte] {
	return lazyRing(&r.mu, &r.models, r.queueSize)
}

func lazyRing[T any](mu *sync.Mutex, p *atomic.Pointer[ring[T]], size int) *ring[T] {
	if q := p.Load(); q != nil {
		return q
	}
	mu.Lock()
	defer mu.Unlock()
	if q := p.Load(); q != nil {
		return q
	}
	q := newRing[T](size)
	p.Store(q)
	return q
}

// errURL does not quote the URL: what is malformed may hold a password anywhere.
var errURL = errors.New("parse reporter url: not an absolute http or https url; " +
	"a user name or password in it must be percent-encoded")

func (r *Reporter) setURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" ||
		strings.Contains(u.Path+u.RawQuery, "@") { // an unescaped "/" or "?" in a password ends the host early
		return errURL
	}
	if u.User != nil {
		r.auth = true
		r.user = u.User.Username()
		r.password, _ = u.User.Password()
		u.User = nil
	}
	r.url, r.addr = u.String(), u.Host
	return nil
}
