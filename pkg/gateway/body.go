package gateway

import (
	"github.com/goms-io/goms/pkg/http1"
)

// body follows one message body from the framing it arrives in to the framing it leaves in. It does
// no I/O: feed turns bytes that were read into bytes to write.
type body struct {
	kind    bodyKind
	rechunk bool // leaves in chunks; else as plain bytes
	done    bool
	left    int64 // of a body of known length
	room    int64 // data bytes still allowed; -1 without limit
	chunks  http1.Chunks
}

type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyLength
	bodyChunked
	bodyUntilClose
)

var errBodyTooLarge = &failure{reason: ReasonBodyTooLarge}

func (b *body) reset(kind bodyKind, length, room int64, rechunk bool) {
	b.kind, b.left, b.room, b.rechunk = kind, length, room, rechunk
	b.done = kind == bodyNone || kind == bodyLength && length == 0
	if kind == bodyChunked {
		b.chunks.Reset()
	}
}

// plain reports whether bytes leave exactly as they arrive, so that they need not pass through feed.
func (b *body) plain() bool { return b.kind == bodyLength || b.kind == bodyUntilClose && !b.rechunk }

// feed takes bytes from in, appends to out what has to be written for them and returns how many it
// took. What it leaves belongs to the next message (when done) or needs more bytes behind it.
func (b *body) feed(out, in []byte) ([]byte, int, error) {
	switch b.kind {
	case bodyLength:
		n := int(min(int64(len(in)), b.left))
		b.took(n)
		return append(out, in[:n]...), n, nil
	case bodyUntilClose:
		if b.rechunk {
			return http1.AppendChunk(out, in), len(in), nil
		}
		return append(out, in...), len(in), nil
	case bodyChunked:
		return b.feedChunks(out, in)
	}
	return out, 0, nil
}

// took counts n bytes of a body of known length.
func (b *body) took(n int) {
	b.left -= int64(n)
	b.done = b.left == 0
}

func (b *body) feedChunks(out, in []byte) ([]byte, int, error) {
	taken := 0
	for {
		n, data, err := b.chunks.Next(in[taken:])
		taken += n
		if err != nil {
			return out, taken, err
		}
		if len(data) > 0 {
			if b.room >= 0 {
				if int64(len(data)) > b.room {
					return out, taken, errBodyTooLarge
				}
				b.room -= int64(len(data))
			}
			if b.rechunk {
				out = http1.AppendChunk(out, data)
			} else {
				out = append(out, data...)
			}
		}
		if b.room >= 0 && b.chunks.Left() > uint64(b.room) {
			return out, taken, errBodyTooLarge
		}
		if b.chunks.Done() {
			b.done = true
			return b.appendEnd(out), taken, nil
		}
		if n == 0 || taken == len(in) {
			return out, taken, nil
		}
	}
}

// appendEnd appends the last chunk and the trailer fields that may be passed on.
func (b *body) appendEnd(out []byte) []byte {
	if !b.rechunk {
		return out
	}
	out = append(out, "0\r\n"...)
	for _, f := range b.chunks.Trailers() {
		if ownedField(f.Name) != ownNone {
			continue
		}
		out = append(out, f.Name...)
		out = append(out, ": "...)
		out = append(out, f.Value...)
		out = append(out, "\r\n"...)
	}
	return append(out, "\r\n"...)
}

// closed tells a body that ends with its connection that it has ended. It returns what is left to
// write, and false when the body is cut short.
func (b *body) closed(out []byte) ([]byte, bool) {
	if b.kind != bodyUntilClose {
		return out, b.done
	}
	b.done = true
	if b.rechunk {
		out = append(out, "0\r\n\r\n"...)
	}
	return out, true
}
