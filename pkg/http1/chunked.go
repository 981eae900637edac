package http1

import (
	"bytes"
	"strconv"
)

// Bounds of the parts of a chunked body that are not data.
const (
	maxChunkLine = 256     // chunk size and extensions
	maxTrailer   = 8 << 10 // bytes of the trailer section
	maxTrailers  = 32      // lines of the trailer section
)

// Chunks takes a chunked body apart (RFC 9112 section 7.1) as it arrives. The zero value is ready.
// It is strict: CRLF everywhere, no white space in front of the size, at most 16 digits.
type Chunks struct {
	state   chunkState
	left    uint64 // data bytes of this chunk still to come
	scanner Scanner
	trailer message
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd
	chunkTrailer
	chunkDone
)

// Reset makes c ready for another body.
func (c *Chunks) Reset() {
	c.state, c.left = chunkSize, 0
	c.scanner.Reset()
	c.trailer.reset()
}

// Done reports whether the body, with its trailer section, has been consumed.
func (c *Chunks) Done() bool { return c.state == chunkDone }

// Next consumes from buf, which begins where the last call left off. It returns how many bytes it took
// and the data among them: at most one run, a view of buf. n == 0 with a nil error means that buf must
// grow first. After Done nothing more is taken. The error is an *Error.
func (c *Chunks) Next(buf []byte) (n int, data []byte, err error) {
	for {
		switch c.state {
		case chunkSize:
			line, ok := cutLine(buf[n:])
			if !ok {
				if len(buf)-n > maxChunkLine {
					return n, nil, ErrChunkExt
				}
				return n, nil, checkPartial(buf[n:])
			}
			size, err := parseChunkLine(line)
			if err != nil {
				return n, nil, err
			}
			n += len(line) + 2
			c.left = size
			c.state = chunkData
			if size == 0 {
				c.state = chunkTrailer
			}
		case chunkData:
			data = buf[n:]
			if uint64(len(data)) > c.left {
				data = data[:c.left]
			}
			c.left -= uint64(len(data))
			n += len(data)
			if c.left == 0 {
				c.state = chunkEnd
			}
			return n, data, nil
		case chunkEnd:
			rest := buf[n:]
			if len(rest) > 0 && rest[0] != '\r' || len(rest) > 1 && rest[1] != '\n' {
				return n, nil, ErrChunkEnd
			}
			if len(rest) < 2 {
				return n, nil, nil
			}
			n += 2
			c.state = chunkSize
		case chunkTrailer:
			m, err := c.trailers(buf[n:])
			return n + m, nil, err
		case chunkDone:
			return n, nil, nil
		}
	}
}

// trailers consumes the trailer section when it is complete.
func (c *Chunks) trailers(buf []byte) (int, error) {
	if len(buf) >= 2 && buf[0] == '\r' && buf[1] == '\n' {
		c.state = chunkDone
		return 2, nil
	}
	if len(buf) > 0 && buf[0] == '\n' {
		return 0, ErrBareLF
	}
	end, err := c.scanner.Scan(buf)
	if err != nil {
		return 0, err
	}
	if end > maxTrailer || end == 0 && len(buf) > maxTrailer {
		return 0, ErrHeadLong
	}
	if end == 0 || c.scanner.skip > 0 {
		return 0, nil
	}
	if c.scanner.count > maxTrailers {
		return 0, ErrLines
	}
	c.trailer.reset()
	for i := range c.scanner.count {
		line, start := c.scanner.line(buf, i)
		var f Field
		if err := f.parse(line, start); err != nil {
			return 0, err
		}
		if f.Kind != KindOther && f.Kind != KindDate {
			return 0, ErrTrailer // RFC 9110 section 6.5.1
		}
		c.trailer.Fields = append(c.trailer.Fields, f)
	}
	c.state = chunkDone
	return end, nil
}

// Left returns how many bytes the current chunk says are still to come.
func (c *Chunks) Left() uint64 { return c.left }

// Trailers returns the trailer fields, once Done: views of the buffer given to the call of Next that
// finished the body.
func (c *Chunks) Trailers() []Field { return c.trailer.Fields }

// AppendChunk appends data as one chunk. Empty data appends nothing: an empty chunk would end the body.
func AppendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = strconv.AppendUint(dst, uint64(len(data)), 16)
	dst = append(dst, '\r', '\n')
	dst = append(dst, data...)
	return append(dst, '\r', '\n')
}

// cutLine returns the bytes before the first CRLF; ok is false when there is none yet.
func cutLine(buf []byte) (line []byte, ok bool) {
	limit := min(len(buf), maxChunkLine+2)
	i := bytes.IndexByte(buf[:limit], '\n')
	if i < 1 || buf[i-1] != '\r' {
		return nil, false
	}
	return buf[:i-1], true
}

// checkPartial refuses early what no further bytes can mend.
func checkPartial(buf []byte) error {
	if i := bytes.IndexByte(buf, '\n'); i >= 0 {
		return ErrBareLF
	}
	if len(buf) > 0 && class[buf[0]]&isHex == 0 {
		return ErrChunkSize
	}
	return nil
}

// parseChunkLine reads "1*HEXDIG [chunk-ext]". Extensions are checked and dropped by whoever forwards.
func parseChunkLine(line []byte) (uint64, error) {
	var size uint64
	i := 0
	for ; i < len(line) && class[line[i]]&isHex != 0; i++ {
		if i == 16 || size > 1<<59-1 {
			return 0, ErrChunkSize
		}
		size = size<<4 | uint64(unhex(line[i]))
	}
	if i == 0 {
		return 0, ErrChunkSize
	}
	if i == len(line) {
		return size, nil
	}
	return size, checkExt(line[i:])
}

// checkExt holds *( ";" token [ "=" ( token / quoted-string ) ] ) (RFC 9112 section 7.1.1), without the
// white space that the grammar has receivers put up with.
func checkExt(ext []byte) error {
	for len(ext) > 0 {
		if ext[0] != ';' {
			return ErrChunkExt
		}
		n := tokenLen(ext[1:])
		if n == 0 {
			return ErrChunkExt
		}
		if ext = ext[1+n:]; len(ext) == 0 || ext[0] != '=' {
			continue
		}
		if n = tokenLen(ext[1:]); n == 0 {
			n = quotedLen(ext[1:])
		}
		if n == 0 {
			return ErrChunkExt
		}
		ext = ext[1+n:]
	}
	return nil
}

func tokenLen(b []byte) (n int) {
	for n < len(b) && class[b[n]]&isToken != 0 {
		n++
	}
	return n
}

// quotedLen returns the length of the quoted-string that b begins with, 0 when there is none.
func quotedLen(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b) && class[b[i]]&isValue != 0; i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			if i++; i == len(b) || class[b[i]]&isValue == 0 {
				return 0
			}
		}
	}
	return 0
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	default:
		return lower(c) - 'a' + 10
	}
}
