package registry

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// probeTimeout is how long a node has to accept a connection.
const probeTimeout = 500 * time.Millisecond

// Dead tries to connect to the HTTP address of n and reports whether nobody is there: the connection is refused, or not made within
// 500 ms, the host cannot be reached, or its name is not known any more. A node that is not believed is dead to whoever asks. Any
// other failure, as of this process's own sockets or its resolver, says nothing of the node. Nothing is sent.
func (t *Trust) Dead(n Node) bool {
	if t.Check(n) != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	d := net.Dialer{Control: t.Control}
	conn, err := d.DialContext(ctx, "tcp", n.HTTPAddr)
	if err == nil {
		// What was there to learn is known.
		_ = conn.Close()
		return false
	}
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		return name.IsNotFound
	}
	var timeout net.Error
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.As(err, &timeout) && timeout.Timeout()
}
