package gateway_test

import (
	"strings"
	"testing"
)

// TestRFC9110 holds the gateway against the semantics of HTTP, as far as they concern one that passes messages on.
func TestRFC9110(t *testing.T) {
	ok := []string{"GET /login HTTP/1.1\r\n"}
	options := func(target, lines string) string {
		return "OPTIONS " + target + " HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n"
	}
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	runRFC(t, []rfcCase{
		// 5: fields.
		{section: "5.2", name: "lines of one name keep their order", send: rfcGet("X-A: 1\r\nX-B: 2\r\nX-A: 3\r\n"), want: "200 200", seen: []string{"X-A: 1\r\nX-B: 2\r\nX-A: 3\r\n"}},
		{section: "5.3", name: "Set-Cookie lines are not joined", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n", want: "200 200", seen: ok, got: []string{"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"}},
		{section: "5.4", name: "a head that is too long", send: rfcGet("A: " + strings.Repeat("a", 40<<10) + "\r\n"), want: "431"},
		{section: "5.4", name: "too many lines", send: rfcGet(strings.Repeat("A: b\r\n", 110)), want: "431"},
		{section: "5.5", name: "NUL in a value", send: rfcGet("A: b\x00c\r\n"), want: "400"},
		{section: "5.5", name: "a control character in a value", send: rfcGet("A: b\x07c\r\n"), want: "400"},
		{section: "5.5", name: "obs-text passes on", send: rfcGet("A: \xe4\xff\r\n"), want: "200 200", seen: []string{"A: \xe4\xff\r\n"}},
		{section: "5.5", name: "a tab inside a value passes on", send: rfcGet("A: b\tc\r\n"), want: "200 200", seen: []string{"A: b\tc\r\n"}},
		{section: "5.5", name: "NUL in a node's value", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nA: b\x00\r\nContent-Length: 0\r\n\r\n", want: "502 200", seen: ok},
		{section: "5.6.1", name: "empty elements of a list", send: rfcGet("Connection: , x-a,, \r\nX-A: b\r\n"), want: "200 200", seen: append(ok, "!X-A")},
		{section: "5.6.2", name: "a name with a delimiter", send: rfcGet("A(b): c\r\n"), want: "400"},
		{section: "5.6.2", name: "a name outside ASCII", send: rfcGet("\xc3\xa4: c\r\n"), want: "400"},
		{section: "5.6.2", name: "any token is a name", send: rfcGet("!#$%&'*+-.^`|~: c\r\n"), want: "200 200", seen: []string{"!#$%&'*+-.^`|~: c\r\n"[1:]}},
		{section: "5.6.3", name: "white space around a value is not part of it", send: "POST " + rfcPath + " HTTP/1.1\r\nHost: \t a \t\r\nContent-Length:   2  \r\n\r\nhi", want: "200 200", seen: []string{"\r\n\r\nhi"}},
		// 6: messages.
		{section: "6.4", name: "content is not changed", send: rfcPost("Content-Length: 6\r\n", "\x00\r\n\r\n\xff"), want: "200 200", seen: []string{"\r\n\r\n\x00\r\n\r\n\xff"}},
		{section: "6.5.1", name: "a trailer of an answer that frames", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n", want: "502 200", seen: ok},
		{section: "6.6.1", name: "a node's Date stays", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 04:00:00 GMT\r\nContent-Length: 0\r\n\r\n", want: "200 200", seen: ok, got: []string{"Date: Sat, 21 Nov 2026 04:00:00 GMT\r\n"}},
		{section: "6.6.1", name: "Date is added where it lacks", send: rfcGet(""), answer: good, want: "200 200", seen: ok, got: []string{" GMT\r\n"}},
		{section: "6.6.2", name: "Trailer passes on", send: rfcPost("Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n", "0\r\nX-Sum: 1\r\n\r\n"), want: "200 200", seen: []string{"Trailer: X-Sum\r\n", "0\r\nX-Sum: 1\r\n\r\n"}},
		// 7: routing.
		{section: "7.2", name: "Host reaches the node", send: "GET " + rfcPath + " HTTP/1.1\r\nHost: shop.example\r\n\r\n", want: "200 200", seen: []string{"Host: shop.example\r\n"}},
		{section: "7.3.3", name: "a node that is not reached is tried no further than said", send: "GET /api/nobody/x HTTP/1.1\r\nHost: a\r\n\r\n", want: "404 200"},
		{section: "7.6.1", name: "Connection and what it names end here", send: rfcGet("Connection: X-A, x-b\r\nX-A: 1\r\nx-B: 2\r\nX-C: 3\r\n"), want: "200 200", seen: append(ok, "X-C: 3\r\n", "!X-A", "!x-B", "!Connection")},
		{section: "7.6.1", name: "fields of the hop that nobody names", send: rfcGet("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: websocket\r\n"), want: "200 200", seen: append(ok, "!Keep-Alive", "!Proxy-Connection", "!TE:", "!Upgrade")},
		{section: "7.6.1", name: "a node's fields of the hop", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nConnection: X-A, keep-alive\r\nX-A: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nX-B: 2\r\nContent-Length: 0\r\n\r\n", want: "200 200", seen: ok, got: []string{"X-B: 2\r\n", "!X-A", "!Keep-Alive", "!Proxy-Connection", "!h2c"}},
		{section: "7.6.1", name: "Connection cannot take away what the gateway sets", send: rfcGet("Connection: Call-Service-Key, x-forwarded-for, via, traceparent, authorization\r\nAuthorization: basic x\r\n"), want: "200 200", seen: append(ok, "Call-Service-Key: "+testKey+"\r\n", "X-Forwarded-For: 127.0.0.1\r\n", "Via: 1.1 goms-", "!Authorization")},
		{section: "7.6.1", name: "Connection that names no token", send: rfcGet("Connection: a b\r\n"), want: "400"},
		{section: "7.6.2", name: "Max-Forwards 0 ends here", send: options(rfcPath, "Max-Forwards: 0\r\n"), want: "200 200", got: []string{"Allow: "}, exact: "-"},
		{section: "7.6.2", name: "Max-Forwards is counted down", send: options(rfcPath, "Max-Forwards: 10\r\n"), want: "200 200", seen: []string{"OPTIONS /login ", "Max-Forwards: 9\r\n", "!Max-Forwards: 10"}},
		{section: "7.6.2", name: "Max-Forwards that is no number", send: options(rfcPath, "Max-Forwards: -1\r\n"), want: "400"},
		{section: "7.6.2", name: "Max-Forwards means nothing to GET", send: rfcGet("Max-Forwards: 0\r\n"), want: "200 200", seen: append(ok, "Max-Forwards: 0\r\n")},
		{section: "7.6.3", name: "Via is added to", send: rfcGet("Via: 1.0 fred, 1.1 p.example (Apache)\r\n"), want: "200 200", seen: append(ok, "Via: 1.0 fred, 1.1 p.example (Apache)\r\n", "Via: 1.1 goms-")},
		{section: "7.6.3", name: "Via names the version that came", send: "GET " + rfcPath + " HTTP/1.0\r\nHost: a\r\n\r\n", want: "200", seen: []string{"Via: 1.0 goms-"}},
		{section: "7.7", name: "no-transform, and nothing is", send: rfcGet("Cache-Control: no-transform\r\nAccept-Encoding: gzip\r\n"), answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nWarning: 199 - x\r\nContent-Length: 2\r\n\r\n\x1f\x8b", want: "200 200", seen: append(ok, "Accept-Encoding: gzip\r\n"), got: []string{"Content-Encoding: gzip\r\nWarning: 199 - x\r\nContent-Length: 2\r\n"}, exact: "\x1f\x8b"},
		{section: "7.8", name: "Upgrade without the option", send: rfcGet("Upgrade: websocket\r\n"), want: "200 200", seen: append(ok, "!Upgrade")},
		{section: "7.8", name: "Upgrade in HTTP/1.0", send: "GET " + rfcPath + " HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", want: "200", seen: append(ok, "!Upgrade")},
		{section: "7.8", name: "Upgrade to HTTP/2 is not passed on", send: rfcGet("Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), want: "200 200", seen: append(ok, "!pgrade", "!ettings")},
		{section: "7.8", name: "Upgrade that the node passes over", send: rfcGet("Connection: upgrade\r\nUpgrade: websocket\r\n"), answer: good, want: "200 200", seen: append(ok, "Connection: Upgrade\r\nUpgrade: websocket\r\n"), exact: "ok"},
		{section: "7.8", name: "101 that nobody asked for", send: rfcGet(""), answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", want: "502 200", seen: ok},
		{section: "7.8", name: "101 to another protocol", send: rfcGet("Connection: upgrade\r\nUpgrade: websocket\r\n"), answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", want: "502 200", seen: append(ok, "Upgrade: websocket\r\n")},
		// 8.6: Content-Length.
		{section: "8.6", name: "a length of no body", send: rfcPost("Content-Length: 0\r\n", ""), want: "200 200", seen: []string{"Content-Length: 0\r\n"}},
		{section: "8.6", name: "204 has no length", send: rfcGet(""), answer: "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", want: "204 200", seen: ok, got: []string{"!204 No Content\r\nContent-Length"}, exact: "-"},
		{section: "8.6", name: "204 with a body's length", send: rfcGet(""), answer: "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", want: "502 200", seen: ok},
		{section: "8.6", name: "1xx with a length", send: rfcGet(""), answer: "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" + good, want: "502 200", seen: ok},
		// 9: methods.
		{section: "9.1", name: "unknown methods reach nodes of a route that takes any", send: "BREW " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", want: "200 200", seen: []string{"BREW /login HTTP/1.1\r\n"}},
		{section: "9.1", name: "a method that the route does not take", send: "DELETE /api/user/get HTTP/1.1\r\nHost: a\r\n\r\n", want: "405 200", got: []string{"Allow: GET, HEAD\r\n"}},
		{section: "9.3.1", name: "GET", send: rfcGet(""), answer: good, want: "200 200", seen: ok, exact: "ok"},
		{section: "9.3.2", name: "HEAD", send: "HEAD " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", want: "200 200", seen: []string{"HEAD /login HTTP/1.1\r\n"}, got: []string{"Content-Length: 1000\r\n"}, exact: "-"},
		{section: "9.3.2", name: "HEAD of what is not there", send: "HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n", want: "404 200", exact: "-"},
		{section: "9.3.2", name: "HEAD with a body all the same", send: "HEAD " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", want: "200 200", seen: []string{"HEAD /login "}, got: []string{"!poison"}, exact: "-"},
		{section: "9.3.3", name: "POST", send: rfcPost("Content-Length: 2\r\n", "hi"), answer: "HTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", want: "201 200", seen: []string{"POST /login ", "\r\n\r\nhi"}, got: []string{"Location: /x\r\n"}},
		{section: "9.3.4", name: "PUT", send: "PUT " + rfcPath + " HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", want: "200 200", seen: []string{"PUT /login ", "\r\n\r\nhi"}},
		{section: "9.3.5", name: "DELETE with a body", send: "DELETE " + rfcPath + " HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", want: "200 200", seen: []string{"DELETE /login ", "\r\n\r\nhi"}},
		{section: "9.3.6", name: "CONNECT", send: "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", want: "405", got: []string{"Allow: "}},
		{section: "9.3.6", name: "CONNECT with a path", send: "CONNECT " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", want: "405"},
		{section: "9.3.7", name: "OPTIONS reaches the node", send: options(rfcPath, ""), answer: "HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n", want: "204 200", seen: []string{"OPTIONS /login "}, got: []string{"Allow: GET\r\n"}},
		{section: "9.3.7", name: "OPTIONS *", send: options("*", ""), want: "200 200", got: []string{"Allow: ", "Content-Length: 0\r\n"}, exact: "-"},
		{section: "9.3.7", name: "OPTIONS * with a body", send: options("*", "Content-Length: 2\r\n") + "hi", want: "200 200", exact: "-"},
		{section: "9.3.8", name: "TRACE would send the key back", send: "TRACE " + rfcPath + " HTTP/1.1\r\nHost: a\r\n\r\n", want: "405 200", got: []string{"Allow: "}},
		{section: "9.3.8", name: "TRACE with Max-Forwards 0", send: "TRACE " + rfcPath + " HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nCookie: secret\r\n\r\n", want: "405 200", got: []string{"!secret"}},
		// 10.1: the context of a request.
		{section: "10.1.1", name: "Expect: 100-continue", send: rfcPost("Expect: 100-continue\r\nContent-Length: 2\r\n", "hi"), want: "100 200 200", seen: []string{"Expect: 100-continue\r\n", "\r\n\r\nhi"}},
		{section: "10.1.1", name: "in any case", send: rfcPost("Expect: 100-Continue\r\nContent-Length: 2\r\n", "hi"), want: "100 200 200", seen: []string{"\r\n\r\nhi"}},
		{section: "10.1.1", name: "from HTTP/1.0 it means nothing", send: "POST " + rfcPath + " HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", want: "200", seen: []string{"\r\n\r\nhi", "!Expect"}},
		{section: "10.1.1", name: "without a body it means nothing", send: rfcGet("Expect: 100-continue\r\n"), want: "200 200", seen: append(ok, "!Expect")},
		{section: "10.1.1", name: "another expectation", send: rfcPost("Expect: 200-ok\r\nContent-Length: 2\r\n", "hi"), want: "417"},
		{section: "10.1.4", name: "TE: trailers", send: rfcGet("TE: trailers\r\nConnection: TE\r\n"), want: "200 200", seen: append(ok, "Connection: TE\r\nTE: trailers\r\n")},
		{section: "10.1.4", name: "TE of codings ends here", send: rfcGet("TE: gzip;q=0.5\r\nConnection: TE\r\n"), want: "200 200", seen: append(ok, "!TE:")},
		// 11: credentials.
		{section: "11.6.2", name: "Authorization is for the node", send: rfcGet("Authorization: Bearer x\r\n"), want: "200 200", seen: append(ok, "Authorization: Bearer x\r\n")},
		{section: "11.7.2", name: "Proxy-Authorization ends here", send: rfcGet("Proxy-Authorization: Basic x\r\n"), want: "200 200", seen: append(ok, "!Proxy-Authorization")},
		// 15: statuses.
		{section: "15", name: "an unknown status passes on", send: rfcGet(""), answer: "HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok", want: "299 200", seen: ok, exact: "ok", got: []string{"HTTP/1.1 299 Odd\r\n"}},
		{section: "15", name: "a status out of range", send: rfcGet(""), answer: "HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n", want: "502 200", seen: ok},
		{section: "15", name: "a status below 100", send: rfcGet(""), answer: "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", want: "502 200", seen: ok},
		{section: "15.2", name: "interim answers pass on", send: rfcGet(""), answer: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + good, want: "103 102 200 200", seen: ok, got: []string{"Link: </a>\r\n"}, exact: "ok"},
		{section: "15.2", name: "but not to HTTP/1.0", send: "GET " + rfcPath + " HTTP/1.0\r\nHost: a\r\n\r\n", answer: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + good, want: "200", seen: ok, exact: "ok"},
		{section: "15.2", name: "interim answers without end", send: rfcGet(""), answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50), want: strings.Repeat("103 ", 20) + "502 200", seen: ok},
		{section: "15.2.1", name: "100 that nobody asked for passes on", send: rfcGet(""), answer: "HTTP/1.1 100 Continue\r\n\r\n" + good, want: "100 200 200", seen: ok, exact: "ok"},
		{section: "15.3.5", name: "204 with a body", send: rfcGet("") + rfcGet(""), answer: "HTTP/1.1 204 No Content\r\n\r\npoison", want: "204 204 200", seen: ok, got: []string{"!poison"}},
		{section: "15.3.6", name: "205 is framed as it says", send: rfcGet(""), answer: "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", want: "205 200", seen: ok, exact: "-"},
		{section: "15.4.5", name: "304 with a body", send: rfcGet("") + rfcGet(""), answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison", want: "304 304 200", seen: ok, got: []string{"!poison"}},
		{section: "15.5.6", name: "405 names what is allowed", send: "POST /api/user/get HTTP/1.1\r\nHost: a\r\n\r\n", want: "405 200", got: []string{"Allow: GET, HEAD\r\n"}},
		{section: "15.5.14", name: "413", send: "POST /api/user/small HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n", want: "413", got: []string{"Connection: close\r\n"}},
		{section: "15.5.22", name: "426 says to what", send: rfcGet(""), answer: "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", want: "426 200", seen: ok, got: []string{"Upgrade: websocket\r\nConnection: Upgrade\r\n"}},
		{section: "15.6.3", name: "502", send: rfcGet(""), answer: "garbage\r\n\r\n", want: "502 200", seen: ok, got: []string{`"bad_answer"`}},
		// 17: security.
		{section: "17.10", name: "a node's secrets stay here", send: rfcGet(""), answer: "HTTP/1.1 200 OK\r\nCall-Service-Key: " + testKey + "\r\nProxy-Authenticate: x\r\nContent-Length: 0\r\n\r\n", want: "200 200", seen: ok, got: []string{"!Call-Service-Key", "!Proxy-Authenticate"}},
	})
}
