//go:build linux

package gateway

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Unsent returns the most bytes that the kernel holds for a client and has not sent yet.
func (g *Gateway) Unsent() (most int) {
	for _, c := range g.snapshotConns(nil) {
		sc, ok := socketOf(c.nc).(syscall.Conn)
		if !ok {
			continue
		}
		raw, err := sc.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) {
			if n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQNSD); err == nil {
				most = max(most, n)
			}
		})
	}
	return most
}
