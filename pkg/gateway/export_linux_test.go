package gateway

import "net"

// Source is what a plain connection is read from and written to by.
type Source struct{ s *source }

// SourceOf returns that of nc.
func SourceOf(nc net.Conn) Source { return Source{newSource(nc)} }

// ErrStale is errStale.
var ErrStale = errStale

// Ask is ask; what came back is a copy.
func (s Source) Ask(request []byte) (sent int, answer string, err error) {
	sent, buf, n, err := s.s.ask(request, readBuffer, readBuffer)
	answer = string(buf[:n])
	giveBuffer(buf)
	return sent, answer, err
}

// Put is put.
func (s Source) Put(b []byte) error { return s.s.put(b) }
