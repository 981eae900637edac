package gateway

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// source reads from and writes to a plain connection with the fewest system calls, and takes the buffer for a read only
// when there are bytes. It is made once a connection, so that its calls allocate nothing. Reads may run beside writes,
// not beside reads, and so for writes.
//
// Its system calls do not wait, so they are made without telling the scheduler: that costs more than some of the calls
// do, and would have it look every 20 µs whether they return.
type source struct {
	raw syscall.RawConn

	read, request func(fd uintptr) bool
	size, most    int // of the buffer; what may be read into it
	asked         bool
	asking        []byte // what ask sends
	sent          int    // of it
	buf           []byte
	n             int
	err           error

	write   func(fd uintptr) bool
	writing []byte
	failed  error
}

// newSource returns nil where there is no such way to read.
func newSource(nc net.Conn) *source {
	var raw syscall.RawConn
	var err error
	switch s := nc.(type) {
	case *net.TCPConn:
		raw, err = s.SyscallConn()
	case *net.UnixConn:
		raw, err = s.SyscallConn()
	}
	if raw == nil || err != nil {
		return nil
	}
	s := &source{raw: raw}
	s.read, s.request, s.write = s.tryRead, s.tryAsk, s.tryWrite
	return s
}

// next reads at most that many bytes into a buffer of the given size, which is the caller's from then on; it is nil
// when there is an error.
func (s *source) next(size, most int) (buf []byte, n int, err error) {
	s.size, s.most = size, most
	err = s.wait(s.read)
	buf, s.buf = s.buf, nil
	return buf, s.n, err
}

// ask writes a request on a connection that holds nothing, and waits for what comes back, which it reads as next does.
// It does not try to read first. sent is less than the request where the connection takes no more of it without a
// wait; then nothing has been waited for, and without an error the caller goes on. errStale is the error when the
// connection was of no use, and nothing was sent.
func (s *source) ask(request []byte, size, most int) (sent int, buf []byte, n int, err error) {
	s.size, s.most, s.asking, s.sent, s.asked = size, most, request, 0, false
	err = s.wait(s.request)
	s.asking = nil
	buf, s.buf = s.buf, nil
	return s.sent, buf, s.n, err
}

// put writes all of b.
func (s *source) put(b []byte) error {
	s.writing, s.failed = b, nil
	err := s.raw.Write(s.write)
	s.writing = nil
	if s.failed != nil {
		return s.failed
	}
	return err
}

// wait calls try at once, and then whenever something has come, until it says that it has done.
func (s *source) wait(try func(uintptr) bool) error {
	s.buf, s.n, s.err = nil, 0, nil
	if err := s.raw.Read(try); err != nil {
		giveBuffer(s.buf)
		s.buf, s.n = nil, 0
		return err
	}
	return s.err
}

func (s *source) tryRead(fd uintptr) (done bool) {
	b := takeBuffer(s.size)
	n, errno := receive(fd, b[:min(s.most, len(b))], 0)
	switch {
	case errno == unix.EAGAIN:
		giveBuffer(b)
		return false
	case errno != 0:
		s.err = os.NewSyscallError("read", errno)
	case n == 0:
		s.err = io.EOF
	default:
		s.buf, s.n = b, n
		return true
	}
	giveBuffer(b)
	return true
}

// tryAsk looks, writes and lets the answer be waited for within one read of the connection: whatever comes after the
// look ends the wait.
func (s *source) tryAsk(fd uintptr) (done bool) {
	if s.asked {
		return s.tryRead(fd)
	}
	s.asked = true
	var one [1]byte
	if _, errno := receive(fd, one[:], unix.MSG_PEEK); errno != unix.EAGAIN {
		s.err = errStale
		return true
	}
	n, errno := send(fd, s.asking)
	s.sent = n
	if errno != 0 && errno != unix.EAGAIN {
		s.err = os.NewSyscallError("write", errno)
	}
	return s.sent < len(s.asking)
}

func (s *source) tryWrite(fd uintptr) (done bool) {
	for len(s.writing) > 0 {
		n, errno := send(fd, s.writing)
		s.writing = s.writing[n:]
		if errno == unix.EAGAIN {
			return false
		}
		if errno != 0 {
			s.failed = os.NewSyscallError("write", errno)
			return true
		}
	}
	return true
}

// receive is recvfrom without a wait. b is not empty.
func receive(fd uintptr, b []byte, flags int) (n int, errno syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// send is sendto without a wait. b is not empty.
func send(fd uintptr, b []byte) (n int, errno syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}
