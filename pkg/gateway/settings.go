package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/route"
)

// Settings are what an operator may tune. DefaultSettings holds every default; times are checked ten
// times a second, so they are kept to a tenth of a second.
type Settings struct {
	HeadTimeout         time.Duration `yaml:"headTimeout"`         // a client's time to send a whole head: 10s
	IdleTimeout         time.Duration `yaml:"idleTimeout"`         // a connection's time between two requests: 120s
	BodyTimeout         time.Duration `yaml:"bodyTimeout"`         // between two pieces of a body, either way: 30s
	ConnectTimeout      time.Duration `yaml:"connectTimeout"`      // to connect to a node, with its TLS handshake: 1s
	AnswerTimeout       time.Duration `yaml:"answerTimeout"`       // from the whole request to the answer's head, where the route names none: 30s
	StreamTimeout       time.Duration `yaml:"streamTimeout"`       // of silence in an upgraded connection, an event stream or a call of gRPC: 10m
	UpstreamIdleTimeout time.Duration `yaml:"upstreamIdleTimeout"` // an idle connection to a node, or less where the node's own limit is near: 60s
	DrainDelay          time.Duration `yaml:"drainDelay"`          // from the call to stop until no connection is accepted: 1s
	DrainTimeout        time.Duration `yaml:"drainTimeout"`        // for requests in flight to finish after that: 30s

	// A client that sends the body of a request, or reads the body of an answer, more slowly than this over ten seconds in which
	// the gateway waited for it is cut off: bytes a second, 0 is any pace. Event streams, calls of gRPC that the node has begun to answer, and upgraded connections are exempt.
	MinBodyRate route.Size `yaml:"minBodyRate"` // 1KiB
	MinReadRate route.Size `yaml:"minReadRate"` // 1KiB

	MaxConnections  int        `yaml:"maxConnections"`  // client connections at once; further ones wait in the backlog: 10000
	MaxHead         route.Size `yaml:"maxHead"`         // 32KiB
	MaxHeaderLines  int        `yaml:"maxHeaderLines"`  // 100
	MaxTarget       route.Size `yaml:"maxTarget"`       // 8KiB
	MaxBody         route.Size `yaml:"maxBody"`         // where the route names none: 10MiB
	MaxIdleUpstream int        `yaml:"maxIdleUpstream"` // idle connections kept to one node: 256
	Retries         int        `yaml:"retries"`         // further attempts where the route names none: 2

	// RetryBudget bounds what is tried again, for each service.
	RetryBudget RetryBudget `yaml:"retryBudget"`

	// Zone is where this gateway is: nodes of the same zone come first, as long as enough of them are well.
	Zone string `yaml:"zone"`
	// Policies say how requests are shared out among the nodes, by service.
	Policies Policies `yaml:"policies"`

	// TrustedProxies are the networks whose X-Forwarded-*, X-Real-IP and X-Request-Id are believed.
	TrustedProxies []netip.Prefix `yaml:"trustedProxies"`
	// ClusterNetworks are the networks that may ask for /cluster: loopback and private ones.
	ClusterNetworks []netip.Prefix `yaml:"clusterNetworks"`
	// AccessLog writes one record a request.
	AccessLog bool `yaml:"accessLog"`
}

// RetryBudget bounds the further attempts of requests by the number of requests, so that nodes in trouble
// do not get more of them: over the last ten seconds they are at most Percent of the service's requests,
// and Floor a second besides; while fewer than one in five of them helps, a quarter of Percent. Attempts that reached no node, or one that said it is leaving, are free.
type RetryBudget struct {
	Percent int `yaml:"percent"` // 20
	Floor   int `yaml:"floor"`   // 3
}

// DefaultSettings returns the settings of a gateway whose configuration says nothing.
func DefaultSettings() Settings {
	return Settings{
		HeadTimeout: 10 * time.Second, IdleTimeout: 120 * time.Second, BodyTimeout: 30 * time.Second,
		ConnectTimeout: time.Second, AnswerTimeout: 30 * time.Second, StreamTimeout: 10 * time.Minute,
		UpstreamIdleTimeout: 60 * time.Second, DrainDelay: time.Second, DrainTimeout: 30 * time.Second,
		MinBodyRate: 1 << 10, MinReadRate: 1 << 10,
		MaxConnections: 10000, MaxHead: 32 << 10, MaxHeaderLines: 100, MaxTarget: 8 << 10,
		MaxBody: 10 << 20, MaxIdleUpstream: 256, Retries: 2, RetryBudget: RetryBudget{Percent: 20, Floor: 3},
		ClusterNetworks: prefixes("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10", "169.254.0.0/16"),
	}
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// SettingError is one setting that cannot be used.
type SettingError struct{ Key, Msg string }

// Error implements error.
func (e *SettingError) Error() string { return e.Key + ": " + e.Msg }

// ConfigKey names the setting, as in the configuration.
func (e *SettingError) ConfigKey() string { return e.Key }

// Validate returns all complaints, joined; each is a *SettingError.
func (s Settings) Validate() error {
	var errs []error
	complain := func(key, format string, args ...any) {
		errs = append(errs, &SettingError{key, fmt.Sprintf(format, args...)})
	}
	durations := []struct {
		key      string
		d        time.Duration
		min, max time.Duration
	}{
		{"headTimeout", s.HeadTimeout, 100 * time.Millisecond, time.Hour},
		{"idleTimeout", s.IdleTimeout, 100 * time.Millisecond, 24 * time.Hour},
		{"bodyTimeout", s.BodyTimeout, 100 * time.Millisecond, time.Hour},
		{"connectTimeout", s.ConnectTimeout, 10 * time.Millisecond, time.Minute},
		{"answerTimeout", s.AnswerTimeout, 100 * time.Millisecond, time.Hour},
		{"streamTimeout", s.StreamTimeout, time.Second, 24 * time.Hour},
		{"upstreamIdleTimeout", s.UpstreamIdleTimeout, 100 * time.Millisecond, time.Hour},
		{"drainDelay", s.DrainDelay, 0, 5 * time.Minute},
		{"drainTimeout", s.DrainTimeout, 0, time.Hour},
	}
	for _, d := range durations {
		if d.d < d.min || d.d > d.max {
			complain(d.key, "%s is not between %s and %s", d.d, d.min, d.max)
		}
	}
	numbers := []struct {
		key         string
		n, min, max int64
	}{
		{"minBodyRate", int64(s.MinBodyRate), 0, 1 << 30},
		{"minReadRate", int64(s.MinReadRate), 0, 1 << 30},
		{"maxConnections", int64(s.MaxConnections), 1, 10_000_000},
		{"maxHead", int64(s.MaxHead), 1 << 10, 1 << 20},
		{"maxHeaderLines", int64(s.MaxHeaderLines), 10, http1.MaxLines - 1},
		{"maxTarget", int64(s.MaxTarget), 256, int64(s.MaxHead)},
		{"maxBody", int64(s.MaxBody), 0, 1 << 50},
		{"maxIdleUpstream", int64(s.MaxIdleUpstream), 0, 1 << 20},
		{"retries", int64(s.Retries), 0, route.MaxRetries},
		{"retryBudget.percent", int64(s.RetryBudget.Percent), 0, 100},
		{"retryBudget.floor", int64(s.RetryBudget.Floor), 0, 1_000_000},
	}
	for _, n := range numbers {
		if n.n < n.min || n.n > n.max {
			complain(n.key, "%d is not between %d and %d", n.n, n.min, n.max)
		}
	}
	errs = append(errs, s.Policies.under("policies")...)
	return errors.Join(errs...)
}
