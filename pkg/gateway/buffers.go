package gateway

import "sync"

// Buffers are taken when there are bytes to put into them and given back before a wait, as far as they are empty: a
// client or a node that keeps the gateway waiting does not keep its memory too.
const (
	readBuffer   = 4 << 10  // of a client connection, grows for large heads; and for small answers
	answerBuffer = 16 << 10 // for what nodes answer
	bodyBuffer   = 32 << 10 // for requests' bodies, and for what is to be written and is no small answer
	keepBuffer   = 64 << 10 // larger buffers are not kept
)

var (
	readBuffers   = sync.Pool{New: func() any { return new([readBuffer]byte) }}
	answerBuffers = sync.Pool{New: func() any { return new([answerBuffer]byte) }}
	bodyBuffers   = sync.Pool{New: func() any { return new([bodyBuffer]byte) }}
)

func takeBuffer(size int) []byte {
	switch size {
	case readBuffer:
		return readBuffers.Get().(*[readBuffer]byte)[:] //nolint:forcetypeassert // see New
	case answerBuffer:
		return answerBuffers.Get().(*[answerBuffer]byte)[:] //nolint:forcetypeassert // see New
	default:
		return bodyBuffers.Get().(*[bodyBuffer]byte)[:] //nolint:forcetypeassert // see New
	}
}

// giveBuffer gives back what takeBuffer handed out. Others, nil among them, are left to the collector.
func giveBuffer(b []byte) {
	switch cap(b) {
	case readBuffer:
		readBuffers.Put((*[readBuffer]byte)(b[:readBuffer]))
	case answerBuffer:
		answerBuffers.Put((*[answerBuffer]byte)(b[:answerBuffer]))
	case bodyBuffer:
		bodyBuffers.Put((*[bodyBuffer]byte)(b[:bodyBuffer]))
	}
}

// room makes x.out, which must be empty, large enough for n bytes, if that is not too much.
func (x *exchange) room(n int) {
	switch {
	case n <= cap(x.out):
	case n <= answerBuffer:
		x.tidy()
		x.out = takeBuffer(answerBuffer)[:0]
	case n <= bodyBuffer:
		x.tidy()
		x.out = takeBuffer(bodyBuffer)[:0]
	}
}

// tidy gives back a large x.out.
func (x *exchange) tidy() {
	if cap(x.out) != readBuffer {
		giveBuffer(x.out)
		x.out = x.small[:0]
	}
}

// tidyAnswer gives the answer's buffer back when nothing is left in it.
func (x *exchange) tidyAnswer() {
	if x.ansR == x.ansW {
		giveBuffer(x.ans)
		x.ans, x.ansR, x.ansW = nil, 0, 0
	}
}
