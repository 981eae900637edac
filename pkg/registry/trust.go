package registry

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// The causes for which [Trust] refuses a node, as in Status.Refused.
const (
	causeNetwork = "network" // an address outside the networks of nodes
	causeOwn     = "own"     // an address this process listens on itself
)

// maxRefused bounds how many refused nodes are logged.
const maxRefused = 256

// DefaultNodeNetworks returns the networks that nodes live in where nothing else is said: private and loopback ones. Link-local
// addresses are none of them: that of a cloud's metadata service is one.
func DefaultNodeNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("fc00::/7"),
	}
}

// Trust decides which nodes are believed: those whose addresses lie in certain networks and are not this process's own. Whoever
// may write to the store can then not point a gateway at itself, or at a place that is none of the project's.
//
// An address that is a host name is believed by [Trust.Filter], since a name may change its meaning at any time; whoever dials
// it has [Trust.Control] called with what the name came to. All methods are safe for concurrent use.
type Trust struct {
	networks []netip.Prefix
	self     Node
	own      map[netip.AddrPort]struct{} // where this process listens
	ports    map[uint16]struct{}         // ports it listens on at all of its addresses
	local    map[netip.Addr]struct{}     // the addresses of this machine
	log      *slog.Logger

	filtering sync.Mutex        // guards what follows
	last      []Node            // that Filter saw last
	known     map[Node]struct{} // those of them that are refused, without what their values say
	logged    int

	mu      sync.Mutex       // guards refused
	refused map[string]int64 // by cause: nodes refused, each once as long as it stays
}

// TrustConfig says what a [Trust] believes. All of it may be zero.
type TrustConfig struct {
	// Networks are where nodes live; nil is [DefaultNodeNetworks].
	Networks []netip.Prefix
	// Self is this process's own node. It is believed, as is every node of its service at another address.
	Self Node
	// Own are the addresses this process listens on. An unspecified one (0.0.0.0, [::]) means all addresses of this machine,
	// as they are when the Trust is made.
	Own []net.Addr
	// Log gets one line for each node that is refused, when it is first seen. Nil discards.
	Log *slog.Logger
}

// NewTrust returns a Trust.
func NewTrust(c TrustConfig) *Trust {
	t := &Trust{
		networks: c.Networks, self: c.Self, log: c.Log,
		own: map[netip.AddrPort]struct{}{}, ports: map[uint16]struct{}{}, local: map[netip.Addr]struct{}{},
		refused: map[string]int64{},
	}
	if t.networks == nil {
		t.networks = DefaultNodeNetworks()
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	for _, a := range []string{c.Self.RPCAddr, c.Self.HTTPAddr} {
		if ap, err := netip.ParseAddrPort(a); err == nil {
			t.own[ap] = struct{}{}
		}
	}
	for _, a := range c.Own {
		ap, err := netip.ParseAddrPort(a.String())
		switch {
		case err != nil:
		case ap.Addr().IsUnspecified():
			t.ports[ap.Port()] = struct{}{}
		default:
			t.own[netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())] = struct{}{}
		}
	}
	if len(t.ports) > 0 {
		// Without the list of interfaces the advertised address and loopback are still known.
		addrs, _ := net.InterfaceAddrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				t.local[p.Addr().Unmap()] = struct{}{}
			}
		}
	}
	return t
}

// Filter returns s without the nodes that are not believed. s is not changed, and shares its nodes with what is returned when all
// are believed. Nodes that the last call saw too cost next to nothing.
func (t *Trust) Filter(s Snapshot) Snapshot {
	t.filtering.Lock()
	defer t.filtering.Unlock()
	var refused map[Node]struct{}
	kept, old := s.Nodes, t.last
	t.last = s.Nodes
	for i, n := range s.Nodes {
		for len(old) > 0 && compare(old[0], n) < 0 {
			old = old[1:]
		}
		judged := len(old) > 0 && compare(old[0], n) == 0
		if t.believes(n, judged) {
			if refused != nil {
				kept = append(kept, n)
			}
			continue
		}
		if refused == nil {
			refused = map[Node]struct{}{}
			kept = slices.Clone(s.Nodes[:i])
		}
		refused[bare(n)] = struct{}{}
	}
	t.known = refused
	s.Nodes = kept
	return s
}

// believes judges n, or knows what became of it when it was judged already.
func (t *Trust) believes(n Node, judged bool) bool {
	if judged {
		if len(t.known) == 0 {
			return true
		}
		_, refused := t.known[bare(n)]
		return !refused
	}
	cause, err := t.judge(n)
	if err != nil {
		t.tell(bare(n), cause, err)
	}
	return err == nil
}

// bare is n without what its value says.
func bare(n Node) Node { return Node{Service: n.Service, RPCAddr: n.RPCAddr, HTTPAddr: n.HTTPAddr} }

// Control refuses connections to addresses where no believed node can be. It is for the Control field of a net.Dialer, which
// calls it for each address that a host name came to, before the connection is made. It does not look at c.
func (t *Trust) Control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("check address %q: %w", address, err)
	}
	_, err = t.check(ap)
	return err
}

// Check reports why the addresses of n are not believed, nil when they are. Host names are.
func (t *Trust) Check(n Node) error {
	_, err := t.judge(n)
	return err
}

// Refused returns how many nodes were refused, by cause: "network" and "own". It is a copy, and never nil.
func (t *Trust) Refused() map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.refused)
}

// judge says why n is not believed; a nil error means that it is.
func (t *Trust) judge(n Node) (cause string, err error) {
	if n.Service == t.self.Service && n.RPCAddr == t.self.RPCAddr && n.HTTPAddr == t.self.HTTPAddr {
		return "", nil
	}
	for _, a := range [...]string{n.RPCAddr, n.HTTPAddr} {
		// Most addresses are no host names, which ParseAddrPort would tell by an error that costs an allocation.
		if a == "" || !(a[0] == '[' || '0' <= a[0] && a[0] <= '9') {
			continue
		}
		if ap, perr := netip.ParseAddrPort(a); perr == nil {
			if cause, err = t.check(ap); err != nil {
				return cause, err
			}
		}
	}
	return "", nil
}

// check says why no node can be at ap.
func (t *Trust) check(ap netip.AddrPort) (cause string, err error) {
	ip := ap.Addr().Unmap().WithZone("")
	if !slices.ContainsFunc(t.networks, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return causeNetwork, fmt.Errorf("address %s is outside nodeNetworks", ap)
	}
	_, own := t.own[netip.AddrPortFrom(ip, ap.Port())]
	if _, all := t.ports[ap.Port()]; all && !own {
		_, local := t.local[ip]
		own = local || ip.IsLoopback()
	}
	if own {
		return causeOwn, fmt.Errorf("address %s is this process's own", ap)
	}
	return "", nil
}

// tell counts and logs a node that is refused from now on.
func (t *Trust) tell(n Node, cause string, err error) {
	defer func() { // who sees the figure finds the line
		t.mu.Lock()
		defer t.mu.Unlock()
		t.refused[cause]++
	}()
	switch t.logged++; {
	case t.logged <= maxRefused:
		t.log.Warn("is refused", "service", n.Service, "node", n.ID(), "reason", cause, "err", err)
	case t.logged == maxRefused+1:
		t.log.Warn("more nodes are refused, they are counted and not logged")
	}
}
