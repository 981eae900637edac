package gateway

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// upload passes a request's body to the node while the answer is awaited: a node may answer before it
// has read everything, and both may stream at once.
type upload struct {
	active bool
	after  atomic.Int64 // how long the answer may be waited for once the body has passed
	wg     sync.WaitGroup
	read   atomic.Bool // the whole body has been read from the client
	sent   bool        // and written to the node; valid once wg is done
	err    error       // the client's fault that ended it; valid once wg is done, or ended() is endUpload
	spill  []byte      // what was read behind the body's end
}

func (u *upload) reset() {
	u.active, u.sent, u.err, u.spill = false, false, nil, nil
	if u.read.Load() {
		u.read.Store(false)
	}
}

var relayBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// startUpload begins to pass the rest of the request's body. stopUpload waits for its end.
func (c *conn) startUpload(x *exchange, up *upstreamConn) {
	x.upload.active = true
	x.upload.wg.Add(1)
	x.upload.after.Store(int64(x.answerTimeout()))
	c.unhurried.Store(false)
	c.began.Store(0)
	if !x.req.Expect { // else the client may wait for the node's 100
		c.began.Store(c.gw.clock())
	}
	c.armUpload()
	up.wait(max(vanishedAfter, c.gw.set().BodyTimeout))
	go c.passRequestBody(x, up)
}

// armUpload lets the upload wait for a piece of the body.
func (c *conn) armUpload() { c.upload.Store(c.gw.clock() + int64(c.gw.set().BodyTimeout)) }

// passRequestBody is the goroutine of an upload.
func (c *conn) passRequestBody(x *exchange, up *upstreamConn) {
	u := &x.upload
	defer u.wg.Done()
	defer c.gw.caught(func(fault error) {
		u.err = fault
		c.upload.Store(0)
		c.endUpstream(endUpload)
	})
	clientErr, nodeErr := c.copyRequestBody(x, up)
	c.spliced.Store(false)
	switch {
	case clientErr != nil:
		u.err = clientErr
		c.endUpstream(endUpload)
		c.upload.Store(0)
		return
	case nodeErr == nil:
		u.sent = true
	}
	// A node that stopped reading may still have an answer.
	c.deadline.Store(c.gw.clock() + u.after.Load())
	c.upload.Store(0)
}

// copyRequestBody returns the client's fault or the error on the node's side.
func (c *conn) copyRequestBody(x *exchange, up *upstreamConn) (clientErr, nodeErr error) {
	var buf, out []byte // nil, or bytes were read
	defer func() { giveBuffer(buf) }()
	r, w := 0, 0
	if c.r < c.w {
		buf = takeBuffer(bodyBuffer)
		w = copy(buf, c.buf[c.r:c.w]) // what of a chunk's frame has arrived already
		c.r = c.w
	}
	for !x.up.done {
		if x.up.kind == bodyLength && x.up.left > spliceAbove {
			if r == w {
				giveBuffer(buf)
				buf, r, w = nil, 0, 0
			}
			if done, cerr, nerr := c.spliceUp(x, up); done {
				return cerr, nerr
			}
		}
		most := int64(bodyBuffer)
		if x.up.kind == bodyLength {
			most = x.up.left // not into the next request
		}
		c.armUpload()
		c.hungry.Store(true)
		var n int
		var err error
		if r == w {
			giveBuffer(buf)
			buf, r, w = nil, 0, 0
		}
		if buf == nil && c.src != nil {
			buf, n, err = c.src.next(bodyBuffer, int(min(most, bodyBuffer)))
		} else {
			if buf == nil {
				buf = takeBuffer(bodyBuffer)
			}
			w = copy(buf, buf[r:w])
			n, err = c.nc.Read(buf[w:min(int64(len(buf)), int64(w)+most)])
		}
		if n == 0 && err != nil {
			return c.clientError(err), nil
		}
		c.hungry.Store(false)
		c.got.Add(int64(n))
		c.began.CompareAndSwap(0, c.gw.clock())
		w += n
		part := buf[:w]
		if x.up.plain() {
			x.up.took(n)
			r = w
		} else {
			out, n, err = x.up.feed(out[:0], part)
			if err != nil {
				return err, nil
			}
			r, part = n, out
		}
		if x.up.done {
			x.upload.spill = append(x.upload.spill, buf[r:w]...)
			x.upload.read.Store(true)
		}
		c.armUpload()
		if _, err := up.nc.Write(part); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// clientError says what a failed read of the request's body means.
func (c *conn) clientError(err error) error {
	if why := c.ended(); errors.Is(err, os.ErrDeadlineExceeded) && (why == endLate || why == endSlow) {
		return &failure{ReasonClientTimeout, err}
	}
	return &failure{ReasonClientGone, err}
}

// spliceUp lets the kernel move the rest of a long body. done is false when it cannot here.
func (c *conn) spliceUp(x *exchange, up *upstreamConn) (done bool, clientErr, nodeErr error) {
	dst, ok := up.nc.(*net.TCPConn)
	if !ok || c.tcp == nil || !canSplice {
		return false, nil, nil
	}
	c.armUpload()
	c.progress()
	c.spliced.Store(true)
	l := io.LimitedReader{R: c.tcp, N: x.up.left}
	n, err := dst.ReadFrom(&l)
	x.up.left -= n
	x.up.done = x.up.left == 0
	switch {
	case x.up.done:
		x.upload.read.Store(true)
		return true, nil, nil
	case err == nil, c.ended() != endNone, clientGone(c.nc):
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return true, c.clientError(err), nil
	}
	return true, nil, err
}

// stopUpload ends an upload that still runs and waits for it. It reports whether the node's connection
// got the whole request.
func (c *conn) stopUpload(x *exchange, up *upstreamConn) bool {
	u := &x.upload
	if !u.active {
		return true
	}
	if u.read.Load() {
		up.nc.SetWriteDeadline(time.Now().Add(time.Second))
	} else {
		x.close = true
		up.nc.SetWriteDeadline(past)
		c.nc.SetReadDeadline(past)
	}
	u.wg.Wait()
	u.active = false
	if !u.sent {
		return false
	}
	return up.nc.SetWriteDeadline(time.Time{}) == nil
}

// takeSpill makes what was read behind a body the beginning of the next request.
func (c *conn) takeSpill(x *exchange) {
	if len(x.upload.spill) == 0 || x.close {
		return
	}
	c.buf = append(c.buf[:0], x.upload.spill...)
	c.r, c.w = 0, len(c.buf)
	c.buf = c.buf[:cap(c.buf)]
}
