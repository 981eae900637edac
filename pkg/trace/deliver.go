package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	flushTimeout  = 2 * time.Second        // for all that is queued when Run is to end
	flushPause    = 100 * time.Millisecond // between attempts then
	flushAttempts = 3                      // of one batch then
	firstPause    = 200 * time.Millisecond // after the first failure; doubled up to maxPause
	maxPause      = 10 * time.Second
	maxRetryAfter = 30 * time.Second // that a collector may ask for
	keepTrying    = time.Minute      // then a batch is given up, and the next one tried
	logEvery      = time.Minute
)

// delivery is the state of Run; nobody else touches it.
type delivery struct {
	running atomic.Bool
	batch   *payload
	health  health
}

// Run posts batches until ctx is done or the Reporter closed. It then flushes what is
// queued, for two seconds at most, and returns nil. What a failing collector does not
// take is retried with growing pauses while the queue fills; a batch is given up after a
// minute, or at once when the collector refuses it for good. Run may be called again
// after it returned, but not twice at a time.
func (r *Reporter) Run(ctx context.Context) error {
	if !r.run.running.CompareAndSwap(false, true) {
		return errors.New("run reporter: it is running already")
	}
	defer r.run.running.Store(false)
	defer r.client.CloseIdleConnections()

	live, cancel := context.WithCancel(ctx)
	defer cancel()
	r.onClose(cancel)
	defer r.onClose(nil)

	// Posts outlive ctx, until the flush has taken too long.
	work, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	defer context.AfterFunc(live, func() { time.AfterFunc(flushTimeout, kill) })()

	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	for {
		select {
		case <-live.Done():
			r.flush(live, work)
			return nil
		case <-tick.C:
			r.run.health.overflow(r.dropped.Load())
		case <-r.wake:
		}
		for live.Err() == nil && r.fill() {
			r.deliver(live, work)
			if uint64(r.waiting()) <= r.wakeMask {
				break // a post costs as much as a hundred spans: what is left waits for its batch, or the tick
			}
		}
	}
}

// onClose sets what Close calls; a Close that was before calls it now.
func (r *Reporter) onClose(stop context.CancelFunc) {
	r.mu.Lock()
	r.stop = stop
	closed := r.closed.Load()
	r.mu.Unlock()
	if closed && stop != nil {
		stop()
	}
}

// flush delivers what is queued now. After the first batch that is given up it drops
// the others: nobody waits for a collector that is away.
func (r *Reporter) flush(live, work context.Context) {
	left := r.waiting()
	ok := true
	for left > 0 {
		if !r.fill() {
			if work.Err() != nil {
				return
			}
			runtime.Gosched() // claimed by a goroutine that is about to publish
			continue
		}
		left -= r.run.batch.n
		if ok {
			ok = r.deliver(live, work)
		} else {
			r.dropped.Add(int64(r.run.batch.n))
		}
	}
}

// waiting counts the spans that are queued.
func (r *Reporter) waiting() int { return r.spans.Load().len() + r.models.Load().len() }

// deliver posts the batch until it is accepted, and reports whether it was. Otherwise
// its spans are counted as dropped.
func (r *Reporter) deliver(live, work context.Context) bool {
	b, began, flushes := r.run.batch, time.Now(), 0
	for attempt := 1; ; attempt++ {
		retryAfter, err := r.post(work, b)
		if err == nil {
			r.sent.Add(int64(b.n))
			r.run.health.good(r.dropped.Load())
			return true
		}
		if live.Err() != nil {
			flushes++
		}
		final := isFinal(err) || work.Err() != nil || flushes >= flushAttempts ||
			attempt > 2 && time.Since(began) > keepTrying
		if final {
			r.dropped.Add(int64(b.n))
		}
		r.run.health.bad(err, r.dropped.Load())
		if final {
			return false
		}
		wait(live, work, max(backoff(attempt), retryAfter))
	}
}

// wait pauses until live is done; when it already is, for the short pause of a flush.
func wait(live, work context.Context, d time.Duration) {
	stop := live.Done()
	if live.Err() != nil {
		stop, d = work.Done(), flushPause
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-stop:
	}
}

// backoff is half random, so that many gateways do not come back at once.
func backoff(attempt int) time.Duration {
	d := min(firstPause<<min(attempt-1, 16), maxPause)
	return d/2 + rand.N(d/2)
}

// fill encodes the next batch, and reports whether there is one.
func (r *Reporter) fill() bool {
	b := r.run.batch
	if b == nil || b.readers.Load() != 0 {
		// An answer that came before the request was read leaves a reader behind.
		b = new(payload)
		r.run.batch = b
	}
	b.buf, b.n = append(b.buf[:0], '['), 0
	if q := r.spans.Load(); q != nil {
		for b.room(r.batchSize) {
			rec := q.front()
			if rec == nil {
				break
			}
			b.buf = append(appendSpan(b.buf, &rec.span, *rec.local), ',')
			b.n++
			q.release()
		}
	}
	if q := r.models.Load(); q != nil {
		for b.room(r.batchSize) {
			p := q.front()
			if p == nil {
				break
			}
			span := *p
			q.release()
			b.buf = append(append(b.buf, *span...), ',')
			b.n++
			r.queuedBytes.Add(-int64(len(*span)))
			r.recycle(span)
		}
	}
	b.buf[len(b.buf)-1] = ']' // of the last comma
	return b.n > 0
}

// payload is an encoded batch. Its buffer is used again when nobody reads it.
type payload struct {
	buf     []byte
	n       int // spans
	readers atomic.Int32
}

func (p *payload) room(spans int) bool { return p.n < spans && len(p.buf) < maxBatchBytes }

// body reads a payload. net/http may go on reading after it has returned an answer or
// an error; only Close says that it has done.
type body struct {
	bytes.Reader
	of     *payload
	closed atomic.Bool
}

func (p *payload) open() *body {
	p.readers.Add(1)
	b := &body{of: p}
	b.Reset(p.buf)
	return b
}

// Close implements io.Closer.
func (b *body) Close() error {
	if b.closed.CompareAndSwap(false, true) {
		b.of.readers.Add(-1)
	}
	return nil
}

// statusError is an answer other than 2xx.
type statusError struct{ status int }

// Error implements error.
func (e *statusError) Error() string { return "the collector answered " + strconv.Itoa(e.status) }

// isFinal reports whether the collector will never take the same batch.
func isFinal(err error) bool {
	var answer *statusError
	return errors.As(err, &answer) && answer.status < 500 &&
		answer.status != http.StatusTooManyRequests && answer.status != http.StatusRequestTimeout
}

// newClient returns a client with one kept connection, since posts follow one another. It follows no redirects, which
// would take the spans, and the password, to somebody else, and reads no proxy from the
// environment.
func newClient(timeout time.Duration) *http.Client {
	dialer := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				nc, err := dialer.DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &collectorConn{Conn: nc}, nil
			},
			TLSHandshakeTimeout: timeout,
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// collectorConn keeps a buffer for what net/http copies through it: it would make one for each post.
type collectorConn struct {
	net.Conn
	buf []byte // of the one goroutine that writes
}

// ReadFrom implements io.ReaderFrom.
func (c *collectorConn) ReadFrom(r io.Reader) (int64, error) {
	if c.buf == nil {
		c.buf = make([]byte, 64<<10)
	}
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, r, c.buf)
}

func (r *Reporter) post(ctx context.Context, p *payload) (retryAfter time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, nil)
	if err != nil {
		return 0, errURL // parsed before; the cause would quote it
	}
	req.Body, req.ContentLength = p.open(), int64(len(p.buf))
	req.GetBody = func() (io.ReadCloser, error) { return p.open(), nil }
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "goms")
	req.Header.Set("b3", "0") // the collector need not trace this
	if r.auth {
		req.SetBasicAuth(r.user, r.password)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the log has the address
		}
		return 0, fmt.Errorf("post spans: %w", err)
	}
	defer resp.Body.Close()
	// Read what is short, so that the connection can be used again.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode/100 == 2 {
		return 0, nil
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		retryAfter = min(time.Duration(min(s, 3600))*time.Second, maxRetryAfter)
	}
	return retryAfter, fmt.Errorf("post spans: %w", &statusError{resp.StatusCode})
}
