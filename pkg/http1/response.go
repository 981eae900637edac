package http1

// Response is the head of one answer. All slices are views of the buffer that was parsed. The zero
// value is ready; Parse may be called again and reuses what was allocated.
type Response struct {
	message
	Status int    // 100 to 599
	Line   []byte // " 200 OK": what follows the version on the status line, with the leading space
}

// Parse reads the head that s has found complete in buf. The error is an *Error.
func (r *Response) Parse(buf []byte, s *Scanner, lim Limits) error {
	r.reset()
	r.Status, r.Line = 0, nil
	if lim.Head > 0 && s.start > lim.Head {
		return ErrHeadLong
	}
	if s.skip > 0 {
		return ErrStatusLine
	}
	line, _ := s.line(buf, 0)
	if err := r.statusLine(line); err != nil {
		return err
	}
	if err := r.fields(buf, s, 1, lim); err != nil {
		return err
	}
	if r.Status < 200 || r.Status == 204 {
		if r.Chunked { // RFC 9112 section 6.1
			return ErrCodingOrder
		}
		if r.Status == 204 && r.ContentLength == 0 {
			r.ContentLength = -1 // harmless and common, though RFC 9110 section 8.6 forbids it
		} else if r.ContentLength >= 0 {
			return ErrLength
		}
	}
	return nil
}

// Begun judges a head that s has not found complete in buf: the error, an *Error, is nil while it may still become one. Who speaks another
// protocol is so found out without a wait for an end that does not come.
func (r *Response) Begun(buf []byte, s *Scanner) error {
	r.Status, r.Line = 0, nil
	switch {
	case s.skip > 0:
		return ErrStatusLine
	case s.count > 0:
		line, _ := s.line(buf, 0)
		return r.statusLine(line)
	}
	if n := min(len(buf), len(version)); string(buf[:n]) != version[:n] {
		return ErrStatusLine
	}
	return nil
}

// BodyLength says how the body of this answer ends, given the request's method (RFC 9112 section
// 6.3): 0 for none, the number of its bytes, BodyChunked or BodyUntilClose.
func (r *Response) BodyLength(head bool) int64 {
	switch {
	case head || r.Status < 200 || r.Status == 204 || r.Status == 304:
		return 0
	case r.Chunked:
		return BodyChunked
	case r.ContentLength >= 0:
		return r.ContentLength
	}
	return BodyUntilClose
}

// What BodyLength returns for bodies whose length is not known beforehand.
const (
	BodyChunked    int64 = -1
	BodyUntilClose int64 = -2
)

// version is how every status line begins.
const version = "HTTP/1."

// statusLine reads "HTTP/1.x SP 3DIGIT [SP reason]" (RFC 9112 section 4).
func (r *Response) statusLine(line []byte) error {
	if len(line) < 12 || string(line[:7]) != version || line[8] != ' ' {
		return ErrStatusLine
	}
	switch line[7] {
	case '0', '1':
		r.Minor = line[7] - '0'
	default:
		return ErrVersion
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return ErrStatusLine
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 || r.Status > 599 {
		return ErrStatusLine
	}
	if len(line) > 12 && line[12] != ' ' || !all(line[12:], isValue) {
		return ErrStatusLine
	}
	r.Line = line[8:]
	return nil
}
