//go:build !linux

package gateway

import "net"

// limitUnsent leaves the system's own limit.
func limitUnsent(net.Conn) {}
