package gateway_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/goms-io/goms/pkg/gateway"
)

// TestFramesInPieces follows the same frames cut in all ways: the ends found are the ends there are.
func TestFramesInPieces(t *testing.T) {
	for _, client := range []bool{true, false} {
		var text []byte
		ends := map[int]bool{0: true}
		add := func(first byte, n int) {
			text = appendFrame(text, first, client, make([]byte, n))
			ends[len(text)] = true
		}
		for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536} {
			add(fin|opBinary, n)
			add(opText, n)
			add(fin|opPing, min(n, 125))
		}
		for _, piece := range []int{1, 2, 3, 7, 64, 4096, len(text)} {
			f := gateway.FramesOf(client)
			for at := 0; at < len(text); {
				end := min(at+piece, len(text))
				for at < end {
					n := f.Next(text[at:end])
					if n == 0 {
						t.Fatalf("next took nothing at %d", at)
					}
					at += n
					if f.Between() != ends[at] {
						t.Fatalf("client %v, pieces of %d: between = %v at %d, want %v", client, piece, f.Between(), at, ends[at])
					}
				}
			}
			if f.Ended() || f.Broken() {
				t.Errorf("client %v: ended %v, broken %v", client, f.Ended(), f.Broken())
			}
			if f.Next(appendFrame(nil, fin|opClose, client, []byte(goingAway))); !f.Ended() || f.Between() {
				t.Errorf("client %v: after a Close: ended %v, between %v", client, f.Ended(), f.Between())
			}
		}
	}
}

func TestFramesThatAreNone(t *testing.T) {
	f := func(client bool, text string) {
		t.Helper()
		f := gateway.FramesOf(client)
		if n := f.Next([]byte(text)); !f.Broken() || f.Between() || n != len(text) {
			t.Errorf("%q: broken %v, between %v, %d taken of %d", text, f.Broken(), f.Between(), n, len(text))
		}
	}
	f(true, "\x81\x01a and more")                                       // a client masks (RFC 6455 section 5.1)
	f(false, "\x81\x81\x01\x02\x03\x04a and more")                      // a server does not
	f(true, "\x81\xfe\x00\x7d\x01\x02\x03\x04")                         // the shortest length (section 5.2)
	f(true, "\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04") // as above
	f(true, "\x81\xff\x80\x00\x00\x00\x00\x01\x00\x00\x01\x02\x03\x04") // its highest bit is 0
	f(true, "\x09\x80\x01\x02\x03\x04")                                 // no fragments of control frames (section 5.5)
	f(true, "\x89\xfe\x00\x7e\x01\x02\x03\x04")                         // which are short
}

// FuzzFrames cuts bytes in two ways and wants the same of both: how bytes arrive means nothing.
func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(nil, fin|opText, true, []byte("hello")), uint64(1), true)
	f.Add(appendFrame(appendFrame(nil, opText, false, make([]byte, 300)), fin|opClose, false, nil), uint64(2), false)
	f.Add(bytes.Repeat([]byte{0xff}, 20), uint64(3), true)
	f.Fuzz(func(t *testing.T, text []byte, seed uint64, client bool) {
		whole, pieces := gateway.FramesOf(client), gateway.FramesOf(client)
		r := rand.New(rand.NewPCG(seed, 0))
		for rest := text; len(rest) > 0; {
			n := whole.Next(rest)
			if n < 1 || n > len(rest) {
				t.Fatalf("next took %d of %d", n, len(rest))
			}
			for part := rest[:n]; len(part) > 0; {
				k := pieces.Next(part[:1+r.IntN(len(part))])
				if k < 1 {
					t.Fatal("next took nothing of a piece")
				}
				part = part[k:]
			}
			if whole.Between() != pieces.Between() || whole.Ended() != pieces.Ended() || whole.Broken() != pieces.Broken() {
				t.Fatalf("whole: %v %v %v, in pieces: %v %v %v", whole.Between(), whole.Ended(), whole.Broken(), pieces.Between(), pieces.Ended(), pieces.Broken())
			}
			rest = rest[n:]
		}
	})
}
