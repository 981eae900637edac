package gateway

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/goms-io/goms/pkg/lb"
)

// balance is one generation of policies, compiled.
type balance struct {
	zone     string
	policies Policies
	hashes   map[string]*hashOn // by service, of those that are named; nil goes by nothing
	other    *hashOn            // of all others
	any      bool               // some service goes by something
}

// newBalance compiles valid policies.
func newBalance(zone string, p Policies) *balance {
	b := &balance{zone: zone, policies: p, hashes: map[string]*hashOn{}}
	compile := func(service string) *hashOn {
		whole := p.of(service)
		if whole.Balance != (lb.Hash{}).String() {
			return nil
		}
		h, err := parseHashOn(whole.HashOn)
		if err != nil {
			panic("BUG: a policy that was not validated: " + err.Error())
		}
		b.any = true
		return &h
	}
	b.other = compile(defaultPolicy)
	for service := range p {
		b.hashes[service] = compile(service)
	}
	return b
}

// options returns those of a service's pool.
func (b *balance) options(service string) lb.Options {
	whole := b.policies.of(service)
	return whole.options(b.zone)
}

// key returns the request's key, for policies that go by one.
func (b *balance) key(x *exchange) uint64 {
	if !b.any {
		return 0
	}
	h, named := b.hashes[x.rule.Service]
	if !named {
		h = b.other
	}
	if h == nil {
		return 0
	}
	return h.key(x)
}

// SetPolicies changes how requests are shared out, and the zone that the gateway is in. Nodes keep their
// connections, counters, health and state of ejection. On an error nothing changes.
func (g *Gateway) SetPolicies(zone string, p Policies) error {
	if err := p.Validate(); err != nil {
		return fmt.Errorf("set policies: %w", err)
	}
	g.changing.Lock()
	defer g.changing.Unlock()
	b := newBalance(zone, p)
	g.balance.Store(b)
	if v := g.view.Load(); v != nil {
		for name, pool := range v.pools {
			pool.Configure(b.options(name))
		}
	}
	g.checks.changed()
	return nil
}

// ClusterBalance is how the requests of a service are shared out, in Cluster.
type ClusterBalance struct {
	Policy   string `json:"policy"`
	InFlight int64  `json:"inFlight"`
	Refused  int64  `json:"refused"`           // requests answered overloaded
	Limit    int64  `json:"limit,omitempty"`   // of requests in flight, while a queue stands
	Breaker  string `json:"breaker,omitempty"` // closed, open or half-open
}

func clusterBalance(s *lb.Status) *ClusterBalance {
	return &ClusterBalance{s.Policy, s.InFlight, s.Refused, s.Limit, s.Breaker}
}

var (
	healthyDesc     = prometheus.NewDesc("goms_node_healthy", "1 while a node passes its checks, or has none.", []string{"service", "node"}, nil)
	nodeBreakerDesc = prometheus.NewDesc("goms_node_breaker_open", "1 while the circuit breaker of a node is not closed.", []string{"service", "node"}, nil)
	breakerDesc     = prometheus.NewDesc("goms_service_breaker_open", "1 while the circuit breaker of a service is not closed.", []string{"service"}, nil)
	shedDesc        = prometheus.NewDesc("goms_service_overloaded_total", "Attempts for which no node of a service had room.", []string{"service"}, nil)
	serviceLoadDesc = prometheus.NewDesc("goms_service_in_flight", "Requests at the nodes of a service.", []string{"service"}, nil)
	limitDesc       = prometheus.NewDesc("goms_service_limit", "Bound on the requests of a service in flight while a queue stands before its nodes; 0 is none.", []string{"service"}, nil)
)

// balanceDescs are what collectBalance tells.
var balanceDescs = []*prometheus.Desc{healthyDesc, nodeBreakerDesc, breakerDesc, shedDesc, serviceLoadDesc, limitDesc}

// collectBalance tells the figures of pools.
func (m *metrics) collectBalance(counter func(*prometheus.Desc, int64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	v := m.gw.view.Load()
	if v == nil {
		return
	}
	open := func(breaker string) float64 { return flag(breaker != "" && breaker != "closed") }
	for name, pool := range v.pools {
		s := pool.Status()
		counter(shedDesc, s.Refused, name)
		gauge(serviceLoadDesc, float64(s.InFlight), name)
		gauge(limitDesc, float64(s.Limit), name)
		gauge(breakerDesc, open(s.Breaker), name)
		for i := range s.Nodes {
			n := &s.Nodes[i]
			gauge(healthyDesc, flag(n.Healthy), name, n.ID)
			gauge(nodeBreakerDesc, open(n.Breaker), name, n.ID)
		}
	}
}

// answered counts an answer for or against its node, once its head is there. The time is the node's only
// when it had the whole request before.
func (g *Gateway) answered(x *exchange) {
	n := x.tried[x.attempts-1]
	x.flow(n)
	asked := x.asking
	if !x.whole {
		asked = time.Time{}
	}
	bad := x.res.Status >= 502 && x.res.Status <= 504
	switch ejected, restored := x.pool.AnsweredSince(n, asked, bad); {
	case ejected:
		g.leftOut(x.pool, n, nil)
	case restored:
		g.takenBack(x.pool, n)
	}
}

// overdue reports whether an attempt failed because the node did not begin its answer, though it had all the
// time that the route gives. It was asked then, or never when that is zero.
func (c *conn) overdue(x *exchange, asked time.Time, err error) bool {
	return err != nil && !x.sent && c.ended() == endLate && reasonOf(err) == ReasonNodeTimeout &&
		!asked.IsZero() && time.Since(asked) >= x.answerTimeout()*9/10
}

// silent reports whether who has waited for the node's answer since then, in the sweep's clock, waits in vain: the node is left out because
// nothing is heard of it.
func (u *upstream) silent(since int64) bool {
	return u.node.InVain(time.Duration(exactly()-since), u.unheard.Load())
}

// leftOut tells that a node is out of the picks, once.
func (g *Gateway) leftOut(pool *lb.Pool, n *lb.Node, err error) {
	if !n.Data.(*upstream).out.CompareAndSwap(false, true) { //nolint:forcetypeassert // see newUpstream
		return
	}
	why := n.Cause().String()
	if err != nil {
		why += ": " + err.Error()
	}
	g.log.Warn("is left out", "service", pool.Service(), "node", n.ID(), "err", why)
}

// takenBack tells that a node is back.
func (g *Gateway) takenBack(pool *lb.Pool, n *lb.Node) {
	if n.Data.(*upstream).out.CompareAndSwap(true, false) { //nolint:forcetypeassert // see newUpstream
		g.log.Info("is back, it answers again", "service", pool.Service(), "node", n.ID())
	}
}
