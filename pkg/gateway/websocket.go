package gateway

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"
)

// closeTime is what WebSockets get, when the gateway may wait no longer, to end with Close frames.
var closeTime = time.Second

// webSocket is a tunnel whose bytes are followed at the boundaries of frames, so that the gateway can end it
// as RFC 6455 has it: with a Close frame to each side.
type webSocket struct {
	leaving          atomic.Bool // the gateway wants it to end
	toNode, toClient way
}

// way is one direction of a WebSocket. It belongs to the goroutine that carries it.
type way struct {
	frames
	dst, src net.Conn
	buf      tunnelBuffer
}

// webSocket carries an open WebSocket to its end. What has been passed on already was the first of either side. The error is a fault in
// carrying it.
func (c *conn) webSocket(node net.Conn, first, early []byte) error {
	ws := &webSocket{toNode: way{frames: frames{masked: true}, dst: node, src: c.nc}, toClient: way{dst: c.nc, src: node}}
	ws.toClient.pass(first)
	ws.toNode.pass(early)
	c.ws.Store(ws)
	defer c.ws.Store(nil)
	return c.bothWays(func() { c.carryFrames(ws, &ws.toNode) }, func() { c.carryFrames(ws, &ws.toClient) })
}

// carryFrames is carry for one way of a WebSocket. The bytes pass through here, also where the kernel could
// move them: it would not say where frames end.
func (c *conn) carryFrames(ws *webSocket, w *way) {
	defer w.buf.release()
	for {
		n, err := w.src.Read(w.buf.bytes())
		part := w.buf.bytes()[:n]
		if ws.leaving.Load() {
			c.part(w, part)
			return
		}
		if n > 0 {
			c.arm(c.gw.clock(), c.gw.set().StreamTimeout)
			w.pass(part)
			if _, werr := w.dst.Write(part); werr != nil {
				c.halfClose(w.dst)
				return
			}
			w.buf.fit(n)
		}
		if err != nil {
			if w.src == c.nc && (!errors.Is(err, io.EOF) || clientReset(w.src)) {
				c.end(endClientGone) // it takes nothing more either
			}
			c.halfClose(w.dst)
			return
		}
	}
}

// clientReset reports whether a stream did not end, but was given up.
func clientReset(nc net.Conn) bool {
	s, ok := nc.(*streamConn)
	return ok && s.Gone()
}

// part ends one way with a Close frame as soon as the frame that passes has ended, and then waits for the
// source's own. What the source sends meanwhile goes nowhere: after a Close no data may follow. rest has been
// read and not passed on.
func (c *conn) part(w *way, rest []byte) {
	if !c.reopen(w.src) {
		return
	}
	said := w.ended // the source has closed by itself
	var note [8]byte
	for !w.broken {
		if !said && w.between() {
			if _, err := w.dst.Write(w.appendGoingAway(note[:0])); err != nil {
				return
			}
			said = true
		}
		if w.ended {
			return
		}
		if len(rest) == 0 {
			n, err := w.src.Read(w.buf.bytes())
			if n == 0 && err != nil {
				return
			}
			rest = w.buf.bytes()[:n]
		}
		k := w.next(rest)
		if !said {
			if _, err := w.dst.Write(rest[:k]); err != nil {
				return
			}
			said = w.ended
		}
		rest = rest[k:]
	}
}

// leave asks the WebSocket of a connection to end; false when there is none.
func (c *conn) leave() bool {
	ws := c.ws.Load()
	if ws == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != endNone {
		return false
	}
	ws.leaving.Store(true)
	c.nc.SetReadDeadline(past) // both ways look up
	if c.up != nil {
		c.up.nc.SetReadDeadline(past)
	}
	return true
}

// reopen lets a side be read again after leave, unless the connection was ended since.
func (c *conn) reopen(nc net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != endNone {
		return false
	}
	nc.SetReadDeadline(time.Time{})
	return true
}

// partWebSockets ends all WebSockets with Close frames and waits until their connections have ended, or done is, for
// closeTime at most. HTTP/2 connections on which nothing else is left have that time too, to write the ends of their streams.
func (g *Gateway) partWebSockets(done <-chan struct{}) {
	var leaving []*conn
	for _, c := range g.snapshotConns(nil) {
		if c.leave() {
			leaving = append(leaving, c)
		}
	}
	if len(leaving) == 0 {
		return
	}
	limit := time.NewTimer(closeTime)
	defer limit.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		for len(leaving) > 0 && !g.serves(leaving[0]) {
			leaving = leaving[1:]
		}
		if len(leaving) == 0 && !g.onlyHTTP2() {
			return
		}
		select {
		case <-poll.C:
		case <-done:
			return
		case <-limit.C:
			return
		}
	}
}

// frames follows the frames of one way of a WebSocket (RFC 6455 section 5.2) through the bytes that pass. It
// keeps none of them but the header it is in. Bytes that are no frames are not followed any further.
type frames struct {
	masked bool // as all frames of a client must be, and none of a node

	head   [14]byte
	have   int    // of the header
	left   uint64 // of the payload
	ended  bool   // a Close frame has passed
	broken bool   // what passes cannot be followed
}

// The parts of a header.
const (
	frameFin     = 0x80
	frameOpcode  = 0x0f
	frameControl = 0x08
	frameClose   = 0x08
	frameMask    = 0x80
	frameLength  = 0x7f

	goingAway = 1001 // RFC 6455 section 7.4.1
)

// between reports whether a frame may be put in where the bytes now are.
func (f *frames) between() bool { return f.have == 0 && f.left == 0 && !f.broken && !f.ended }

// pass follows all of b.
func (f *frames) pass(b []byte) {
	for len(b) > 0 {
		b = b[f.next(b):]
	}
}

// next follows b to the end of the frame that it is in, and returns how far that is.
func (f *frames) next(b []byte) int {
	if f.broken || f.ended {
		return len(b)
	}
	n := 0
	for f.left == 0 {
		if n == len(b) {
			return n
		}
		f.head[f.have] = b[n]
		f.have++
		n++
		if f.have < f.size() {
			continue
		}
		if f.left = f.length(); f.broken {
			return len(b)
		}
		if f.left == 0 {
			f.end()
			return n
		}
	}
	k := min(f.left, uint64(len(b)-n))
	if f.left -= k; f.left == 0 {
		f.end()
	}
	return n + int(k)
}

// end ends a frame.
func (f *frames) end() {
	f.have = 0
	f.ended = f.head[0]&frameOpcode == frameClose
}

// size is the length of the header, as far as it can be told.
func (f *frames) size() int {
	if f.have < 2 {
		return 2
	}
	n := 2
	switch f.head[1] & frameLength {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&frameMask != 0 {
		n += 4
	}
	return n
}

// length is what a complete header says of the payload. Headers that RFC 6455 forbids break the sequence;
// opcodes and bits that extensions may use do not.
func (f *frames) length() uint64 {
	n := uint64(f.head[1] & frameLength)
	least := uint64(0)
	switch n {
	case 126:
		n, least = uint64(binary.BigEndian.Uint16(f.head[2:])), 126
	case 127:
		n, least = binary.BigEndian.Uint64(f.head[2:]), 1<<16
	}
	control := f.head[0]&frameControl != 0
	f.broken = n < least || n > 1<<63-1 || (f.head[1]&frameMask != 0) != f.masked ||
		control && (n > 125 || f.head[0]&frameFin == 0)
	return n
}

// appendGoingAway appends a Close frame that says 1001, and ends the sequence for whoever writes it.
func (f *frames) appendGoingAway(dst []byte) []byte {
	if !f.masked {
		return append(dst, frameFin|frameClose, 2, goingAway>>8, goingAway&0xff)
	}
	key := rand.Uint32()
	dst = append(dst, frameFin|frameClose, frameMask|2)
	dst = binary.BigEndian.AppendUint32(dst, key)
	return append(dst, goingAway>>8^byte(key>>24), goingAway&0xff^byte(key>>16))
}
