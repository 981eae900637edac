package gateway

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/route"
)

// Live is the part of Config that may be given anew while the gateway runs. All of it is required.
type Live struct {
	Routes   *route.Table
	Keys     *auth.CallKeys
	Settings Settings
}

// generation is what the gateway works by at a moment, one immutable value.
type generation struct {
	set     Settings
	limits  http1.Limits
	keys    *auth.CallKeys
	keyLine []byte // "Call-Service-Key: …\r\n"
	routes  *route.Table
	stats   map[*route.Rule]*routeStats
}

// reloads tells what became of the configurations that were read while the gateway ran.
type reloads struct {
	taken, refused atomic.Int64
	failing        atomic.Pointer[string] // why the last one was refused; nil when it was not
}

func (g *Gateway) set() *Settings { return &g.live.Load().set }

func (g *Gateway) limits() *http1.Limits { return &g.live.Load().limits }

// Reload makes l what the gateway works by, or returns an error and changes nothing. A request that was matched finishes
// by the routes it was matched with; connections, the nodes' counters and health, and the figures of routes stay, of a thousand at least that are served no more. Times that
// net/http's HTTP/2 server was made with (headTimeout, idleTimeout, bodyTimeout) stay for HTTP/2 connections. Reload must
// not run beside itself.
func (g *Gateway) Reload(l Live) error {
	next, err := g.generation(l)
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	g.live.Store(next)
	g.metrics.forget(next.stats)
	if err := g.SetPolicies(l.Settings.Zone, l.Settings.Policies); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	g.reloads.taken.Add(1)
	g.reloads.failing.Store(nil)
	g.mu.Lock()
	g.room.Broadcast() // there may be room for more connections
	g.mu.Unlock()
	return nil
}

// ReloadFailed tells that a configuration could not be taken, and why: until the next Reload, /readyz?verbose=1,
// /cluster?verbose=1 and the metrics say so. The gateway goes on with what it has.
func (g *Gateway) ReloadFailed(err error) {
	text := err.Error()
	g.reloads.refused.Add(1)
	g.reloads.failing.Store(&text)
}

// ReloadPassed tells that the configuration is what the gateway works by already.
func (g *Gateway) ReloadPassed() { g.reloads.failing.Store(nil) }

func (g *Gateway) generation(l Live) (*generation, error) {
	if l.Routes == nil || l.Keys == nil {
		return nil, errors.New("the configuration has no Routes or no Keys")
	}
	if err := l.Settings.Validate(); err != nil {
		return nil, err
	}
	s := &l.Settings
	next := &generation{
		set:     l.Settings,
		limits:  http1.Limits{Head: int(s.MaxHead), Lines: s.MaxHeaderLines, Target: int(s.MaxTarget)},
		keys:    l.Keys,
		keyLine: []byte(auth.CallKeyHeader + ": " + l.Keys.Current() + "\r\n"),
		routes:  l.Routes, stats: map[*route.Rule]*routeStats{},
	}
	for _, rule := range l.Routes.Rules() {
		next.stats[rule] = g.metrics.route(rule.Name, rule.Service)
	}
	return next, nil
}
