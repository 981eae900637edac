package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/http1"
)

// FuzzRequest compares with net/http: what is accepted here must be accepted there, with the same
// method, target and framing.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(typical))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"))
	f.Add([]byte("\r\nPOST http://b:81/?x HTTP/1.0\r\nContent-Length: 010\r\nConnection: x, keep-alive\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s http1.Scanner
		end, err := s.Scan(text)
		if err != nil || end == 0 {
			return
		}
		var req http1.Request
		if req.Parse(text, &s, limits) != nil {
			return
		}
		head := bytes.TrimPrefix(text[:end], []byte("\r\n"))
		std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
		if err != nil {
			if string(req.Method) == "CONNECT" || req.Path[0] == '*' {
				return // never forwarded
			}
			if strings.Contains(err.Error(), "invalid URL escape") {
				return // what the octets of a path mean is for whoever matches it: route.Canonical refuses these
			}
			t.Fatalf("accepted what net/http refuses: %v\n%q", err, head)
		}
		if std.Method != string(req.Method) {
			t.Fatalf("method %q, net/http %q\n%q", req.Method, std.Method, head)
		}
		if chunked := len(std.TransferEncoding) > 0; chunked != req.Chunked {
			t.Fatalf("chunked %v, net/http %v\n%q", req.Chunked, chunked, head)
		}
		if length := max(req.ContentLength, 0); !req.Chunked && length != std.ContentLength {
			t.Fatalf("length %d, net/http %d\n%q", length, std.ContentLength, head)
		}
		if len(req.Host) > 0 && std.Host != string(req.Host) {
			t.Fatalf("host %q, net/http %q\n%q", req.Host, std.Host, head)
		}
	})
}

// FuzzResponse compares with net/http: what is accepted here must be accepted there, with the same
// framing.
func FuzzResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 404\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 304 x\r\nConnection: close\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s http1.Scanner
		end, err := s.Scan(text)
		if err != nil || end == 0 {
			return
		}
		var res http1.Response
		if res.Parse(text, &s, limits) != nil {
			return
		}
		std, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text[:end])), nil)
		if err != nil {
			t.Fatalf("accepted what net/http refuses: %v\n%q", err, text[:end])
		}
		defer std.Body.Close()
		if std.StatusCode != res.Status {
			t.Fatalf("status %d, net/http %d\n%q", res.Status, std.StatusCode, text[:end])
		}
		length := res.BodyLength(false)
		if chunked := len(std.TransferEncoding) > 0; chunked != (length == http1.BodyChunked) {
			t.Fatalf("body %d, net/http chunked %v\n%q", length, chunked, text[:end])
		}
		if length > 0 && std.ContentLength != length {
			t.Fatalf("body %d, net/http %d\n%q", length, std.ContentLength, text[:end])
		}
	})
}

// FuzzChunks holds that a body means the same in whatever pieces it arrives, and the same to net/http.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\nrest"), 1)
	f.Add([]byte("00a\r\n0123456789\r\n0\r\n\r\n"), 4)
	f.Fuzz(func(t *testing.T, text []byte, piece int) {
		if piece < 1 || piece > 1<<10 {
			piece = 3
		}
		data, rest, _, err := take(string(text), len(text)+1)
		data2, rest2, _, err2 := take(string(text), piece)
		if (err == nil) != (err2 == nil) || err == nil && (data != data2 || rest != rest2) {
			t.Fatalf("whole: %q %q %v; in pieces of %d: %q %q %v", data, rest, err, piece, data2, rest2, err2)
		}
		if err != nil {
			return
		}
		head := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		br := bufio.NewReader(io.MultiReader(bytes.NewReader([]byte(head)), bytes.NewReader(text)))
		req, err := http.ReadRequest(br)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(req.Body)
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("net/http wants more than %q", text)
			}
			t.Fatalf("accepted what net/http refuses: %v\n%q", err, text)
		}
		left, err := io.ReadAll(br)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != data || string(left) != rest {
			t.Fatalf("data %q rest %q, net/http %q %q", data, rest, got, left)
		}
	})
}

// FuzzConversation reads a whole connection: one request behind the other, each with its body, as far as they are accepted.
// net/http must find the same requests in it, with the same bodies, beginning at the same bytes.
func FuzzConversation(f *testing.F) {
	const next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
	f.Add([]byte(typical + next))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + next))
	f.Add([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nA: b\r\n\r\n" + next))
	f.Add([]byte("POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n\r\n" + next + "PUT /x HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 003\r\n\r\nabc"))
	f.Fuzz(func(t *testing.T, text []byte) {
		br := bufio.NewReader(bytes.NewReader(text))
		for rest := text; len(rest) > 0; {
			var s http1.Scanner
			end, err := s.Scan(rest)
			if err != nil || end == 0 {
				return
			}
			var req http1.Request
			if req.Parse(rest, &s, limits) != nil || req.Path == nil || req.Path[0] == '*' || bytes.IndexByte(req.Path, '%') >= 0 {
				return // refused, never forwarded, or to be judged by route.Canonical
			}
			body, after := "", string(rest[end:])
			switch {
			case req.Chunked:
				body, after, _, err = take(after, len(after)+1)
			case req.ContentLength > int64(len(after)):
				return
			case req.ContentLength > 0:
				body, after = after[:req.ContentLength], after[req.ContentLength:]
			}
			if err != nil {
				return
			}
			if bytes.HasPrefix(rest, []byte("\r\n")) {
				br.Discard(2) // net/http's parser leaves the empty line to its server
			}
			std, err := http.ReadRequest(br)
			if err != nil {
				t.Fatalf("accepted what net/http refuses: %v\n%q", err, rest)
			}
			got, err := io.ReadAll(std.Body)
			if err != nil || string(got) != body || std.Method != string(req.Method) {
				t.Fatalf("%s with body %q, net/http %s %q %v\n%q", req.Method, body, std.Method, got, err, rest)
			}
			rest = []byte(after)
		}
		if left, err := io.ReadAll(br); err != nil || len(left) > 0 {
			t.Fatalf("net/http leaves %q of a connection that was read to its end, %v\n%q", left, err, text)
		}
	})
}
