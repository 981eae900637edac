// Package http1 reads and checks the heads and the chunked framing of HTTP/1.1 messages (RFC 9112)
// that lie in a buffer. It is strict: what two parsers could understand differently is an error,
// never repaired.
//
//	var s http1.Scanner
//	end, err := s.Scan(buf)            // 0 while the head is not complete
//	var req http1.Request
//	err = req.Parse(buf, &s, limits)   // views into buf, no allocation
//
// It does no I/O, keeps no policy and knows nothing of routes, nodes or headers that a gateway sets.
// Everything it hands out is a view of the caller's buffer and lives as long as that buffer is left alone.
package http1

import "fmt"

// Limits bound what a head may hold. A zero field means no limit of its own; the scanner's fixed
// MaxLines always holds.
type Limits struct {
	Head   int // bytes of the whole head, from the first line to the empty one
	Lines  int // field lines, at most MaxLines
	Target int // bytes of the request target
}

// Problem says what is wrong with a message. It is the stable, short name of a class of faults.
type Problem uint8

// The problems, each with the status that RFC 9110 or RFC 6585 names for it.
const (
	ProblemNone      Problem = iota
	ProblemSyntax            // 400: against the grammar of RFC 9112
	ProblemFraming           // 400: the length of the body is ambiguous (RFC 9112 section 6.3)
	ProblemHead              // 431: head or number of field lines over the limit (RFC 6585 section 5)
	ProblemTarget            // 414: request target over the limit
	ProblemVersion           // 505: not HTTP/1.0 or HTTP/1.1
	ProblemCoding            // 501: a transfer coding other than chunked
	ProblemExpect            // 417: an expectation other than 100-continue
	ProblemHost              // 400: Host missing, doubled or malformed (RFC 9112 section 3.2)
	ProblemTruncated         // the peer closed inside the message
)

var problemStatus = [...]int{
	ProblemSyntax: 400, ProblemFraming: 400, ProblemHead: 431, ProblemTarget: 414, ProblemVersion: 505,
	ProblemCoding: 501, ProblemExpect: 417, ProblemHost: 400, ProblemTruncated: 400,
}

// Error is a fault in a message. Values are fixed and shared: returning one allocates nothing, and
// none holds bytes of the message, so it is safe to log and to send.
type Error struct {
	Problem Problem
	Detail  string // what is wrong, a lower-case clause
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("parse message: %s", e.Detail) }

// Status is the status code that answers a request with this fault.
func (e *Error) Status() int { return problemStatus[e.Problem] }

// The faults, one value each.
var (
	ErrBareLF          = &Error{ProblemSyntax, "line feed without carriage return"}
	ErrBareCR          = &Error{ProblemSyntax, "carriage return without line feed"}
	ErrControl         = &Error{ProblemSyntax, "control character"}
	ErrFold            = &Error{ProblemSyntax, "folded field line (obs-fold)"}
	ErrFieldName       = &Error{ProblemSyntax, "field name is not a token"}
	ErrNoColon         = &Error{ProblemSyntax, "field line without colon"}
	ErrRequestLine     = &Error{ProblemSyntax, "malformed request line"}
	ErrMethod          = &Error{ProblemSyntax, "method is not a token"}
	ErrTarget          = &Error{ProblemSyntax, "malformed request target"}
	ErrStatusLine      = &Error{ProblemSyntax, "malformed status line"}
	ErrConnection      = &Error{ProblemSyntax, "connection option names a field that frames or routes the message"}
	ErrConnectionToken = &Error{ProblemSyntax, "connection option is not a token"}
	ErrTrailer         = &Error{ProblemSyntax, "trailer field that frames, routes or authorises the message"}
	ErrVersion         = &Error{ProblemVersion, "HTTP version is not 1.0 or 1.1"}
	ErrTargetLong      = &Error{ProblemTarget, "request target over the limit"}
	ErrHeadLong        = &Error{ProblemHead, "head over the limit"}
	ErrLines           = &Error{ProblemHead, "too many field lines"}
	ErrHostMissing     = &Error{ProblemHost, "no Host field"}
	ErrHostTwice       = &Error{ProblemHost, "more than one Host field"}
	ErrHost            = &Error{ProblemHost, "malformed Host field"}
	ErrLength          = &Error{ProblemFraming, "malformed Content-Length"}
	ErrLengthTwice     = &Error{ProblemFraming, "more than one Content-Length"}
	ErrLengthAndCoding = &Error{ProblemFraming, "both Content-Length and Transfer-Encoding"}
	ErrCodingVersion   = &Error{ProblemFraming, "Transfer-Encoding in an HTTP/1.0 message"}
	ErrCodingOrder     = &Error{ProblemFraming, "Transfer-Encoding whose last coding is not chunked"}
	ErrCodingSyntax    = &Error{ProblemFraming, "malformed Transfer-Encoding"}
	ErrCodingUnknown   = &Error{ProblemCoding, "transfer coding other than chunked"}
	ErrExpect          = &Error{ProblemExpect, "expectation other than 100-continue"}
	ErrChunkSize       = &Error{ProblemFraming, "malformed chunk size"}
	ErrChunkExt        = &Error{ProblemFraming, "malformed or long chunk extension"}
	ErrChunkEnd        = &Error{ProblemFraming, "chunk data not followed by CRLF"}
	ErrTruncated       = &Error{ProblemTruncated, "message ends early"}
)
