package gateway

import (
	"net"

	"golang.org/x/sys/unix"
)

// unsentLimit is how much the kernel keeps of an answer for a client that it has not sent yet. Left alone it keeps up to 4 MB, and a thousand
// clients that ask for large answers and do not read them use up what it has for all connections of the machine: it then resets any. What
// has been sent and is not acknowledged does not count, so that a fast client far away is not slowed down.
const unsentLimit = 128 << 10

// limitUnsent holds a client's connection to unsentLimit (TCP_NOTSENT_LOWAT). It is not inherited from the listener.
func limitUnsent(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { // without it the kernel's own limit holds
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentLimit)
		})
	}
}
