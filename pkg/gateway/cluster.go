package gateway

import (
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
)

// Cluster is what /cluster answers.
type Cluster struct {
	Services map[string]ClusterService `json:"services"`
	Status   bool                      `json:"status"`
	Gateway  *ClusterGateway           `json:"gateway,omitempty"` // with verbose=1
}

// ClusterService is one service in Cluster. PollNext is the index in Nodes of the node that the next
// request goes to; RequestFinish counts the requests that nodes of the service answered.
type ClusterService struct {
	PollNext      int
	Nodes         []string
	RequestFinish int64
	Detail        []ClusterNode   `json:"Detail,omitempty"`  // with verbose=1
	Balance       *ClusterBalance `json:"Balance,omitempty"` // with verbose=1
}

// ClusterNode is one node in Cluster: what the balancer knows of it, and how the gateway speaks to it.
type ClusterNode struct {
	lb.NodeStatus
	TLS  bool // the node publishes TLS, and is spoken to in no other way
	Idle int  // connections to it that wait for a request
	// IdleLimit is how long after its last use began a connection to it may be used again, as in "1m0s".
	IdleLimit string
}

// ClusterGateway is what a gateway says of itself.
type ClusterGateway struct {
	Node         string           `json:"node"`
	Draining     bool             `json:"draining"`
	Connections  int              `json:"connections"`
	Revision     int64            `json:"registryRevision"`
	Connected    bool             `json:"registryConnected"`
	AgeSeconds   float64          `json:"registryAgeSeconds"`
	Resyncs      map[string]int64 `json:"registryResyncs,omitempty"`
	IgnoredNodes int64            `json:"registryIgnored"`
	Routes       string           `json:"routes"`                // the digest of the routes it serves
	OtherRoutes  []ClusterRoutes  `json:"otherRoutes,omitempty"` // gateways that serve others
	ConfigError  string           `json:"configError,omitempty"` // why the configuration that lies there is not in use
	Refused      map[string]int64 `json:"nodesRefused,omitempty"`
	Stale        bool             `json:"registryStale"`
	StaleSince   *time.Time       `json:"registryStaleSince,omitempty"`
	Overrides    []ClusterRule    `json:"overrides,omitempty"`
}

// ClusterRoutes is a gateway whose routes are not those of the one that answers.
type ClusterRoutes struct {
	Node   string `json:"node"`
	Routes string `json:"routes"`
}

// ClusterRule is what an operator has set for one node. Weight is absent when it is the node's own.
type ClusterRule struct {
	Service string         `json:"service"`
	Node    string         `json:"node"`
	Weight  *int           `json:"weight,omitempty"`
	State   registry.State `json:"state,omitempty"`
	By      string         `json:"by"`
	At      time.Time      `json:"at"`
}

// Cluster returns the state of all services as this gateway sees it.
func (g *Gateway) Cluster(verbose bool) Cluster {
	out := Cluster{Services: map[string]ClusterService{}, Status: true}
	if v := g.view.Load(); v != nil {
		for name, pool := range v.pools {
			s := pool.Status()
			if len(s.Nodes) == 0 && s.RequestFinish == 0 {
				continue
			}
			c := ClusterService{PollNext: s.PollNext, Nodes: make([]string, len(s.Nodes)), RequestFinish: s.RequestFinish}
			for i, n := range s.Nodes {
				c.Nodes[i] = n.ID
			}
			if verbose {
				c.Detail = g.clusterNodes(pool, s.Nodes)
				c.Balance = clusterBalance(&s)
			}
			out.Services[name] = c
		}
	}
	if verbose {
		out.Gateway = g.clusterGateway()
	}
	return out
}

func (g *Gateway) clusterNodes(pool *lb.Pool, list []lb.NodeStatus) []ClusterNode {
	upstreams := map[string]*upstream{}
	for _, n := range pool.Nodes() {
		upstreams[n.ID()] = n.Data.(*upstream) //nolint:forcetypeassert // see newUpstream
	}
	out := make([]ClusterNode, len(list))
	for i, s := range list {
		out[i].NodeStatus = s
		if u := upstreams[s.ID]; u != nil { // it may have left meanwhile
			out[i].TLS, out[i].Idle = u.secure.Load() != nil, u.count()
			out[i].IdleLimit = min(time.Duration(u.reuse.Load()), g.set().UpstreamIdleTimeout).String()
		}
	}
	return out
}

func (g *Gateway) clusterGateway() *ClusterGateway {
	c := &ClusterGateway{Node: g.self.ID(), Draining: g.draining.Load(), Connections: g.connections()}
	c.Routes = g.live.Load().routes.Digest()
	if why := g.reloads.failing.Load(); why != nil {
		c.ConfigError = *why
	}
	if v := g.view.Load(); v != nil {
		for _, n := range v.snapshot.Of(g.self.Service) {
			if n.Routes != "" && n.Routes != c.Routes && n.ID() != g.self.ID() {
				c.OtherRoutes = append(c.OtherRoutes, ClusterRoutes{n.ID(), n.Routes})
			}
		}
	}
	if g.discovery != nil {
		s := g.discovery.Status()
		c.Revision, c.Connected, c.Resyncs, c.IgnoredNodes = s.Revision, s.Connected, s.Resyncs, s.Ignored
		if !s.LastContact.IsZero() {
			c.AgeSeconds = time.Since(s.LastContact).Seconds()
		}
		c.Refused, c.Stale = s.Refused, s.Stale
		if s.Stale && !s.StaleSince.IsZero() {
			c.StaleSince, c.AgeSeconds = &s.StaleSince, time.Since(s.StaleSince).Seconds()
		}
		for _, o := range s.Overrides {
			rule := ClusterRule{Service: o.Service, Node: o.ID, State: o.State, By: o.By, At: o.At}
			if o.Weight != registry.AsPublished {
				rule.Weight = &o.Weight
			}
			c.Overrides = append(c.Overrides, rule)
		}
	}
	return c
}

func (g *Gateway) connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *Gateway) clusterJSON(verbose bool) []byte {
	b, err := json.MarshalIndent(g.Cluster(verbose), "", "    ")
	if err != nil {
		panic("BUG: cluster: " + err.Error())
	}
	return append(b, '\n')
}

// clusterEndpoint answers /cluster to the networks that may see it.
func clusterEndpoint(x *exchange) *local {
	if l := x.readOnly(); l != nil {
		return l
	}
	if !x.client.IsValid() || !contains(x.gw.set().ClusterNetworks, x.client) {
		return x.refuse(&failure{reason: ReasonForbidden})
	}
	return x.own(200, "application/json", x.gw.clusterJSON(verbose(string(x.req.Query))))
}

func verbose(query string) bool {
	if len(query) < 2 {
		return false
	}
	q, err := url.ParseQuery(query[1:])
	return err == nil && q.Has("verbose") && (q.Get("verbose") == "" || q.Get("verbose") == "1")
}

// livezEndpoint answers as long as the process does.
func livezEndpoint(x *exchange) *local {
	if l := x.readOnly(); l != nil {
		return l
	}
	return x.own(200, "text/plain; charset=utf-8", []byte("ok\n"))
}

// readyzEndpoint answers 200 when the gateway knows the nodes and is not stopping. Why it is not ready
// is told to those who may see /cluster.
func readyzEndpoint(x *exchange) *local {
	if l := x.readOnly(); l != nil {
		return l
	}
	status, text := x.gw.ready()
	if !verbose(string(x.req.Query)) || !contains(x.gw.set().ClusterNetworks, x.client) {
		text = map[int]string{200: "ok\n", 503: "not ready\n"}[status]
	}
	return x.own(status, "text/plain; charset=utf-8", []byte(text))
}

// ready says whether the gateway should be sent requests, and why not.
func (g *Gateway) ready() (status int, text string) {
	switch {
	case g.draining.Load():
		return 503, "not ready: stopping\n"
	case g.view.Load() == nil:
		return 503, "not ready: the registry has not been read yet\n"
	}
	text = "ok"
	if g.discovery != nil {
		s := g.discovery.Status()
		switch {
		case s.Stale:
			text = "ok: the registry has not been read since the start, the nodes are those of the last run" + since(", known", s.StaleSince)
		case !s.Connected:
			text = "ok: the registry is away" + since(", heard of", s.LastContact) + ", the last set of nodes is served"
		}
	}
	if why := g.reloads.failing.Load(); why != nil {
		text += "\nthe configuration cannot be used, the one before is: " + *why
	}
	return 200, text + "\n"
}

// since says when something was last so, and how long that is ago; nothing when it is not known.
func since(what string, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s at %s, %s ago", what, t.UTC().Format(time.RFC3339), time.Since(t).Round(time.Second))
}

var errReadOnly = &route.MethodError{Allow: "GET, HEAD"}

// readOnly refuses methods other than GET and HEAD.
func (x *exchange) readOnly() *local {
	if m := string(x.req.Method); m == "GET" || m == "HEAD" {
		return nil
	}
	return x.refuse(errReadOnly)
}

// own makes an answer of the gateway's own.
func (x *exchange) own(status int, contentType string, body []byte) *local {
	x.reason, x.status = ReasonLocal, status
	return &local{status: status, reason: ReasonLocal, contentType: contentType, body: body}
}
