package process

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noData lets a TCP socket drop segments that carry data as the last of a write. The filter of a TCP socket sees the segment from its header
// on, whose flags are at 13: PSH is 8. All else passes, so that the connection stands and ends as usual.
var noData = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
	{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 8, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
}

// Deafen has this end of a TCP connection lose what it is sent from now on, before the system has seen it: nothing is acknowledged, as if it
// were still under way. It returns what tells how many segments were lost so far, 0 when the connection is closed. It may be called from any
// goroutine.
func Deafen(conn *net.TCPConn) (lost func() int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	before := drops(raw)
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(noData)), Filter: &noData[0]})
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("filter what a connection is sent: %w", err)
	}
	return func() int { return max(0, drops(raw)-before) }, nil
}

// drops counts the segments that a socket has dropped.
func drops(raw syscall.RawConn) (n int) {
	_ = raw.Control(func(fd uintptr) {
		var info [unix.SK_MEMINFO_DROPS + 1]uint32
		size := uint32(unsafe.Sizeof(info))
		if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); errno == 0 {
			n = int(info[unix.SK_MEMINFO_DROPS])
		}
	})
	return n
}
