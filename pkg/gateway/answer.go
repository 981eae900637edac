package gateway

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"

	"github.com/goms-io/goms/pkg/http1"
)

var (
	errInterim     = errors.New("too many interim answers")
	errSwitched    = errors.New("101 to a request that asked for no upgrade, or for another one")
	errNotSwitched = errors.New("success without 101 to the opening of a WebSocket")
	errTrailing    = errors.New("connection closed inside the body")

	errAnsweredLate = errors.New("the answer came after the attempt's time")
)

// takeAnswer reads the answer and passes it to the client.
func (c *conn) takeAnswer(x *exchange, up *upstreamConn) (again, error) {
	for interim := 0; ; interim++ {
		head, err := c.readAnswerHead(x, up)
		if err != nil {
			if interim == 0 && x.ansW == 0 && x.whole && up.refused(err) {
				return againAny, &failure{ReasonConnectFailed, &handshakeError{err}}
			}
			if c.ended() == endSilent {
				return againSilent, err
			}
			if reasonOf(err) == ReasonNodeClosed && interim == 0 && x.ansW == 0 || c.ended() == endAttempt {
				return againIdempotent, err // not a byte of an answer, or none in time
			}
			return againNever, err
		}
		if err := x.res.Parse(head, &x.resScan, *c.gw.limits()); err != nil {
			return againNever, &failure{ReasonBadAnswer, err}
		}
		if x.res.Status == 101 || x.res.Status >= 200 {
			if x.attemptLimit != 0 && !c.answered() {
				return againIdempotent, &failure{ReasonNodeTimeout, errAnsweredLate}
			}
			if !c.stays() {
				return againSilent, &failure{ReasonNodeTimeout, errAnsweredLate}
			}
		}
		switch {
		case x.res.Status == 101:
			if !x.upgrade || !bytes.EqualFold(x.res.Upgrade, x.req.Upgrade) || !x.accepted() {
				return againNever, &failure{ReasonBadAnswer, errSwitched}
			}
			c.gw.answered(x)
			c.unhurried.Store(true)
			return againNever, c.tunnel(x, up, head)
		case x.extended != nil && x.res.Status >= 200 && x.res.Status < 300:
			return againNever, &failure{ReasonBadAnswer, errNotSwitched} // the client would take it for a tunnel
		case x.res.Status >= 200:
			up.answered()
			if how, err := c.settle(x); err != nil {
				return how, err
			}
			c.gw.answered(x)
			patience := c.gw.set().BodyTimeout
			stream := x.lasting()
			if stream {
				patience = c.gw.set().StreamTimeout
			}
			if c.unhurried.Load() != stream {
				c.unhurried.Store(stream)
			}
			if x.upload.active {
				x.upload.after.Store(int64(patience))
				if !x.upload.read.Load() {
					x.close = true // the node did not wait for the whole request
				}
			}
			x.room(len(head) + x.ansW - x.ansR + 512)
			x.out = x.appendAnswer(x.out[:0], head)
			return againNever, c.passBody(x, up, patience)
		case interim == maxInterim:
			return againNever, &failure{ReasonBadAnswer, errInterim}
		}
		if x.req.Minor == 1 { // RFC 9110 section 15.2
			if _, err := c.nc.Write(x.appendAnswer(x.out[:0], head)); err != nil {
				return againNever, &failure{ReasonClientGone, err}
			}
		}
	}
}

// readAnswerHead reads until the head of an answer is complete.
func (c *conn) readAnswerHead(x *exchange, up *upstreamConn) ([]byte, error) {
	x.resScan.Reset()
	c.sizeAnswer(x)
	for {
		end, err := x.resScan.Scan(x.ans[x.ansR:x.ansW])
		switch {
		case err != nil:
			return nil, &failure{ReasonBadAnswer, err}
		case end > 0:
			head := x.ans[x.ansR : x.ansR+end]
			x.ansR += end
			return head, nil
		case x.ansW-x.ansR > c.gw.limits().Head:
			return nil, &failure{ReasonBadAnswer, http1.ErrHeadLong}
		}
		if err := x.res.Begun(x.ans[x.ansR:x.ansW], &x.resScan); err != nil {
			return nil, &failure{ReasonBadAnswer, err}
		}
		if err := x.fillAnswer(up); err != nil {
			return nil, c.upstreamError(x, err)
		}
	}
}

// sizeAnswer chooses the buffer for the answer's beginning.
func (c *conn) sizeAnswer(x *exchange) {
	if x.ansSize = answerBuffer; !c.reads {
		x.ansSize = readBuffer // the client may never read what does not fit into its socket
	}
}

// mostAnswer is how much is read at first into an answer's buffer.
func (x *exchange) mostAnswer() int {
	if x.ansSize == readBuffer {
		return readBuffer - 1<<10 // so that it leaves, with a longer head, in as small a buffer
	}
	return x.ansSize
}

// fillAnswer reads more of the answer behind what is there. Views of the buffer end when it has to move.
func (x *exchange) fillAnswer(up *upstreamConn) (err error) {
	if err = x.unread; err != nil {
		x.unread = nil
		return err
	}
	x.tidyAnswer()
	if x.ans == nil && up.src != nil {
		x.ans, x.ansW, err = up.src.next(x.ansSize, x.mostAnswer())
		return err
	}
	if x.ans == nil {
		x.ans = takeBuffer(x.ansSize)
	}
	if x.ansW == len(x.ans) {
		if x.ansR > 0 {
			x.ansW = copy(x.ans, x.ans[x.ansR:x.ansW])
			x.ansR = 0
		} else {
			x.ans = append(x.ans, make([]byte, len(x.ans))...)
		}
	}
	n, err := up.nc.Read(x.ans[x.ansW:])
	x.ansW += n
	if n > 0 {
		return nil
	}
	return err
}

// passBody writes the head in x.out and what there is of the body, then the rest as it comes.
func (c *conn) passBody(x *exchange, up *upstreamConn, patience time.Duration) error {
	var n int
	var err error
	x.out, n, err = x.down.feed(x.out, x.ans[x.ansR:x.ansW])
	x.ansR += n
	if err != nil {
		return &failure{ReasonBadAnswer, err}
	}
	x.sent = true
	x.tidyAnswer()
	if !x.down.done {
		c.phase.Store(phaseWriting)
	}
	if err := c.writeClient(x.out); err != nil {
		return err
	}
	x.ansSize = answerBuffer
	for !x.down.done {
		if x.down.kind == bodyLength && x.down.left > spliceAbove {
			if done, err := c.spliceDown(x, up); done || err != nil {
				return err
			}
		}
		if err := c.passPiece(x, up, patience); err != nil {
			return err
		}
	}
	c.reads = true
	return nil
}

// passPiece reads once from the node and writes what that yields to the client.
func (c *conn) passPiece(x *exchange, up *upstreamConn, patience time.Duration) error {
	c.arm(c.gw.clock(), patience)
	c.phase.Store(phaseAnswer)
	err := x.fillAnswer(up)
	c.phase.Store(phaseWriting)
	if err != nil {
		if errors.Is(err, io.EOF) {
			out, whole := x.down.closed(x.out[:0])
			if whole && !up.truncated() {
				return c.writeClient(out)
			}
			err = errTrailing
		}
		return c.upstreamError(x, err)
	}
	if x.down.plain() {
		return c.passPlain(x)
	}
	var n int
	x.out = x.out[:0]
	x.room(x.ansW - x.ansR + 512)
	x.out, n, err = x.down.feed(x.out, x.ans[x.ansR:x.ansW])
	x.ansR += n
	x.tidyAnswer()
	if werr := c.writeClient(x.out); werr != nil {
		return werr
	}
	if err != nil {
		return &failure{ReasonBadAnswer, err}
	}
	return nil
}

// passPlain writes bytes as they were read.
func (c *conn) passPlain(x *exchange) error {
	part := x.ans[x.ansR:x.ansW]
	if x.down.kind == bodyLength {
		part = part[:min(int64(len(part)), x.down.left)]
		x.down.took(len(part))
	}
	x.ansR += len(part)
	return c.writeClient(part)
}

// writeClient writes to the client; an error means that it is gone or does not read.
func (c *conn) writeClient(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	c.arm(c.gw.clock(), c.gw.set().BodyTimeout)
	if err := c.put(b); err != nil {
		if c.ended() == endSlow {
			return &failure{ReasonClientTimeout, err}
		}
		return &failure{ReasonClientGone, err}
	}
	return nil
}

// put writes all of b to the client.
func (c *conn) put(b []byte) error {
	if c.src != nil {
		return c.src.put(b)
	}
	_, err := c.nc.Write(b)
	return err
}

// spliceDown lets the kernel move the rest of a long body. done is false when it cannot here.
func (c *conn) spliceDown(x *exchange, up *upstreamConn) (done bool, err error) {
	src, ok := up.nc.(*net.TCPConn)
	if !ok || c.tcp == nil || !canSplice || x.ansR < x.ansW {
		return false, nil
	}
	c.arm(c.gw.clock(), c.gw.set().BodyTimeout)
	x.tidyAnswer()
	x.tidy()
	c.flowing(phaseStreaming)
	x.splice = io.LimitedReader{R: src, N: x.down.left}
	n, err := c.tcp.ReadFrom(&x.splice)
	c.phase.Store(phaseBusy)
	x.splice.R = nil
	x.down.left -= n
	x.down.done = x.down.left == 0
	switch {
	case x.down.done:
		return true, nil
	case err == nil:
		return true, c.upstreamError(x, errTrailing)
	case c.ended() == endNone && clientGone(c.nc), c.ended() == endLate:
		return true, &failure{ReasonClientGone, err}
	}
	return true, c.upstreamError(x, err)
}

// breakOff makes an answer that could not be finished look unfinished: where only the end of the
// connection tells the end of the body, the connection is reset. So it is when the client was too slow
// for its answer, or the kernel would keep what is left of it for as long as the client likes.
func (c *conn) breakOff(x *exchange) {
	if x.req.Minor > 0 && c.ended() != endSlow {
		return // its length, or the missing last chunk, shows it
	}
	x.broken = true
	if tcp, ok := socketOf(c.nc).(*net.TCPConn); ok {
		tcp.SetLinger(0) //nolint:errcheck // the connection ends either way
		tcp.Close()      //nolint:errcheck // as above
	}
}

// lasting reports whether the answer is one that may be silent for long: events, or messages of gRPC. It is the node's word, not the client's.
func (x *exchange) lasting() bool {
	for i := range x.res.Fields {
		f := &x.res.Fields[i]
		if len(f.Name) == 12 && http1.EqualFold(f.Name, "content-type") {
			return beginsWith(f.Value, "text/event-stream") || beginsWith(f.Value, "application/grpc")
		}
	}
	return false
}

func beginsWith(value []byte, lower string) bool {
	return len(value) >= len(lower) && http1.EqualFold(value[:len(lower)], lower)
}

// reusable reports whether the node's connection stands at the beginning of another exchange.
func (x *exchange) reusable() bool {
	return x.down.done && x.down.kind != bodyUntilClose && x.ansR == x.ansW && !x.res.Close && !x.upgrade && !x.leaves
}
