package gateway

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clientGone reports whether the peer of nc has closed its side, without taking a byte from it.
func clientGone(nc net.Conn) bool {
	if s, ok := nc.(*streamConn); ok {
		return s.Gone()
	}
	return newProbe(nc).hungUp()
}

// probe looks at what waits on a connection. It is made once a connection to a node, so that a look
// allocates nothing.
type probe struct {
	raw  syscall.RawConn
	look func(fd uintptr)
	fds  [1]unix.PollFd
}

func newProbe(nc net.Conn) *probe {
	sc, ok := socketOf(nc).(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	p := &probe{raw: raw}
	p.look = func(fd uintptr) {
		p.fds[0].Fd = int32(fd)
		for {
			if _, err := unix.Poll(p.fds[:], 0); err != unix.EINTR {
				return
			}
		}
	}
	return p
}

// events returns which of the wanted events, or failures, there are now.
func (p *probe) events(wanted int16) int16 {
	p.fds[0].Events, p.fds[0].Revents = wanted, 0
	if p.raw.Control(p.look) != nil {
		return unix.POLLERR
	}
	return p.fds[0].Revents
}

// readable reports whether the next read would not wait: there are bytes, the end or a failure. A nil
// probe knows nothing and says false.
func (p *probe) readable() bool {
	return p != nil && p.events(unix.POLLIN|unix.POLLRDHUP) != 0
}

// unacknowledged ends the connection when the peer leaves what it was sent unacknowledged, or its window
// closed, for d (TCP_USER_TIMEOUT, RFC 5482).
func (p *probe) unacknowledged(d time.Duration) {
	if p == nil {
		return
	}
	_ = p.raw.Control(func(fd uintptr) { // without it the kernel's own limit holds, minutes
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// outstanding returns how many of the bytes that were written the peer's system has not acknowledged. A nil probe knows nothing and says 0.
func (p *probe) outstanding() (n int) {
	if p == nil {
		return 0
	}
	_ = p.raw.Control(func(fd uintptr) {
		if out, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			n = out
		}
	})
	return n
}

// hungUp reports whether the peer has closed its side. A nil probe knows nothing and says false.
func (p *probe) hungUp() bool { return p != nil && p.events(unix.POLLRDHUP) != 0 }

// full reports whether a write would wait for the peer to read. A nil probe knows nothing and says false.
func (p *probe) full() bool {
	return p != nil && p.events(unix.POLLOUT)&unix.POLLOUT == 0
}

// transferred returns how many bytes the peer of nc has acknowledged and sent so far: it moves as long
// as the peer does, also while the kernel does the copying. It is 0 where that is not known: TCP counts,
// Unix connections do not.
func transferred(nc net.Conn) (out, in uint64) {
	sc, ok := socketOf(nc).(syscall.Conn)
	if !ok {
		return 0, 0
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return 0, 0
	}
	_ = rc.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			out, in = info.Bytes_acked, info.Bytes_received
		}
	})
	return out, in
}

// canSplice says that the kernel can move bytes between two TCP connections.
const canSplice = true

// waiting reports whether connections wait in the backlog of ln.
func waiting(ln net.Listener) bool {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return false
	}
	found := false
	if raw, err := sc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 0)
			found = err == unix.EINTR || n > 0 && fds[0].Revents&unix.POLLIN != 0
		})
	}
	return found
}

// noSYN lets a TCP socket drop segments that begin a connection. A filter of a TCP socket sees the segment from its header
// on, whose flags are at 13: SYN (2) without ACK (16) is dropped, all else passes.
var noSYN = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
}

// keepOut lets no new connection into the backlog of ln, where it is TCP. Handshakes under way end as usual.
func keepOut(ln net.Listener) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { // without it a connection may still come between the last look and the end
			_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(noSYN)), Filter: &noSYN[0]})
		})
	}
}
