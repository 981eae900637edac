package gateway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/goms-io/goms/pkg/http1"
)

// conn drives one client connection: a goroutine that reads heads, lets an exchange decide, and does
// the reading, writing and waiting for it. Requests that arrive together are answered in order.
type conn struct {
	guard
	gw   *Gateway
	tcp  *net.TCPConn // nil when the connection is not TCP itself
	peer netip.AddrPort

	tls    bool // the client's side is encrypted
	stream bool // it carries one request of an HTTP/2 connection
	used   bool // a request has begun on it
	h2c    bool // it may turn out to be HTTP/2 without TLS
	http2  bool // and has

	extended *extended                 // of a stream that is an extended CONNECT; nil for all others
	ws       atomic.Pointer[webSocket] // the WebSocket that is open

	proxied bool        // the peer owes a PROXY header
	secure  *tls.Config // the client owes a TLS handshake; nil: none

	headBy int64   // until when the head of the request must be there, in the sweep's clock; 0 when its first byte decides
	reads  bool    // the client has read an answer to its end
	src    *source // nil before the handshake, and where there is none
	buf    []byte  // what the client sent; [r:w] is unused
	r, w   int
}

const (
	spliceAbove = 64 << 10              // bytes still to come for which the kernel does the copying
	maxInterim  = 20                    // 1xx answers before the final one
	crossTime   = 50 * time.Millisecond // a request may be under way when its idle connection is closed
	openedTime  = time.Second           // a client that has just connected wants to send something
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

func newConn(g *Gateway, nc net.Conn) *conn {
	c := &conn{gw: g, buf: takeBuffer(readBuffer)}
	c.nc = nc
	c.tcp, _ = nc.(*net.TCPConn)
	c.peer = addrPort(nc.RemoteAddr())
	return c
}

// serve runs until the connection is closed.
func (c *conn) serve() {
	defer func() {
		c.nc.Close() // which may be another by then
		giveBuffer(c.buf)
		c.buf = nil
	}()
	if !c.admit() || !c.handshake() {
		return
	}
	c.src = newSource(c.nc)
	patience := c.gw.set().HeadTimeout // a connection that was opened wants to say something, and all of it
	c.headBy = c.gw.clock() + int64(patience)
	for c.await(patience) {
		x := c.gw.exchange()
		keep := c.guarded(x)
		c.gw.release(x)
		if !keep {
			break
		}
		patience = c.gw.set().IdleTimeout
	}
	if c.http2 {
		c.serveHTTP2(c.handover())
	}
}

// await waits for the first byte of the next request.
func (c *conn) await(patience time.Duration) bool {
	if c.r < c.w {
		return true
	}
	c.r, c.w = 0, 0
	c.arm(c.gw.clock(), patience)
	c.phase.Store(phaseIdle)
	if !c.used {
		c.phase.Store(phaseOpened)
	}
	// Under load the next request is there by the time the others had their turn: one read in place of a
	// read in vain, a wait and a wake-up. test/bench/nginx.sh measures it.
	runtime.Gosched()
	n, err := c.receive()
	if why := c.wake(); why == endDrain && err != nil {
		// The gateway is stopping. A request may have crossed that decision: it is still served.
		for n == 0 {
			c.nc.SetReadDeadline(time.Now().Add(crossTime))
			if n, err = c.receive(); !errors.Is(err, os.ErrDeadlineExceeded) || !newProbe(c.nc).readable() {
				break // on a busy machine the time may pass before the read is tried
			}
		}
		c.nc.SetReadDeadline(time.Time{})
	}
	c.w = n
	return n > 0
}

// receive reads into the empty buffer, which it does without while it waits, if it can.
func (c *conn) receive() (n int, err error) {
	if len(c.buf) != readBuffer || c.src != nil {
		giveBuffer(c.buf)
		c.buf = nil
	}
	if c.src != nil {
		c.buf, n, err = c.src.next(readBuffer, readBuffer)
		return n, err
	}
	if c.buf == nil {
		c.buf = takeBuffer(readBuffer)
	}
	return c.nc.Read(c.buf)
}

// guarded keeps a fault in one request from ending the process.
func (c *conn) guarded(x *exchange) (keep bool) {
	defer func() {
		if p := recover(); p != nil {
			c.gw.log.Error("panic in request", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			keep = false
			x.cause, x.reason, x.status = fmt.Errorf("panic: %v", p), ReasonInternal, 500
			if up := c.attached(); up != nil {
				c.finishUpstream(x, up, false)
			}
			x.endAll()
			if !x.sent {
				x.close = true
				c.writeClient(x.appendLocal(x.out[:0], x.refuse(&failure{reason: ReasonInternal}))) //nolint:errcheck // the connection ends either way
			}
			x.finish()
		}
	}()
	return c.request(x)
}

// caught is deferred by the goroutines that help a request: it keeps a fault there from ending the process. end is told of it, and has to see to
// it that nobody waits for the goroutine's work.
func (g *Gateway) caught(end func(fault error)) {
	if p := recover(); p != nil {
		g.log.Error("panic in request", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
		end(&failure{ReasonInternal, fmt.Errorf("panic: %v", p)})
	}
}

// request lives one request from its head to its record. It reports whether the connection goes on.
func (c *conn) request(x *exchange) (keep bool) {
	c.used = true
	x.peer, x.tls, x.extended = c.peer, c.tls, c.extended
	end, err := c.readHead(x)
	if c.headBy = 0; c.deadline.Load() != 0 {
		c.deadline.Store(0)
	}
	if err == errPreface { //nolint:errorlint // readHead returns it as it is
		c.http2 = true
		return false
	}
	if err != nil {
		return c.headFailed(x, err)
	}
	head := c.buf[c.r : c.r+end]
	c.r += end
	l := x.begin(head)
	if l == nil {
		l = c.forward(x, head)
	}
	if l != nil {
		c.answer(x, l)
	}
	x.finish()
	if x.close && x.sent && !x.broken {
		c.linger(x)
	}
	c.takeSpill(x)
	return !x.close
}

// readHead reads until the head is complete and returns its length.
func (c *conn) readHead(x *exchange) (int, error) {
	x.reqScan.Reset()
	limits := c.gw.limits()
	armed := false
	for {
		have := c.w - c.r
		end, err := c.scanHead(x)
		switch {
		case err != nil:
			return 0, err
		case end > 0:
			return end, nil
		case have > limits.Target+64 && x.reqScan.Lines() == 0:
			if bytes.IndexByte(c.buf[c.r:c.w], ' ') < 0 {
				return 0, http1.ErrRequestLine
			}
			return 0, http1.ErrTargetLong
		case have > limits.Head:
			return 0, http1.ErrHeadLong
		}
		if !armed {
			if c.headBy == 0 {
				c.headBy = c.gw.clock() + int64(c.gw.set().HeadTimeout)
			}
			c.deadline.Store(c.headBy)
			armed = true
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

// scanHead looks for the end of the head in what is there.
func (c *conn) scanHead(x *exchange) (int, error) {
	if c.h2c {
		if more, err := c.sniff(); more || err != nil {
			return 0, err
		}
	}
	return x.reqScan.Scan(c.buf[c.r:c.w])
}

// fill reads more from the client behind what is there. Views of the buffer end.
func (c *conn) fill() error {
	if c.w == len(c.buf) {
		if c.r > 0 {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		} else {
			c.buf = append(c.buf, make([]byte, max(len(c.buf), readBuffer))...)
		}
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// headFailed answers what never became a request, where an answer makes sense.
func (c *conn) headFailed(x *exchange, err error) bool {
	x.close = true
	x.start = time.Now()
	x.stats = c.gw.metrics.own
	var l *local
	if _, ok := errors.AsType[*http1.Error](err); ok {
		l = x.refuse(err)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		l = x.refuse(&failure{ReasonClientTimeout, err})
		c.unwind()
	} else {
		x.refuse(&failure{ReasonClientGone, err})
		x.finish()
		return false
	}
	c.answer(x, l)
	x.finish()
	c.linger(x)
	return false
}

// unwind makes a connection whose wait was ended writable once more, for the answer that says so.
func (c *conn) unwind() {
	c.deadline.Store(0)
	c.nc.SetDeadline(time.Now().Add(time.Second))
}

// answer writes an answer of the gateway's own. The connection goes on when the request's body, if
// there is one, has arrived and can be passed over.
func (c *conn) answer(x *exchange, l *local) {
	if !x.up.done && !x.close {
		x.close = !c.skipBody(x)
	}
	x.out = x.appendLocal(x.out[:0], l)
	c.arm(c.gw.clock(), c.gw.set().BodyTimeout)
	x.sent = true
	if c.put(x.out) != nil {
		x.close = true
	}
}

// skipBody passes over a body that lies in the buffer to its end.
func (c *conn) skipBody(x *exchange) bool {
	_, n, err := x.up.feed(nil, c.buf[c.r:c.w])
	if err != nil || !x.up.done {
		return false
	}
	c.r += n
	return true
}

// linger closes a connection on which the client may still be sending: the answer must reach it before
// the reset that unread bytes cause (RFC 9112 section 9.6). In memory there is none, and the end of a stream must not wait.
func (c *conn) linger(x *exchange) {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || c.tls || c.stream || x.up.done && c.r == c.w && x.reason == ReasonNone {
		return
	}
	c.deadline.Store(0)
	if half.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, onlyReader{c.nc}, lingerBytes) //nolint:errcheck // the connection ends either way
}

// onlyReader hides what else a connection can do, so that discarding allocates no pipe.
type onlyReader struct{ io.Reader }
