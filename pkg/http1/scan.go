package http1

import "bytes"

// MaxLines is the most lines a Scanner follows in one head, the first line and the empty one included.
const MaxLines = 130

// Scanner finds the end of a head that arrives in pieces, looking at each byte once. The zero value is
// ready. It remembers where lines end, so that parsing need not search again.
type Scanner struct {
	ends  [MaxLines]int32 // offset of the LF of each line
	count int
	next  int // where the search goes on
	start int // where the current line begins
	skip  int // bytes of empty lines before the first line
}

// Reset makes the scanner ready for another head.
func (s *Scanner) Reset() { s.count, s.next, s.start, s.skip = 0, 0, 0, 0 }

// Scan looks at buf, which holds what earlier calls were given and possibly more. It returns the
// length of the head with its empty line, or 0 when the head is not complete. One empty line before
// the first line is skipped and counted in (RFC 9112 section 2.2). The error is an *Error.
func (s *Scanner) Scan(buf []byte) (int, error) {
	for {
		i := bytes.IndexByte(buf[s.next:], '\n')
		if i < 0 {
			s.next = len(buf)
			return 0, nil
		}
		lf := s.next + i
		if lf == s.start || buf[lf-1] != '\r' {
			return 0, ErrBareLF
		}
		s.next = lf + 1
		if lf-1 == s.start { // an empty line
			if s.count > 0 {
				s.start = lf + 1
				return lf + 1, nil
			}
			if s.skip > 0 {
				return 0, ErrRequestLine
			}
			s.skip = lf + 1
			s.start = lf + 1
			continue
		}
		if s.count == MaxLines {
			return 0, ErrLines
		}
		s.ends[s.count] = int32(lf)
		s.count++
		s.start = lf + 1
	}
}

// line returns line i without its CRLF.
func (s *Scanner) line(buf []byte, i int) (line []byte, start int) {
	start = s.skip
	if i > 0 {
		start = int(s.ends[i-1]) + 1
	}
	return buf[start : s.ends[i]-1], start
}

// Lines returns how many lines have been found so far, the first line included.
func (s *Scanner) Lines() int { return s.count }
