package http1_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/http1"
)

var limits = http1.Limits{Head: 32 << 10, Lines: 100, Target: 8 << 10}

// parse scans and parses text, which must hold a whole head.
func parse(text string) (*http1.Request, int, error) {
	var s http1.Scanner
	end, err := s.Scan([]byte(text))
	if err != nil {
		return nil, 0, err
	}
	if end == 0 {
		return nil, 0, errIncomplete
	}
	req := new(http1.Request)
	return req, end, req.Parse([]byte(text), &s, limits)
}

var errIncomplete = errors.New("incomplete")

func TestRequestParts(t *testing.T) {
	f := func(text, method, path, query, host string, length int64, chunked, last bool) {
		t.Helper()
		req, end, err := parse(text)
		if err != nil {
			t.Errorf("Parse(%q) = %v", text, err)
			return
		}
		if end != len(text) {
			t.Errorf("Scan(%q) = %d, want %d", text, end, len(text))
		}
		if string(req.Method) != method || string(req.Path) != path || string(req.Query) != query || string(req.Host) != host {
			t.Errorf("Parse(%q) = %q %q %q %q", text, req.Method, req.Path, req.Query, req.Host)
		}
		if req.ContentLength != length || req.Chunked != chunked || req.Close != last {
			t.Errorf("Parse(%q): length %d, chunked %v, close %v", text, req.ContentLength, req.Chunked, req.Close)
		}
	}
	f("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/", "", "a", -1, false, false)
	f("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/", "", "a", -1, false, false) // RFC 9112 2.2
	f("GET /x?y=z?&q HTTP/1.1\r\nhOST:\ta:80 \r\n\r\n", "GET", "/x", "?y=z?&q", "a:80", -1, false, false)
	f("POST /x? HTTP/1.1\r\nHost: [::1]:8080\r\nContent-Length: 17\r\n\r\n", "POST", "/x", "?", "[::1]:8080", 17, false, false)
	f("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nConnection: Close\r\n\r\n", "PUT", "/x", "", "a", -1, true, true)
	f("GET /x HTTP/1.0\r\n\r\n", "GET", "/x", "", "", -1, false, true)
	f("GET /x HTTP/1.0\r\nConnection: foo, Keep-Alive\r\n\r\n", "GET", "/x", "", "", -1, false, false)
	f("GET http://b:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/p", "?q", "b:81", -1, false, false) // RFC 9112 3.2.2
	f("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/", "", "b", -1, false, false)
	f("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/", "?q", "b", -1, false, false)
	f("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "*", "", "a", -1, false, false) // RFC 9112 3.2.4
	f("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "CONNECT", "", "", "a:443", -1, false, false)
	f("G!#$%&'*+-.^_`|~T /x HTTP/1.1\r\nHost: a\r\nX-Obs: \x80\xff\r\nEmpty:\r\n\r\n", "G!#$%&'*+-.^_`|~T", "/x", "", "a", -1, false, false)
}

func TestRequestRefused(t *testing.T) {
	f := func(text string, want error) {
		t.Helper()
		if _, _, err := parse(text); err != want {
			t.Errorf("Parse(%q) = %v, want %v", text, err, want)
		}
	}
	head := func(lines string) string { return "POST /x HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n" }
	// RFC 9112 section 2.2: line ends.
	f("GET / HTTP/1.1\nHost: a\r\n\r\n", http1.ErrBareLF)
	f("GET / HTTP/1.1\r\nHost: a\n\r\n", http1.ErrBareLF)
	f("GET / HTTP/1.1\r\nHost: a\r\n\n", http1.ErrBareLF)
	f("\nGET / HTTP/1.1\r\n", http1.ErrBareLF)
	f("\r\n\r\nGET / HTTP/1.1\r\n", http1.ErrRequestLine)
	f(head("A: b\rc: d\r\n"), http1.ErrBareCR)
	f(head("A: b\r\r\n"), http1.ErrBareCR)
	f(head("A: b\x00\r\n"), http1.ErrControl)
	f(head("A: \x7f\r\n"), http1.ErrControl)
	// Section 3: the request line.
	f(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrRequestLine)
	f("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrRequestLine)
	f("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrRequestLine)
	f("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", http1.ErrRequestLine)
	f("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrMethod)
	f("GET /\r\nHost: a\r\n\r\n", http1.ErrRequestLine)
	f("GET / http/1.1\r\nHost: a\r\n\r\n", http1.ErrRequestLine)
	f("GET / HTTP/1.1x\r\nHost: a\r\n\r\n", http1.ErrRequestLine)
	f("GET / HTTP/01.1\r\nHost: a\r\n\r\n", http1.ErrRequestLine)
	f("GET / HTTP/2.0\r\nHost: a\r\n\r\n", http1.ErrVersion)
	f("GET / HTTP/1.2\r\nHost: a\r\n\r\n", http1.ErrVersion)
	f("PRI * HTTP/2.0\r\n\r\n", http1.ErrVersion)
	f("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrMethod)
	f("GET x HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrTarget)
	f("GET * HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrTarget)
	f("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrTarget)
	f("GET /a\x80 HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrTarget)
	f("GET /a\"b HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrTarget)
	f("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrTarget)
	f("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrTarget)
	f("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrTarget)
	f("GET /"+strings.Repeat("a", 8<<10)+" HTTP/1.1\r\nHost: a\r\n\r\n", http1.ErrTargetLong)
	// Section 3.2: Host.
	f("GET / HTTP/1.1\r\n\r\n", http1.ErrHostMissing)
	f("GET / HTTP/1.1\r\nA: b\r\n\r\n", http1.ErrHostMissing)
	f("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", http1.ErrHostTwice)
	f("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", http1.ErrHostTwice)
	for _, host := range []string{"", "a b", "a/b", "a@b", "a:b", "a:1:2", ":80", "a:123456", "[::1", "::1", "[::1]x", "[g]", "a%00", "a,b\\"} {
		f("GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", http1.ErrHost)
	}
	// Section 5: fields.
	f(head("A : b\r\n"), http1.ErrFieldName)
	f(head("A\t: b\r\n"), http1.ErrFieldName)
	f(head(": b\r\n"), http1.ErrFieldName)
	f(head("A b\r\n"), http1.ErrNoColon)
	f(head("A(b): c\r\n"), http1.ErrFieldName)
	f(head("\xc3\xa4: c\r\n"), http1.ErrFieldName)
	f(head("A: b\r\n c\r\n"), http1.ErrFold)
	f(head("A: b\r\n\tc\r\n"), http1.ErrFold)
	f("GET / HTTP/1.1\r\n Host: a\r\n\r\n", http1.ErrFold)
	// Section 6: framing.
	f(head("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), http1.ErrLengthAndCoding)
	f(head("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), http1.ErrLengthAndCoding)
	f(head("Content-Length: 1\r\nContent-Length: 1\r\n"), http1.ErrLengthTwice)
	f(head("Content-Length: 1\r\nContent-Length: 2\r\n"), http1.ErrLengthTwice)
	for _, n := range []string{"", "1,1", "1, 2", "+1", "-1", "0x1", "1 1", "1.0", "1_0", "\"1\"", "1234567890123456789", "١"} {
		f(head("Content-Length: "+n+"\r\n"), http1.ErrLength)
	}
	f("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", http1.ErrCodingVersion)
	f(head("Transfer-Encoding: gzip, chunked\r\n"), http1.ErrCodingUnknown)
	f(head("Transfer-Encoding: identity\r\n"), http1.ErrCodingUnknown)
	f(head("Transfer-Encoding: xchunked\r\n"), http1.ErrCodingUnknown)
	f(head("Transfer-Encoding: chunked, chunked\r\n"), http1.ErrCodingOrder)
	f(head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), http1.ErrCodingOrder)
	f(head("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), http1.ErrCodingOrder)
	f(head("Transfer-Encoding: chunked;q=1\r\n"), http1.ErrCodingSyntax)
	f(head("Transfer-Encoding: \"chunked\"\r\n"), http1.ErrCodingSyntax)
	f(head("Transfer-Encoding: ,chunked\r\n"), http1.ErrCodingSyntax)
	f(head("Transfer-Encoding: \r\n"), http1.ErrCodingSyntax)
	f(head("Transfer-Encoding: \x0bchunked\r\n"), http1.ErrControl)
	f(head("Transfer-Encoding:\tchunked\r\n"), http1.ErrCodingSyntax)
	f(head("Transfer-Encoding: chunked\t\r\n"), http1.ErrCodingSyntax)
	// Section 9 and RFC 9110 section 7.6.1: connection options.
	f(head("Connection: close, Content-Length\r\nContent-Length: 1\r\n"), http1.ErrConnection)
	f(head("Connection: transfer-encoding\r\n"), http1.ErrConnection)
	f(head("Connection: HOST\r\n"), http1.ErrConnection)
	f(head("Connection: a b\r\n"), http1.ErrConnectionToken)
	// RFC 9110 section 10.1.1: Expect.
	f(head("Expect: 200-ok\r\n"), http1.ErrExpect)
	f(head(strings.Repeat("A: b\r\n", 100)), http1.ErrLines)
	f(head(strings.Repeat("A: b\r\n", 200)), http1.ErrLines)
	f(head("A: "+strings.Repeat("b", 33<<10)+"\r\n"), http1.ErrHeadLong)
}

func TestNominatedFields(t *testing.T) {
	req, _, err := parse("GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nconnection: x-a , keep-alive\r\nX-a: 2\r\nX-B: 3\r\nKeep-Alive: 5\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	var dropped []string
	for _, f := range req.Fields {
		if f.Nominated || f.Kind.HopByHop() {
			dropped = append(dropped, string(f.Name))
		}
	}
	if got := strings.Join(dropped, " "); got != "X-A connection X-a Keep-Alive" {
		t.Errorf("hop-by-hop fields = %q", got)
	}
}

func TestUpgradeNeedsItsOption(t *testing.T) {
	with, _, err := parse("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	if err != nil || string(with.Upgrade) != "websocket" {
		t.Errorf("Upgrade = %q, %v, want websocket", with.Upgrade, err)
	}
	without, _, err := parse("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n")
	if err != nil || without.Upgrade != nil {
		t.Errorf("Upgrade without its connection option = %q, %v, want none", without.Upgrade, err)
	}
}

// TestScanInPieces gives the scanner every head one byte at a time.
func TestScanInPieces(t *testing.T) {
	text := "\r\nGET /x HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\nrest"
	var s http1.Scanner
	for i := 1; i <= len(text); i++ {
		end, err := s.Scan([]byte(text[:i]))
		if err != nil {
			t.Fatalf("Scan after %d bytes: %v", i, err)
		}
		if end == 0 {
			continue
		}
		if end != len(text)-4 || i != end {
			t.Fatalf("Scan found the end at %d after %d bytes, want %d", end, i, len(text)-4)
		}
		var req http1.Request
		if err := req.Parse([]byte(text[:i]), &s, limits); err != nil || len(req.Fields) != 2 {
			t.Fatalf("Parse = %v with %d fields", err, len(req.Fields))
		}
		return
	}
	t.Fatal("Scan never found the end")
}

func TestParseAllocatesNothing(t *testing.T) {
	text := []byte(typical)
	var s http1.Scanner
	var req http1.Request
	allocs := testing.AllocsPerRun(100, func() {
		s.Reset()
		if _, err := s.Scan(text); err != nil {
			t.Fatal(err)
		}
		if err := req.Parse(text, &s, limits); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("Parse allocates %v times, want 0", allocs)
	}
}

const typical = "POST /api/user/login?a=1&b=3 HTTP/1.1\r\nHost: gateway.example:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\nContent-Type: application/json\r\nContent-Length: 37\r\nConnection: keep-alive\r\n\r\n"

func BenchmarkParse(b *testing.B) {
	text := []byte(typical)
	var s http1.Scanner
	var req http1.Request
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		s.Reset()
		s.Scan(text)
		if err := req.Parse(text, &s, limits); err != nil {
			b.Fatal(err)
		}
	}
}
