package http1_test

import (
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/http1"
)

// take feeds text to a Chunks in pieces of the given size and returns the data and what was left over.
func take(text string, piece int) (data, rest string, trailers []string, err error) {
	var c http1.Chunks
	c.Reset()
	var out, buf []byte
	for i := 0; ; {
		n, d, err := c.Next(buf)
		out = append(out, d...)
		if c.Done() {
			for _, f := range c.Trailers() {
				trailers = append(trailers, string(f.Name)+"="+string(f.Value))
			}
			return string(out), string(buf[n:]) + text[i:], trailers, err
		}
		buf = buf[n:]
		if err != nil {
			return string(out), "", nil, err
		}
		if n > 0 {
			continue
		}
		if i == len(text) {
			return string(out), "", nil, errIncomplete
		}
		end := min(i+piece, len(text))
		buf = append([]byte(string(buf)), text[i:end]...)
		i = end
	}
}

func TestChunks(t *testing.T) {
	f := func(text, data, rest, trailers string) {
		t.Helper()
		for _, piece := range []int{1, 2, 3, 7, len(text)} {
			d, r, tr, err := take(text, piece)
			if err != nil || d != data || r != rest || strings.Join(tr, ",") != trailers {
				t.Errorf("%q in pieces of %d = %q, rest %q, trailers %q, %v", text, piece, d, r, tr, err)
			}
		}
	}
	f("0\r\n\r\n", "", "", "")
	f("5\r\nhello\r\n0\r\n\r\nGET /", "hello", "GET /", "")
	f("A\r\n0123456789\r\n00a\r\nabcdefghij\r\n000\r\n\r\n", "0123456789abcdefghij", "", "")
	f("2;x=y\r\nhi\r\n1;q=\"a b\"\r\n!\r\n0;z\r\n\r\n", "hi!", "", "")
	f("1\r\na\r\n0\r\nX-Sum: 1\r\nDate: now\r\n\r\nnext", "a", "next", "X-Sum=1,Date=now")
}

func TestChunksRefused(t *testing.T) {
	f := func(text string, want error) {
		t.Helper()
		for _, piece := range []int{1, len(text)} {
			if _, _, _, err := take(text, piece); err != want {
				t.Errorf("%q in pieces of %d = %v, want %v", text, piece, err, want)
			}
		}
	}
	f("\r\n", http1.ErrChunkSize)
	f("x\r\n", http1.ErrChunkSize)
	f("-1\r\n", http1.ErrChunkSize)
	f("+1\r\na\r\n", http1.ErrChunkSize)
	f(" 1\r\na\r\n", http1.ErrChunkSize)
	f("0x1\r\na\r\n", http1.ErrChunkExt)
	f("1 \r\na\r\n", http1.ErrChunkExt)
	f("1 ;x\r\na\r\n", http1.ErrChunkExt)
	f("1_0\r\na\r\n", http1.ErrChunkExt)
	f("1\na\r\n", http1.ErrBareLF)
	f("1;x\na\r\n", http1.ErrBareLF)
	f("1;\rx\r\na\r\n", http1.ErrChunkExt)
	f("1;\x00\r\na\r\n", http1.ErrChunkExt)
	f("1\r\nab\r\n", http1.ErrChunkEnd)
	f("1\r\na\n0\r\n\r\n", http1.ErrChunkEnd)
	f("1\r\na\rb", http1.ErrChunkEnd)
	f("10000000000000000\r\n", http1.ErrChunkSize)
	f("ffffffffffffffff\r\n", http1.ErrChunkSize)
	f("00000000000000001\r\na", http1.ErrChunkSize)
	f("1;"+strings.Repeat("x", 300), http1.ErrChunkExt)
	f("0\r\n\n", http1.ErrBareLF)
	f("0\r\nA : b\r\n\r\n", http1.ErrFieldName)
	f("0\r\nA: b\nC: d\r\n\r\n", http1.ErrBareLF)
	f("0\r\nContent-Length: 1\r\n\r\n", http1.ErrTrailer)
	f("0\r\nTransfer-Encoding: chunked\r\n\r\n", http1.ErrTrailer)
	f("0\r\nhost: a\r\n\r\n", http1.ErrTrailer)
	f("0\r\n"+strings.Repeat("A: b\r\n", 40)+"\r\n", http1.ErrLines)
	f("0\r\nA: "+strings.Repeat("b", 9<<10), http1.ErrHeadLong)
	f("5\r\nhel", errIncomplete)
	f("1\r\na\r\n0\r\n", errIncomplete)
}

func TestAppendChunk(t *testing.T) {
	out := http1.AppendChunk(nil, []byte("0123456789abcdef"))
	out = http1.AppendChunk(out, nil)
	if want := "10\r\n0123456789abcdef\r\n"; string(out) != want {
		t.Errorf("AppendChunk = %q, want %q", out, want)
	}
}
