package http1

import "bytes"

// Request is the head of one request. All slices are views of the buffer that was parsed. The zero
// value is ready; Parse may be called again and reuses what was allocated.
type Request struct {
	message
	Method []byte
	Target []byte // as it was sent
	Path   []byte // of origin-form or absolute-form, as sent, without the query; "*" for OPTIONS *
	Query  []byte // with its question mark; nil when there is none
	Host   []byte // of the target in absolute-form, else of the Host field; nil for HTTP/1.0 without one
	Expect bool   // Expect: 100-continue
}

// HasBody reports whether a body follows the head. A Content-Length of 0 is no body.
func (r *Request) HasBody() bool { return r.Chunked || r.ContentLength > 0 }

// Parse reads the head that s has found complete in buf. The error is an *Error; after one, r holds
// whatever had been read (possibly the method and the target, for the log) and the connection can
// only be closed, because nothing tells where the next message would begin.
func (r *Request) Parse(buf []byte, s *Scanner, lim Limits) error {
	r.reset()
	r.Method, r.Target, r.Path, r.Query, r.Host, r.Expect = nil, nil, nil, nil, nil, false
	if lim.Head > 0 && s.start > lim.Head {
		return ErrHeadLong
	}
	line, _ := s.line(buf, 0)
	if err := r.requestLine(line, lim); err != nil {
		return err
	}
	if err := r.fields(buf, s, 1, lim); err != nil {
		return err
	}
	r.Expect = r.expect && r.Minor == 1
	return r.settleHost()
}

// requestLine reads "method SP target SP HTTP/1.x" (RFC 9112 section 3).
func (r *Request) requestLine(line []byte, lim Limits) error {
	i := bytes.IndexByte(line, ' ')
	if i <= 0 {
		return ErrRequestLine
	}
	if !all(line[:i], isToken) {
		return ErrMethod
	}
	r.Method = line[:i]
	rest := line[i+1:]
	j := bytes.IndexByte(rest, ' ')
	if j <= 0 {
		return ErrRequestLine
	}
	r.Target = rest[:j]
	minor, err := parseVersion(rest[j+1:])
	if err != nil {
		return err
	}
	r.Minor = minor
	if lim.Target > 0 && len(r.Target) > lim.Target {
		return ErrTargetLong
	}
	if !all(r.Target, isTarget) {
		return ErrTarget
	}
	return r.target()
}

func parseVersion(b []byte) (uint8, error) {
	if len(b) != 8 || string(b[:5]) != "HTTP/" || b[6] != '.' ||
		b[5] < '0' || b[5] > '9' || b[7] < '0' || b[7] > '9' {
		return 0, ErrRequestLine
	}
	if b[5] != '1' || b[7] > '1' {
		return 0, ErrVersion
	}
	return b[7] - '0', nil
}

// target splits the request target (RFC 9112 section 3.2). CONNECT's authority-form is left whole:
// Path stays nil.
func (r *Request) target() error {
	t := r.Target
	switch {
	case string(r.Method) == "CONNECT":
		return nil
	case t[0] == '/':
	case len(t) == 1 && t[0] == '*':
		if string(r.Method) != "OPTIONS" {
			return ErrTarget
		}
		r.Path = t
		return nil
	default:
		return r.absolute(t)
	}
	r.split(t)
	return nil
}

func (r *Request) split(t []byte) {
	if i := bytes.IndexByte(t, '?'); i >= 0 {
		r.Path, r.Query = t[:i], t[i:]
		return
	}
	r.Path = t
}

var slash = []byte("/")

// absolute reads "http://host[:port]/path?query". The host of the target counts, the Host field does
// not (RFC 9112 section 3.2.2). User information is refused.
func (r *Request) absolute(t []byte) error {
	var rest []byte
	switch {
	case len(t) > 7 && EqualFold(t[:7], "http://"):
		rest = t[7:]
	case len(t) > 8 && EqualFold(t[:8], "https://"):
		rest = t[8:]
	default:
		return ErrTarget
	}
	end := bytes.IndexAny(rest, "/?")
	host := rest
	if end >= 0 {
		host = rest[:end]
	}
	if len(host) == 0 || !validHost(host) {
		return ErrTarget
	}
	r.Host = host
	if end < 0 {
		r.Path = slash
		return nil
	}
	if rest[end] == '?' {
		r.Path, r.Query = slash, rest[end:]
		return nil
	}
	r.split(rest[end:])
	return nil
}

// settleHost holds the rule of RFC 9112 section 3.2: exactly one valid Host in HTTP/1.1.
func (r *Request) settleHost() error {
	switch {
	case r.hosts > 1:
		return ErrHostTwice
	case r.hosts == 0 && r.Minor == 1:
		return ErrHostMissing
	case r.hosts == 1 && !validHost(r.host):
		return ErrHost
	}
	if r.Host == nil {
		r.Host = r.host
	}
	return nil
}

// validHost accepts uri-host [":" port]: a registered name, an IPv4 address or an IP literal.
func validHost(h []byte) bool {
	if len(h) == 0 || !all(h, isHost) {
		return false
	}
	name, port := h, []byte(nil)
	if h[0] == '[' {
		end := bytes.IndexByte(h, ']')
		if end < 2 || bytes.IndexByte(h[end+1:], ']') >= 0 || bytes.IndexByte(h[1:], '[') >= 0 {
			return false
		}
		for _, c := range h[1:end] {
			if class[c]&isHex == 0 && c != ':' && c != '.' {
				return false
			}
		}
		name, port = nil, h[end+1:]
	} else if i := bytes.IndexByte(h, ':'); i >= 0 {
		name, port = h[:i], h[i:]
		if len(name) == 0 {
			return false
		}
	}
	for _, c := range name {
		if c == '[' || c == ']' || c == '%' {
			return false
		}
	}
	if len(port) == 0 {
		return true
	}
	if port[0] != ':' || len(port) > 6 {
		return false
	}
	for _, c := range port[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
