package gateway

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/registry"
)

// view is one generation of nodes.
type view struct {
	snapshot registry.Snapshot
	pools    map[string]*lb.Pool
}

// Apply takes in a whole set of nodes: pools are built, nodes that stay keep their connections and
// figures, joins and leaves are printed. What it costs is that of the services that changed. It fits
// registry's Watch.
func (g *Gateway) Apply(snapshot registry.Snapshot) {
	g.changing.Lock()
	defer g.changing.Unlock()
	old := g.view.Load()
	next := &view{snapshot: snapshot, pools: map[string]*lb.Pool{}}
	var before registry.Snapshot
	if old != nil {
		before = old.snapshot
		maps.Copy(next.pools, old.pools)
	}
	for nodes := snapshot.Nodes; len(nodes) > 0; {
		of := snapshot.Of(nodes[0].Service)
		if !slices.Equal(of, before.Of(nodes[0].Service)) {
			g.applyService(next, of)
		}
		nodes = nodes[len(of):]
	}
	for nodes := before.Nodes; len(nodes) > 0; {
		of := before.Of(nodes[0].Service)
		if len(snapshot.Of(nodes[0].Service)) == 0 {
			next.pools[nodes[0].Service].Update(nil) // kept for its figures
		}
		nodes = nodes[len(of):]
	}
	g.view.Store(next)
	g.checks.changed()
	if old == nil {
		close(g.known)
		if g.discovery == nil || !g.discovery.Status().Stale { // else they are those of the last run, which was logged
			g.log.Info("registry read", "nodes", len(snapshot.Nodes))
		}
		return
	}
	joined, left := registry.Diff(before, snapshot)
	g.announce("join", joined)
	g.announce("leave", left)
}

func (g *Gateway) applyService(v *view, nodes []registry.Node) {
	g.applying = nodes
	pool := v.pools[nodes[0].Service]
	if pool == nil {
		o := g.balance.Load().options(nodes[0].Service)
		o.NewData, o.DropData = g.newUpstream, dropUpstream
		pool = lb.NewPool(nodes[0].Service, o)
		v.pools[nodes[0].Service] = pool
	}
	specs := make([]lb.Spec, len(nodes))
	for i, n := range nodes {
		specs[i] = lb.Spec{ID: n.ID(), Addr: n.HTTPAddr, Weight: n.Weight, Draining: n.State == registry.Draining, Zone: n.Zone, Backup: n.Backup}
	}
	for _, n := range pool.Nodes() { // before they are picked by what is new of them
		if word, ok := g.word(n); ok {
			n.Data.(*upstream).learn(word, g.nodeTLS) //nolint:forcetypeassert // see newUpstream
		}
	}
	pool.Update(specs)
	for _, n := range pool.Nodes() {
		if n.Draining() {
			n.Data.(*upstream).drop() //nolint:forcetypeassert // see newUpstream
		}
	}
}

// newUpstream makes the upstream of a node that joins. It knows how to speak to it before it is picked.
func (g *Gateway) newUpstream(n *lb.Node) any {
	u := &upstream{dialer: g.dialer, node: n, addr: n.Addr()}
	u.remote, _ = netip.ParseAddrPort(u.addr) // a host name has no address to report
	word, ok := g.word(n)
	if !ok {
		panic("BUG: a node joins that is not in the snapshot")
	}
	u.learn(word, g.nodeTLS)
	return u
}

// word returns what the nodes being applied say of n.
func (g *Gateway) word(n *lb.Node) (registry.Node, bool) {
	i, ok := slices.BinarySearchFunc(g.applying, n.ID(), func(r registry.Node, id string) int { return strings.Compare(r.ID(), id) })
	if !ok {
		return registry.Node{}, false
	}
	return g.applying[i], true
}

func dropUpstream(data any) { data.(*upstream).leave() } //nolint:forcetypeassert // see newUpstream

// Ejected reports whether a node is left out because its connections fail.
func (g *Gateway) Ejected(service, id string) bool {
	v := g.view.Load()
	if v == nil || v.pools[service] == nil {
		return false
	}
	nodes := v.pools[service].Nodes()
	i, ok := slices.BinarySearchFunc(nodes, id, func(n *lb.Node, id string) int { return strings.Compare(n.ID(), id) })
	return ok && nodes[i].Ejected()
}

func (g *Gateway) announce(what string, nodes []registry.Node) {
	for _, n := range nodes {
		if n.Service == g.self.Service && n.ID() == g.self.ID() {
			continue
		}
		g.log.Info(what, "service", n.Service, "node", n.ID())
	}
}

// failed counts a failed connection against a node, and tells when that first takes it out of the picks.
// So it does when TLS to it fails, which time alone will not mend.
func (g *Gateway) failed(pool *lb.Pool, n *lb.Node, err error) {
	u := n.Data.(*upstream) //nolint:forcetypeassert // see newUpstream
	if _, ok := errors.AsType[*handshakeError](err); ok && u.unproven.CompareAndSwap(false, true) {
		g.log.Warn("cannot be reached over TLS (nodeTLS says how)", "service", pool.Service(), "node", n.ID(), "err", err)
	}
	if pool.Failed(n) {
		g.leftOut(pool, n, err)
	}
}
