//go:build linux

package conformance_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/goms-io/goms/test/process"
)

// hidden is a request that no gateway ever routes: an origin that sees it was reached past the gateway's parser.
const hidden = "GET /smuggled HTTP/1.1\r\nHost: x\r\nX-Marker: smuggled\r\n\r\n"

// plain is how many seeds, the first ones, are requests that nothing is wrong with, or little.
const plain = 30

// seeds returns request streams for a path: the plain ones, the shapes by which one request hides another, and broken
// framing. Each is what a client sends on one connection.
func seeds(path string) []string {
	head := func(method, lines string) string {
		return method + " " + path + " HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n"
	}
	next := "GET " + path + "?next HTTP/1.1\r\nHost: a\r\n\r\n"
	out := []string{
		head("GET", ""), head("HEAD", "Accept: */*\r\n") + next, head("DELETE", "User-Agent: x\r\n"), head("OPTIONS", ""), head("PATCH", "Content-Length: 2\r\n") + "{}",
		"\r\n" + head("GET", ""), head("GET", "")[:20], head("GET", "") + "\r\n" + next,
		"GET " + path + "?a=1&b=%20%00;c HTTP/1.1\r\nhOST:\ta:80 \r\n\r\n",
		"GET http://b:81" + path + "?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET https://[::1]:8" + path + " HTTP/1.1\r\nHost: [::1]\r\n\r\n", "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET " + path + " HTTP/1.0\r\n\r\n", "GET " + path + " HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n" + next,
		"POST " + path + " HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "\r\nPOST http://b:81" + path + "?x HTTP/1.0\r\nContent-Length: 010\r\nConnection: x, keep-alive\r\n\r\n0123456789" + next,
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" + next, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"G!#$%&'*+-.^_`|~T " + path + " HTTP/1.1\r\nHost: a\r\nX-Obs: \x80\xff\r\nEmpty:\r\n\r\n",
		head("GET", "Upgrade: websocket\r\nConnection: Upgrade\r\n") + next, head("POST", "Upgrade: h2c\r\nConnection: upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 3\r\n") + "abc" + next,
		head("GET", "Connection: close\r\n") + next, head("POST", "Connection: close\r\nContent-Length: "+strconv.Itoa(len(hidden))+"\r\n") + hidden,
		head("POST", "Expect: 100-continue\r\nContent-Length: 5\r\n") + "hello" + next, head("GET", "Content-Length: "+strconv.Itoa(len(hidden))+"\r\n") + hidden + next,
		"POST " + path + "?a=1&b=3 HTTP/1.1\r\nHost: gateway.example:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nContent-Type: application/json\r\nContent-Length: 37\r\nConnection: keep-alive\r\n\r\n{\"username\":\"test\",\"password\":\"test\"}" + next,
		"POST " + path + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x-forwarded-for, te\r\nTE: trailers\r\nCall-Service_Key: x\r\nVia: 1.0 x\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + next,
		head("POST", "Content-Length: 0\r\n") + next, head("POST", "Content-Length: 00005\r\n") + "hello" + next, head("PUT", "Content-Length: 5\r\n") + "hel",
		head("GET", "A: b\r\n c\r\n"), head("GET", "A : b\r\n"), head("GET", ": b\r\n"), head("GET", "A\r\n"), head("GET", "A: b\rc\r\n"), head("GET", "A: b\nC: d\r\n"), head("GET", "A: b\x00\r\n"), head("GET", "Host: b\r\n"),
		head("GET", "Cookie: "+strings.Repeat("a=b; ", 300)+"\r\n") + next, head("GET", strings.Repeat("A: b\r\n", 90)) + next,
	}
	for _, coding := range []string{
		"chunked", "Chunked", " chunked\t", "chunked, chunked", "identity", "identity, chunked", "chunked, identity", "gzip, chunked", "xchunked", "\"chunked\"", "\x0bchunked", "chunked;q=1", "chunked,", ",chunked", "", "chunk\xc3\xa9d", "chunked\x00",
	} {
		for _, body := range []string{"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", strconv.FormatInt(int64(len(hidden)), 16) + "\r\n" + hidden + "\r\n0\r\n\r\n"} {
			out = append(out, head("POST", "Transfer-Encoding: "+coding+"\r\n")+body+hidden)
		}
		out = append(out,
			head("POST", "Content-Length: 5\r\nTransfer-Encoding: "+coding+"\r\n")+"0\r\n\r\n"+hidden, head("POST", "Transfer-Encoding: "+coding+"\r\nContent-Length: "+strconv.Itoa(5+len(hidden))+"\r\n")+"0\r\n\r\n"+hidden,
			head("GET", "Transfer-Encoding:"+coding+"\r\n")+"0\r\n\r\n"+next, "POST "+path+" HTTP/1.0\r\nTransfer-Encoding: "+coding+"\r\n\r\n0\r\n\r\n"+hidden)
	}
	for _, lines := range []string{"Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", " Transfer-Encoding: chunked", "Transfer-Encoding:\r\n chunked", "X: y\rTransfer-Encoding: chunked", "X: y\nTransfer-Encoding: chunked", "transfer_encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "Content-Encoding: x\r\nTransfer-encoding: chunked"} {
		out = append(out, head("POST", lines+"\r\nContent-Length: 5\r\n")+"0\r\n\r\n"+hidden, head("POST", lines+"\r\n")+"0\r\n\r\n"+hidden)
	}
	for _, n := range []string{"", "+5", "-5", "5,5", "5, 6", "0x5", "5 5", "5.0", "5_0", "\"5\"", "18446744073709551621", "9223372036854775808", "99999999999999999999", "5\x0b", "\x005", "٥"} {
		out = append(out, head("POST", "Content-Length: "+n+"\r\n")+"hello"+hidden, head("POST", "Content-Length: 5\r\nContent-Length: "+n+"\r\n")+"hello"+hidden)
	}
	for _, body := range []string{
		"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n", "00a\r\n0123456789\r\n0\r\n\r\n", "A\r\n0123456789\r\n00a\r\nabcdefghij\r\n000\r\n\r\n", "2;x=y\r\nhi\r\n1;q=\"a b\"\r\n!\r\n0;z\r\n\r\n", "1\r\na\r\n0\r\nX-Sum: 1\r\nDate: now\r\n\r\n",
		"zz\r\nbody\r\n0\r\n\r\n", "\r\n0\r\n\r\n", "-4\r\nbody\r\n0\r\n\r\n", "0x4\r\nbody\r\n0\r\n\r\n", " 4\r\nbody\r\n0\r\n\r\n", "4 \r\nbody\r\n0\r\n\r\n", "4\nbody\r\n0\r\n\r\n", "4\r\nbody\n0\r\n\r\n", "3\r\nbody\r\n0\r\n\r\n", "10000000000000004\r\nbody\r\n0\r\n\r\n",
		"fffffffffffffffff\r\nbody\r\n0\r\n\r\n", "4;a\nb\r\nbody\r\n0\r\n\r\n", "4;a\x00b\r\nbody\r\n0\r\n\r\n", "4;\r\nbody\r\n0\r\n\r\n", "4;a;b\r\nbody\r\n0\r\n\r\n", "4; a = b\r\nbody\r\n0\r\n\r\n", "4;a=\"\\\"\"\r\nbody\r\n0\r\n\r\n", "4;a=\"b\r\nbody\r\n0\r\n\r\n", "4;=b\r\nbody\r\n0\r\n\r\n",
		"4\r\nbody\r\n0\r\nX-A : b\r\n\r\n", "0\r\nContent-Length: 1\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "0\r\n\n", "0\n\r\n", "4\r\nbody\r\n0\r\n", "4\r\nbody0\r\n\r\n", "0;" + strings.Repeat("x", 300) + "\r\n\r\n", "0\r\n\r\r\n",
	} {
		out = append(out, head("POST", "Transfer-Encoding: chunked\r\n")+body+next, head("POST", "Transfer-Encoding: chunked\r\n")+body+hidden)
	}
	return out
}

// found reads what the fuzz targets of a package have found interesting (testdata/fuzz).
func found(t testing.TB, pkg string) []string {
	t.Helper()
	var out []string
	files, err := filepath.Glob(filepath.Join(process.RepoRoot(), pkg, "testdata/fuzz/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			quoted, ok := strings.CutPrefix(strings.TrimSpace(line), "[]byte(")
			if !ok {
				continue
			}
			if s, err := strconv.Unquote(strings.TrimSuffix(quoted, ")")); err == nil {
				out = append(out, s)
			}
		}
	}
	return out
}

// pieces are what mutations put in.
var pieces = []string{
	"\r\n", "\n", "\r", "\r\n\r\n", " ", "\t", "\x00", "\x0b", "\x0c", "\x7f", "\x80", "\xff", ":", ";", ",", "\"", "+", "-", "0", "5", "f", "0x", "%", "/", "?", "#", "*", "@", "[", "]", "\\", "_", "(", "=",
	"Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity\r\n", "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Host: b\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: upgrade\r\nUpgrade: x\r\n", "Expect: 100-continue\r\n",
	"Connection: content-length\r\n", "X: y\r\n", " folded\r\n", "chunked", "identity", ", chunked", "0\r\n\r\n", "5\r\nhello\r\n", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "http://b", "\xef\xbb\xbf", "%2f", "..", ";a=b", ";a=\"b\"", hidden,
}

// mutated changes a seed in up to three places.
func mutated(r *rand.Rand, pool []string) string {
	b := pool[r.IntN(len(pool))]
	if r.IntN(5) < 3 {
		b = pool[r.IntN(plain)]
	}
	for range r.IntN(4) {
		if len(b) == 0 {
			return b
		}
		at := place(r, b)
		switch r.IntN(10) {
		case 0, 1, 2, 3:
			b = b[:at] + pieces[r.IntN(len(pieces))] + b[at:]
		case 4:
			b = b[:at] + b[at+1:]
		case 5:
			b = b[:at] + pieces[r.IntN(len(pieces))] + b[at+1:]
		case 6:
			b = b[:at] + string([]byte{byte(r.IntN(256))}) + b[at+1:]
		case 7: // a line twice, or gone
			lines := strings.SplitAfter(b, "\n")
			i := r.IntN(len(lines))
			lines[i] = strings.Repeat(lines[i], 2*r.IntN(2))
			b = strings.Join(lines, "")
		case 8:
			end := min(len(b), at+1+r.IntN(12))
			b = b[:at] + strings.ToUpper(b[at:end]) + b[end:]
		case 9: // the beginning of one and the end of another
			o := pool[r.IntN(len(pool))]
			b = b[:at] + o[place(r, o):]
		}
	}
	return b
}

// place picks an offset, mostly at a boundary, where parsers differ.
func place(r *rand.Rand, b string) int {
	at := r.IntN(len(b))
	if r.IntN(3) > 0 {
		if i := strings.IndexAny(b[at:], "\r\n:;, "); i >= 0 {
			return max(0, min(len(b)-1, at+i+r.IntN(2)))
		}
	}
	return at
}
