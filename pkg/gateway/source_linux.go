package gateway

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// source reads from a TCP connection and takes the buffer for it only when there are bytes. It makes the same system
// calls as Read of the connection does, and is made once a connection, so that a read allocates nothing.
type source struct {
	raw  syscall.RawConn
	read func(fd uintptr) bool

	size, most int // of the buffer; what may be read into it
	buf        []byte
	n          int
	err        error
}

// newSource returns nil where there is no such way to read.
func newSource(nc net.Conn) *source {
	t, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return nil
	}
	s := &source{raw: raw}
	s.read = func(fd uintptr) bool {
		b := takeBuffer(s.size)
		for {
			n, err := unix.Read(int(fd), b[:min(s.most, len(b))])
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				giveBuffer(b)
				return false
			case err != nil || n == 0:
				giveBuffer(b)
				if s.err = err; err == nil {
					s.err = io.EOF
				}
				return true
			}
			s.buf, s.n = b, n
			return true
		}
	}
	return s
}

// next reads at most that many bytes into a buffer of the given size, which is the caller's from then on; it is nil
// when there is an error.
func (s *source) next(size, most int) (buf []byte, n int, err error) {
	s.size, s.most, s.buf, s.n, s.err = size, most, nil, 0, nil
	if err := s.raw.Read(s.read); err != nil {
		giveBuffer(s.buf)
		s.buf = nil
		return nil, 0, err
	}
	buf, s.buf = s.buf, nil
	return buf, s.n, s.err
}
