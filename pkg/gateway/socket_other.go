//go:build !linux

package gateway

import (
	"net"
	"time"
)

// clientGone cannot look ahead on this system: a client that left is noticed when it is written to.
func clientGone(nc net.Conn) bool {
	s, ok := nc.(*streamConn)
	return ok && s.Gone()
}

// probe cannot look ahead on this system: a stale connection is noticed when it is used.
type probe struct{}

func newProbe(net.Conn) *probe { return nil }

func (*probe) readable() bool { return false }

// unacknowledged leaves the system's own limit.
func (*probe) unacknowledged(time.Duration) {}

// outstanding is not known on this system.
func (*probe) outstanding() int { return 0 }

func (*probe) hungUp() bool { return false }

func (*probe) full() bool { return false }

// transferred is not known on this system.
func transferred(net.Conn) (out, in uint64) { return 0, 0 }

// canSplice says that bodies are copied through a buffer, so that progress is seen.
const canSplice = false

// waiting is not known on this system.
func waiting(net.Listener) bool { return false }

// keepOut is not known on this system.
func keepOut(net.Listener) {}
