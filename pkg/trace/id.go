package trace

import (
	"encoding/binary"
	"math/rand/v2"
)

// TraceID names a trace. Hi is zero for 64-bit ids. The zero TraceID is no trace.
type TraceID struct{ Hi, Lo uint64 }

// SpanID names a span of a trace. The zero SpanID is no span.
type SpanID uint64

// IsZero reports whether id names no trace.
func (id TraceID) IsZero() bool { return id.Hi == 0 && id.Lo == 0 }

// AppendHex appends the lower-case hexadecimal form, 16 digits for a 64-bit id and
// 32 for a longer one, to dst.
func (id TraceID) AppendHex(dst []byte) []byte {
	if id.Hi != 0 {
		dst = appendHex64(dst, id.Hi)
	}
	return appendHex64(dst, id.Lo)
}

// String returns what AppendHex appends.
func (id TraceID) String() string {
	var buf [32]byte
	return string(id.AppendHex(buf[:0]))
}

// AppendHex appends the 16 digits of the lower-case hexadecimal form to dst.
func (id SpanID) AppendHex(dst []byte) []byte { return appendHex64(dst, uint64(id)) }

// String returns what AppendHex appends.
func (id SpanID) String() string {
	var buf [16]byte
	return string(id.AppendHex(buf[:0]))
}

// newTraceID returns a random 128-bit id, neither half of which is zero.
func newTraceID() TraceID { return TraceID{Hi: random64(), Lo: random64()} }

func newSpanID() SpanID { return SpanID(random64()) }

// random64 is never zero. The top-level source of math/rand/v2 is ChaCha8 per
// thread, seeded by the operating system: safe for concurrent use, no lock.
func random64() uint64 {
	for {
		if v := rand.Uint64(); v != 0 {
			return v
		}
	}
}

const hexDigits = "0123456789abcdef"

// appendHex64 appends 16 lower-case digits.
func appendHex64(dst []byte, v uint64) []byte {
	dst = binary.BigEndian.AppendUint64(dst, hexOf(v>>32))
	return binary.BigEndian.AppendUint64(dst, hexOf(v&0xffffffff))
}

// hexOf returns the 8 digits of a 32-bit value, one a byte: it spreads the nibbles over
// the bytes, and adds '0', or for those above nine 'a'-10.
func hexOf(v uint64) uint64 {
	v = (v<<16 | v) & 0x0000ffff0000ffff
	v = (v<<8 | v) & 0x00ff00ff00ff00ff
	v = (v<<4 | v) & 0x0f0f0f0f0f0f0f0f
	letters := (v + 0x0606060606060606) >> 4 & 0x0101010101010101
	return v + 0x3030303030303030 + letters*('a'-'0'-10)
}

// hexValue maps a digit to its value, with a mark for A to F; what is no digit has
// another mark.
var hexValue = func() (t [256]byte) {
	for i := range t {
		t[i] = noDigit
	}
	for i := range 16 {
		t[hexDigits[i]] = byte(i)
	}
	for i := range 6 {
		t['A'+i] = byte(10+i) | upperDigit
	}
	return t
}()

const (
	upperDigit = 0x40
	noDigit    = 0x80
)

// parseHex64 reads up to 16 digits of either case.
func parseHex64(s []byte) (v uint64, ok bool) {
	v, marks := readHex64(s)
	return v, marks&noDigit == 0
}

// parseLowerHex64 reads up to 16 lower-case digits.
func parseLowerHex64(s []byte) (v uint64, ok bool) {
	v, marks := readHex64(s)
	return v, marks == 0
}

// readHex64 looks at the marks of all digits once, at the end: a branch a digit would
// be most of its cost.
func readHex64(s []byte) (v uint64, marks byte) {
	for _, b := range s {
		d := hexValue[b]
		marks |= d
		v = v<<4 | uint64(d&0xf)
	}
	return v, marks & (upperDigit | noDigit)
}
