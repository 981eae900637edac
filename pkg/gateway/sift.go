package gateway

import (
	"math/rand/v2"
	"net/netip"

	"github.com/goms-io/goms/pkg/http1"
)

// sift goes once through the client's fields: which lines a node sees as they are, and what the ones
// that the gateway owns say.
func (x *exchange) sift() error {
	g := x.gw
	x.trusted = contains(g.set().TrustedProxies, x.peer.Addr())
	x.client = x.peer.Addr()
	x.upgrade = x.req.Minor == 1 && !x.req.HasBody() && upgradable(x.req.Upgrade)
	absolute := len(x.req.Target) > 0 && x.req.Target[0] != '/'
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		keep := !f.Kind.HopByHop() && !f.Nominated
		switch f.Kind {
		case http1.KindHost:
			keep = !absolute
		case http1.KindExpect:
			keep = x.req.Expect && x.req.HasBody() // from HTTP/1.0 it means nothing (RFC 9110 section 10.1.1)
		case http1.KindOther:
			if o := ownedField(f.Name); o != ownNone {
				var err error
				if keep, err = x.siftOwned(f, o); err != nil {
					return err
				}
				keep = keep && !f.Nominated
			}
		}
		if keep {
			x.keep(f.Start, f.End)
		}
	}
	if len(x.xff) > 0 {
		x.client = clientOf(x.xff, g.set().TrustedProxies)
	} else if x.fwd {
		x.client = netip.Addr{} // said to come from elsewhere, in a way that is not believed or not read
	}
	return nil
}

// upgradable accepts one protocol, as in "websocket", and none that would carry requests past this
// gateway: HTTP/2.
func upgradable(protocol []byte) bool {
	for _, c := range protocol {
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '.', c == '/', c == '_':
		default:
			return false
		}
	}
	return len(protocol) > 0 && !(len(protocol) >= 2 && http1.EqualFold(protocol[:2], "h2")) &&
		!(len(protocol) >= 4 && http1.EqualFold(protocol[:4], "http"))
}

// keep adds a line of the head to what nodes see, joined to the one before where they touch.
func (x *exchange) keep(start, end int) {
	if n := len(x.kept); n > 0 && x.kept[n-1].end == start {
		x.kept[n-1].end = end
		return
	}
	x.kept = append(x.kept, span{start, end})
}

// siftOwned takes in a field that the gateway owns and says whether its line is passed on as it is.
func (x *exchange) siftOwned(f *http1.Field, o owned) (keep bool, err error) {
	if o != ownVia && alias(f.Name) {
		return false, nil
	}
	switch o {
	case ownVia:
		if x.gw.inVia(f.Value) {
			return false, &failure{reason: ReasonLoop}
		}
		return true, nil
	case ownForwards:
		return x.siftForwards(f.Value)
	case ownTrace:
		x.carrier.Header(f.Name, f.Value)
		return false, nil
	case ownForwarded:
		x.fwd = true
		if x.trusted {
			x.xff = append(x.xff, f.Value)
		}
	case ownProto:
		if x.trusted && len(x.proto) == 0 {
			x.proto = f.Value
		}
	case ownHost:
		if x.trusted && len(x.host) == 0 {
			x.host = f.Value
		}
	case ownProxy:
		x.fwd = true
		return x.trusted, nil
	case ownTimeout, ownGRPCTimeout:
		x.siftTimeout(f.Value, o)
	case ownRequestID:
		if x.trusted && wellFormedID(f.Value) {
			x.id = append(x.idBuf[:0], f.Value...)
		}
	}
	return false, nil
}

// wellFormedID accepts the request ids that other proxies make: 1 to 64 letters, digits, '-', '_', '.'.
func wellFormedID(id []byte) bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for _, c := range id {
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

func appendRequestID(dst []byte) []byte {
	const digits = "0123456789abcdef"
	for range 2 {
		n := rand.Uint64()
		for range 16 {
			dst = append(dst, digits[n&15])
			n >>= 4
		}
	}
	return dst
}

// clientOf returns the address that the nearest trusted proxies saw: the last one of all lists that is
// not itself a trusted proxy; the first one, when all are. It is invalid when a list cannot be read.
func clientOf(lists [][]byte, trusted []netip.Prefix) (addr netip.Addr) {
	for i := len(lists) - 1; i >= 0; i-- {
		for end := len(lists[i]); end >= 0; {
			start := end
			for start > 0 && lists[i][start-1] != ',' {
				start--
			}
			entry, _, _ := http1.NextToken(lists[i][start:end])
			var err error
			if addr, err = netip.ParseAddr(string(entry)); err != nil {
				return netip.Addr{}
			}
			if addr = addr.Unmap(); !contains(trusted, addr) {
				return addr
			}
			end = start - 1
		}
	}
	return addr
}

func contains(list []netip.Prefix, addr netip.Addr) bool {
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
