package http1_test

import (
	"testing"

	"github.com/goms-io/goms/pkg/http1"
)

func parseResponse(text string) (*http1.Response, error) {
	var s http1.Scanner
	end, err := s.Scan([]byte(text))
	if err != nil {
		return nil, err
	}
	if end == 0 {
		return nil, errIncomplete
	}
	res := new(http1.Response)
	return res, res.Parse([]byte(text), &s, limits)
}

func TestResponseParts(t *testing.T) {
	f := func(text string, status int, line string, head bool, length int64) {
		t.Helper()
		res, err := parseResponse(text)
		if err != nil {
			t.Errorf("Parse(%q) = %v", text, err)
			return
		}
		if res.Status != status || string(res.Line) != line || res.BodyLength(head) != length {
			t.Errorf("Parse(%q) = %d %q with body %d, want %d %q %d", text, res.Status, res.Line, res.BodyLength(head), status, line, length)
		}
	}
	// RFC 9112 section 6.3: how long the body is.
	f("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, " 200 OK", false, 5)
	f("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, " 200 OK", true, 0)
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, " 200 OK", false, http1.BodyChunked)
	f("HTTP/1.1 200 \r\nA: b\r\n\r\n", 200, " 200 ", false, http1.BodyUntilClose)
	f("HTTP/1.1 200\r\nA: b\r\n\r\n", 200, " 200", false, http1.BodyUntilClose)
	f("HTTP/1.0 404 Not \xffFound\r\nA: b\r\n\r\n", 404, " 404 Not \xffFound", false, http1.BodyUntilClose)
	f("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, " 304 Not Modified", false, 0)
	f("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, " 204 No Content", false, 0)
	f("HTTP/1.1 100 Continue\r\nA: b\r\n\r\n", 100, " 100 Continue", false, 0)
}

// TestResponseBegun judges every beginning of a text that is no whole head.
func TestResponseBegun(t *testing.T) {
	f := func(text string, from int, want error) {
		t.Helper()
		for n := range len(text) + 1 {
			var s http1.Scanner
			if end, err := s.Scan([]byte(text[:n])); end != 0 || err != nil {
				t.Fatalf("Scan(%q) = %d, %v", text[:n], end, err)
			}
			wanted := want
			if n < from {
				wanted = nil
			}
			if err := new(http1.Response).Begun([]byte(text[:n]), &s); err != wanted {
				t.Errorf("Begun(%q) = %v, want %v", text[:n], err, wanted)
			}
		}
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 0, nil)
	f("SSH-2.0-x\r\n", 1, http1.ErrStatusLine)
	f("HTTP/2.0 200 OK\r\nA: b\r\n", 6, http1.ErrStatusLine)
	f("HTTP/1.1 600 OK\r\nA: b\r\n", 17, http1.ErrStatusLine)
	f("HTTP/1.3 200 OK\r\nA: b\r\n", 17, http1.ErrVersion)
	f("\r\nHTTP/1.1 200 OK\r\n", 1, http1.ErrStatusLine)
}

func TestResponseRefused(t *testing.T) {
	f := func(text string, want error) {
		t.Helper()
		if _, err := parseResponse(text); err != want {
			t.Errorf("Parse(%q) = %v, want %v", text, err, want)
		}
	}
	f("HTTP/1.1 20 OK\r\nA: b\r\n\r\n", http1.ErrStatusLine)
	f("HTTP/1.1 2000 OK\r\nA: b\r\n\r\n", http1.ErrStatusLine)
	f("HTTP/1.1 099 OK\r\nA: b\r\n\r\n", http1.ErrStatusLine)
	f("HTTP/1.1 600 OK\r\nA: b\r\n\r\n", http1.ErrStatusLine)
	f("HTTP/1.1  200 OK\r\nA: b\r\n\r\n", http1.ErrStatusLine)
	f("HTTP/2.0 200 OK\r\nA: b\r\n\r\n", http1.ErrStatusLine)
	f("HTTP/1.3 200 OK\r\nA: b\r\n\r\n", http1.ErrVersion)
	f("ICY 200 OK\r\nA: b\r\n\r\n", http1.ErrStatusLine)
	f("\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n", http1.ErrStatusLine)
	f("HTTP/1.1 200 O\x00K\r\nA: b\r\n\r\n", http1.ErrStatusLine)
	f("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", http1.ErrLengthAndCoding)
	f("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", http1.ErrLengthTwice)
	f("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", http1.ErrCodingVersion)
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", http1.ErrCodingUnknown)
	f("HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\n", http1.ErrLength)
	f("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", http1.ErrCodingOrder)
	f("HTTP/1.1 101 Up\r\nContent-Length: 0\r\n\r\n", http1.ErrLength)
	f("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", http1.ErrFold)
}
