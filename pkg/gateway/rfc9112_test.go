package gateway_test

import (
	"strings"
	"testing"
)

// The request that most cases are made of.
const rfcPath = "/api/user/login"

func rfcGet(lines string) string {
	return "GET " + rfcPath + " HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n"
}

func rfcPost(lines, body string) string {
	return "POST " + rfcPath + " HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n" + body
}

func rfcChunked(body string) string { return rfcPost("Transfer-Encoding: chunked\r\n", body) }

// TestRFC9112 holds the gateway against HTTP/1.1, section by section. Where the RFC leaves a choice between refusing and
// repairing, the gateway refuses: what two parsers could read differently does not pass.
func TestRFC9112(t *testing.T) {
	ok := []string{"GET /login HTTP/1.1\r\n"}
	posted := []string{"POST /login HTTP/1.1\r\n"}
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	runRFC(t, []rfcCase{
		// 2.2: message parsing.
		{section: "2.2", name: "an empty line before the request is ignored", send: "\r\n" + rfcGet(""), want: "200 200", seen: ok},
		{section: "2.2", name: "bare LF behind the request line", send: "GET " + rfcPath + " HTTP/1.1\nHost: a\r\n\r\n", want: "400"},
		{section: "2.2", name: "bare LF behind a field", send: rfcGet("A: b\n"), want: "400"},
		{section: "2.2", name: "bare LF as the empty line", send: "GET " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\n", want: "400"},
		{section: "2.2", name: "bare CR in the request line", send: "GET " + rfcPath + "\rx HTTP/1.1\r\nHost: a\r\n\r\n", want: "400"},
		{section: "2.2", name: "bare CR in a field", send: rfcGet("A: b\rc\r\n"), want: "400"},
		{section: "2.2", name: "white space before the first field", send: "GET " + rfcPath + " HTTP/1.1\r\n Host: a\r\n\r\n", want: "400"},
		{section: "2.2", name: "white space line before the first field", send: "GET " + rfcPath + " HTTP/1.1\r\n \r\nHost: a\r\n\r\n", want: "400"},
		{section: "2.2", name: "something else than HTTP", send: "\x16\x03\x01\x02\x00\r\n\r\n", want: "400"},
		// 2.3: the version.
		{section: "2.3", name: "HTTP/1.0", send: "GET " + rfcPath + " HTTP/1.0\r\nHost: a\r\n\r\n", want: "200", seen: append(ok, "Via: 1.0 "), got: []string{"HTTP/1.1 200"}},
		{section: "2.3", name: "another major version", send: "GET " + rfcPath + " HTTP/2.0\r\nHost: a\r\n\r\n", want: "505"},
		{section: "2.3", name: "an unknown minor version", send: "GET " + rfcPath + " HTTP/1.2\r\nHost: a\r\n\r\n", want: "505"},
		{section: "2.3", name: "lower case", send: "GET " + rfcPath + " http/1.1\r\nHost: a\r\n\r\n", want: "400"},
		{section: "2.3", name: "two digits", send: "GET " + rfcPath + " HTTP/1.10\r\nHost: a\r\n\r\n", want: "400"},
		{section: "2.3", name: "a node's HTTP/1.0 becomes ours", send: rfcGet(""), answer: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nokclose!", want: "200 200", seen: ok, got: []string{"HTTP/1.1 200 OK"}, exact: "ok"},
		{section: "2.3", name: "a node's HTTP/2", send: rfcGet(""), answer: "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", want: "502 200", seen: ok},
		// 3: the request line.
		{section: "3", name: "two spaces", send: "GET  " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", want: "400"},
		{section: "3", name: "tab as separator", send: "GET\t" + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", want: "400"},
		{section: "3", name: "space behind the version", send: "GET " + rfcPath + " HTTP/1.1 \r\nHost: a\r\n\r\n", want: "400"},
		{section: "3", name: "space in the target", send: "GET " + rfcPath + "?a b HTTP/1.1\r\nHost: a\r\n\r\n", want: "400"},
		{section: "3", name: "space before the method", send: " GET " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", want: "400"},
		{section: "3", name: "no version", send: "GET " + rfcPath + "\r\nHost: a\r\n\r\n", want: "400"},
		{section: "3", name: "a long target", send: "GET " + rfcPath + "?" + strings.Repeat("a", 9000) + " HTTP/1.1\r\nHost: a\r\n\r\n", want: "414"},
		{section: "3.1", name: "a method is no list of characters", send: "GE(T " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", want: "400"},
		{section: "3.1", name: "methods are case-sensitive", send: "get " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", want: "200 200", seen: []string{"get /login HTTP/1.1\r\n"}},
		// 3.2: the target.
		{section: "3.2", name: "no Host", send: "GET " + rfcPath + " HTTP/1.1\r\n\r\n", want: "400"},
		{section: "3.2", name: "two Hosts", send: rfcGet("Host: a\r\n"), want: "400"},
		{section: "3.2", name: "two Hosts in one", send: "GET " + rfcPath + " HTTP/1.1\r\nHost: a, b\r\n\r\n", want: "400"},
		{section: "3.2", name: "a Host with a path", send: "GET " + rfcPath + " HTTP/1.1\r\nHost: a/b\r\n\r\n", want: "400"},
		{section: "3.2", name: "a Host with user information", send: "GET " + rfcPath + " HTTP/1.1\r\nHost: a@b\r\n\r\n", want: "400"},
		{section: "3.2", name: "an empty Host", send: "GET " + rfcPath + " HTTP/1.1\r\nHost:\r\n\r\n", want: "400"},
		{section: "3.2", name: "a Host with a bad port", send: "GET " + rfcPath + " HTTP/1.1\r\nHost: a:b\r\n\r\n", want: "400"},
		{section: "3.2", name: "an IPv6 Host", send: "GET " + rfcPath + " HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", want: "200 200", seen: []string{"\r\nHost: [::1]:80\r\n"}},
		{section: "3.2", name: "Host passes on unchanged", send: "GET " + rfcPath + " HTTP/1.1\r\nhOST:  Shop.Example:81 \r\n\r\n", want: "200 200", seen: []string{"Shop.Example:81"}},
		{section: "3.2", name: "HTTP/1.0 without Host", send: "GET " + rfcPath + " HTTP/1.0\r\n\r\n", want: "200", seen: []string{"\r\nHost: 127.0.0.1:"}},
		{section: "3.2.1", name: "the query passes on unchanged", send: "GET " + rfcPath + "?a=1&&b=%2f;c=?/ HTTP/1.1\r\nHost: a\r\n\r\n", want: "200 200", seen: []string{"GET /login?a=1&&b=%2f;c=?/ HTTP/1.1\r\n"}},
		{section: "3.2.1", name: "a fragment", send: "GET " + rfcPath + "#a HTTP/1.1\r\nHost: a\r\n\r\n", want: "400"},
		{section: "3.2.1", name: "a path without a slash", send: "GET api/user/login HTTP/1.1\r\nHost: a\r\n\r\n", want: "400"},
		{section: "3.2.2", name: "the target's host counts, Host does not", send: "GET http://shop" + rfcPath + " HTTP/1.1\r\nHost: other\r\n\r\n", want: "200 200", seen: []string{"GET /login HTTP/1.1\r\nHost: shop\r\n", "!other"}},
		{section: "3.2.2", name: "absolute-form without Host", send: "GET http://shop" + rfcPath + " HTTP/1.1\r\n\r\n", want: "400"},
		{section: "3.2.2", name: "another scheme", send: "GET ftp://shop" + rfcPath + " HTTP/1.1\r\nHost: shop\r\n\r\n", want: "400"},
		{section: "3.2.2", name: "user information", send: "GET http://u:p@shop" + rfcPath + " HTTP/1.1\r\nHost: shop\r\n\r\n", want: "400"},
		{section: "3.2.2", name: "no host", send: "GET http://" + rfcPath + " HTTP/1.1\r\nHost: shop\r\n\r\n", want: "400"},
		{section: "3.2.3", name: "authority-form", send: "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", want: "405"},
		{section: "3.2.3", name: "authority-form of another method", send: "GET a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", want: "400"},
		{section: "3.2.4", name: "asterisk-form", send: "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", want: "200 200", got: []string{"\r\nAllow: "}},
		{section: "3.2.4", name: "asterisk-form of another method", send: "GET * HTTP/1.1\r\nHost: a\r\n\r\n", want: "400"},
		// 4: the status line.
		{section: "4", name: "no reason phrase", send: rfcGet(""), answer: "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", want: "200 200", seen: ok, exact: "ok"},
		{section: "4", name: "no space behind the code", send: rfcGet(""), answer: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", want: "200 200", seen: ok, exact: "ok"},
		{section: "4", name: "two digits", send: rfcGet(""), answer: "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", want: "502 200", seen: ok},
		{section: "4", name: "control characters in the phrase", send: rfcGet(""), answer: "HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok", want: "502 200", seen: ok},
		// 5: fields.
		{section: "5", name: "no white space behind the colon", send: rfcGet("A:b\r\n"), want: "200 200", seen: []string{"\r\nA:b\r\n"}},
		{section: "5", name: "an empty value", send: rfcGet("A:\r\n"), want: "200 200", seen: []string{"\r\nA:\r\n"}},
		{section: "5", name: "an empty name", send: rfcGet(": b\r\n"), want: "400"},
		{section: "5", name: "no colon", send: rfcGet("A b\r\n"), want: "400"},
		{section: "5.1", name: "space before the colon", send: rfcGet("A : b\r\n"), want: "400"},
		{section: "5.1", name: "tab before the colon", send: rfcGet("A\t: b\r\n"), want: "400"},
		{section: "5.1", name: "space before a node's colon", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n", want: "502 200", seen: ok},
		{section: "5.2", name: "a folded line", send: rfcGet("A: b\r\n c\r\n"), want: "400"},
		{section: "5.2", name: "a line folded by a tab", send: rfcGet("A: b\r\n\tc\r\n"), want: "400"},
		{section: "5.2", name: "a node's folded line", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n", want: "502 200", seen: ok},
		// 6: bodies.
		{section: "6", name: "a body of GET", send: "GET " + rfcPath + " HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", want: "200 200", seen: []string{"\r\n\r\nhi"}},
		{section: "6.1", name: "chunked in any case", send: rfcPost("Transfer-Encoding: cHuNkEd\r\n", "2\r\nhi\r\n0\r\n\r\n"), want: "200 200", seen: []string{"\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"}},
		{section: "6.1", name: "a coding that is not understood", send: rfcPost("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), want: "501"},
		{section: "6.1", name: "chunked twice", send: rfcPost("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), want: "400"},
		{section: "6.1", name: "chunked not last", send: rfcPost("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), want: "400"},
		{section: "6.1", name: "an empty coding", send: rfcPost("Transfer-Encoding:\r\n", "0\r\n\r\n"), want: "400"},
		{section: "6.1", name: "a quoted coding", send: rfcPost("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), want: "400"},
		{section: "6.1", name: "a coding in HTTP/1.0", send: "POST " + rfcPath + " HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: "400"},
		{section: "6.1", name: "both length and coding", send: rfcPost("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), want: "400"},
		{section: "6.1", name: "both, the other way round", send: rfcPost("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), want: "400"},
		{section: "6.1", name: "a node's coding with 204", send: rfcGet(""), answer: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: "502 200", seen: ok},
		{section: "6.1", name: "a node's unknown coding", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nclose!", want: "502 200", seen: ok},
		{section: "6.2", name: "a list of lengths", send: rfcPost("Content-Length: 2, 2\r\n", "hi"), want: "400"},
		{section: "6.2", name: "a signed length", send: rfcPost("Content-Length: +2\r\n", "hi"), want: "400"},
		{section: "6.2", name: "a negative length", send: rfcPost("Content-Length: -1\r\n", ""), want: "400"},
		{section: "6.2", name: "an empty length", send: rfcPost("Content-Length: \r\n", ""), want: "400"},
		{section: "6.2", name: "a hexadecimal length", send: rfcPost("Content-Length: 0x2\r\n", "hi"), want: "400"},
		{section: "6.2", name: "an enormous length", send: rfcPost("Content-Length: 99999999999999999999\r\n", "hi"), want: "400"},
		{section: "6.3", name: "two lengths", send: rfcPost("Content-Length: 2\r\nContent-Length: 3\r\n", "hi"), want: "400"},
		{section: "6.3", name: "no length is no body", send: rfcPost("", ""), want: "200 200", seen: posted},
		{section: "6.3", name: "HEAD has no body", send: "HEAD " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", want: "200 200", seen: []string{"HEAD /login "}, got: []string{"Content-Length: 5\r\n"}, exact: "-"},
		{section: "6.3", name: "HEAD with a coding has no body", send: "HEAD " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", want: "200 200", seen: []string{"HEAD /login "}, exact: "-"},
		{section: "6.3", name: "204 has no body", send: rfcGet(""), answer: "HTTP/1.1 204 No Content\r\n\r\n", want: "204 200", seen: ok, got: []string{"!Transfer-Encoding"}, exact: "-"},
		{section: "6.3", name: "304 has no body", send: rfcGet(""), answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n", want: "304 200", seen: ok, got: []string{"ETag: \"a\"\r\n"}, exact: "-"},
		{section: "6.3", name: "a node's two lengths", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", want: "502 200", seen: ok},
		{section: "6.3", name: "a node's length and coding", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: "502 200", seen: ok},
		{section: "6.3", name: "a node's body until the end", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\n\r\nto the endclose!", want: "200 200", seen: ok, exact: "to the end", got: []string{"Transfer-Encoding: chunked\r\n"}},
		{section: "6.3", name: "the same to HTTP/1.0", send: "GET " + rfcPath + " HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", answer: "HTTP/1.1 200 OK\r\n\r\nto the endclose!", want: "200", seen: ok, exact: "to the end", got: []string{"!Transfer-Encoding", "Connection: close\r\n"}},
		// 7.1: chunks.
		{section: "7.1", name: "sizes in any case, with zeros", send: rfcChunked("00A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\n\r\n"), want: "200 200", seen: []string{"0123456789", "abcdefghij"}},
		{section: "7.1", name: "no size", send: rfcChunked("\r\nhi\r\n0\r\n\r\n"), want: "400"},
		{section: "7.1", name: "a size that is no number", send: rfcChunked("xyz\r\nhi\r\n0\r\n\r\n"), want: "400"},
		{section: "7.1", name: "a negative size", send: rfcChunked("-2\r\nhi\r\n0\r\n\r\n"), want: "400"},
		{section: "7.1", name: "a prefix", send: rfcChunked("0x2\r\nhi\r\n0\r\n\r\n"), want: "400"},
		{section: "7.1", name: "a size that overflows", send: rfcChunked("10000000000000002\r\nhi\r\n0\r\n\r\n"), want: "400"},
		{section: "7.1", name: "bare LF behind the size", send: rfcChunked("2\nhi\r\n0\r\n\r\n"), want: "400"},
		{section: "7.1", name: "bare LF behind the data", send: rfcChunked("2\r\nhi\n0\r\n\r\n"), want: "400"},
		{section: "7.1", name: "more data than the size says", send: rfcChunked("2\r\nhigh\r\n0\r\n\r\n"), want: "400"},
		{section: "7.1", name: "a chunked answer", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", want: "200 200", seen: ok, exact: "onetwo", got: []string{"!x=y"}},
		{section: "7.1", name: "a chunked answer to HTTP/1.0", send: "GET " + rfcPath + " HTTP/1.0\r\nHost: a\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", want: "200", seen: ok, exact: "onetwo", got: []string{"!Transfer-Encoding"}},
		{section: "7.1.1", name: "extensions are dropped", send: rfcChunked("2;a;b=c;d=\"e f\"\r\nhi\r\n0;z\r\n\r\n"), want: "200 200", seen: []string{"2\r\nhi\r\n0\r\n\r\n", "!;"}},
		{section: "7.1.1", name: "an extension without a name", send: rfcChunked("2;=b\r\nhi\r\n0\r\n\r\n"), want: "400"},
		{section: "7.1.1", name: "an extension with a control character", send: rfcChunked("2;a\x01\r\nhi\r\n0\r\n\r\n"), want: "400"},
		{section: "7.1.1", name: "an extension without an end", send: rfcChunked("2;" + strings.Repeat("a", 1000) + "\r\nhi\r\n0\r\n\r\n"), want: "400"},
		{section: "7.1.2", name: "trailers pass on", send: rfcPost("Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n"), want: "200 200", seen: []string{"0\r\nX-Sum: 42\r\n\r\n"}},
		{section: "7.1.2", name: "a trailer that frames", send: rfcChunked("2\r\nhi\r\n0\r\nContent-Length: 1\r\n\r\n"), want: "400"},
		{section: "7.1.2", name: "a trailer that routes", send: rfcChunked("2\r\nhi\r\n0\r\nHost: b\r\n\r\n"), want: "400"},
		{section: "7.1.2", name: "a trailer that the gateway vouches for", send: rfcChunked("2\r\nhi\r\n0\r\nCall-Service-Key: x\r\nX-Forwarded-For: 6.6.6.6\r\nA: b\r\n\r\n"), want: "200 200", seen: []string{"0\r\nA: b\r\n\r\n"}},
		{section: "7.1.2", name: "a malformed trailer", send: rfcChunked("2\r\nhi\r\n0\r\nA : b\r\n\r\n"), want: "400"},
		{section: "7.1.2", name: "a node's trailers", send: rfcGet("TE: trailers\r\nConnection: TE\r\n"), answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n", want: "200 200", seen: append(ok, "TE: trailers\r\n"), exact: "ok", got: []string{"0\r\nX-Sum: 42\r\n\r\n"}},
		{section: "7.1.3", name: "a body in chunks of one", send: rfcChunked(strings.Repeat("1\r\na\r\n", 500) + "0\r\n\r\n"), want: "200 200", seen: posted},
		// 8: messages that are cut.
		{section: "8", name: "a cut answer of known length", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalfclose!", want: "200", seen: ok, broken: true},
		{section: "8", name: "a cut chunked answer", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nclose!", want: "200", seen: ok, broken: true},
		{section: "8", name: "a cut head", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nContent-Leclose!", want: "502 200", seen: ok},
		{section: "8", name: "a broken chunk of an answer", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", want: "502 200", seen: ok},
		// 9: connections.
		{section: "9.2", name: "bytes behind an answer belong to nobody", send: rfcGet("") + rfcGet(""), answer: good + "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", want: "200 200 200", seen: ok, exact: "ok", got: []string{"!poison"}},
		{section: "9.3", name: "HTTP/1.1 goes on", send: rfcGet(""), answer: good, want: "200 200", seen: ok, got: []string{"!Connection: keep-alive"}},
		{section: "9.3", name: "close ends it", send: rfcGet("Connection: close\r\n"), answer: good, want: "200", seen: append(ok, "!Connection"), got: []string{"Connection: close\r\n"}},
		{section: "9.3", name: "close among others ends it", send: rfcGet("Connection: x-a, Close\r\nX-A: b\r\n"), want: "200", seen: append(ok, "!X-A"), got: []string{"Connection: close\r\n"}},
		{section: "9.3", name: "HTTP/1.0 ends", send: "GET " + rfcPath + " HTTP/1.0\r\nHost: a\r\n\r\n", answer: good, want: "200", seen: ok},
		{section: "9.3", name: "HTTP/1.0 goes on when it asks to", send: "GET " + rfcPath + " HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", answer: good, want: "200 200", seen: ok, got: []string{"Connection: keep-alive\r\n"}},
		{section: "9.3", name: "a node's close is not the client's", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nokclose!", want: "200 200", seen: ok, got: []string{"!Connection: close\r\nContent-Length: 2"}},
		{section: "9.3.1", name: "a request on a connection that ended goes over another", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokclose!", want: "200 200", seen: ok},
		{section: "9.3.2", name: "pipelined requests are answered in order", send: rfcPost("Content-Length: 2\r\n", "hi") + "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n" + rfcChunked("2\r\nho\r\n0\r\n\r\n"), answer: good, want: "200 404 200 200", seen: []string{"\r\n\r\nhi", "2\r\nho\r\n0\r\n\r\n"}},
		{section: "9.3.2", name: "nothing behind a refused request counts", send: rfcPost("Content-Length: x\r\n", "") + rfcGet(""), want: "400"},
		{section: "9.6", name: "a refusal says that the connection ends", send: rfcPost("Content-Length: x\r\n", strings.Repeat("a", 100<<10)), want: "400", got: []string{"Connection: close\r\n"}},
		// 11: attacks.
		{section: "11.1", name: "a node's field with a line end", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\nContent-Length: 0\r\n\r\n", want: "502 200", seen: ok},
		{section: "11.1", name: "an encoded line end stays encoded", send: "GET " + rfcPath + "?a=%0d%0aHost:%20b HTTP/1.1\r\nHost: a\r\n\r\n", want: "200 200", seen: []string{"GET /login?a=%0d%0aHost:%20b HTTP/1.1\r\n"}},
		{section: "11.2", name: "a request inside a body", send: rfcPost("Content-Length: 60\r\n", "GET /api/user/get?smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 0"[:60]), want: "200 200", seen: append(posted, "Content-Length: 60\r\n")},
		{section: "11.2", name: "a coding hidden by a vertical tab", send: rfcPost("Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), want: "400"},
		{section: "11.2", name: "a coding hidden in a name", send: rfcPost("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), want: "400"},
		{section: "11.2", name: "Connection that names the length", send: rfcPost("Connection: Content-Length\r\nContent-Length: 2\r\n", "hi"), want: "400"},
	})
}
