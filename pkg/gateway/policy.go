package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// defaultPolicy is the key in Policies of what holds for every service.
const defaultPolicy = "default"

// Policies say how requests are shared out among the nodes of services, by the service's name. What the
// policy of a service leaves out is taken from the one named "default", and then from the built-in one.
type Policies map[string]Policy

// Policy says how requests are shared out among the nodes of one service, and when a node is believed to
// be ill. A nil pointer is "not said"; where 0 makes sense, it turns the thing off.
type Policy struct {
	Balance string `yaml:"balance"` // roundRobin, or random, weightedRandom, leastRequests, p2c, hash
	// HashOn is what hash goes by: clientAddress, path, header:NAME or cookie:NAME. A request without the
	// header or the cookie goes by the client's address.
	HashOn         string         `yaml:"hashOn"`
	ZoneMinimum    *int           `yaml:"zoneMinimum"`    // percent of the own zone's weight that must be well for all requests to stay there: 70
	SlowStart      *time.Duration `yaml:"slowStart"`      // until a node that joins busy others (20 requests a second) has its whole share: 10s
	PanicThreshold *int           `yaml:"panicThreshold"` // percent of nodes that must pass their checks for these to be believed: 50

	MaxInFlight        *int  `yaml:"maxInFlight"`        // requests at all nodes of the service: 0, no bound
	MaxInFlightPerNode *int  `yaml:"maxInFlightPerNode"` // requests at one node: 0, no bound
	Adaptive           *bool `yaml:"adaptive"`           // refuse requests while a queue stands before the nodes: false

	Breaker     BreakerPolicy `yaml:"breaker"`     // of the service: refuses requests while most fail
	NodeBreaker BreakerPolicy `yaml:"nodeBreaker"` // of each node
	Eject       EjectPolicy   `yaml:"eject"`
	Check       CheckPolicy   `yaml:"check"`
}

// EjectPolicy says when a node is left out for what its requests showed. At most half of the nodes of a
// service are, and never the last one.
type EjectPolicy struct {
	After    *int           `yaml:"after"`    // failed connections in a row: 3
	Rate     *int           `yaml:"rate"`     // percent of failures, of 502, 503 and 504, and of slow answers, far above the other nodes': 50
	Minimum  *int           `yaml:"minimum"`  // answers within the window, for the rate to count: 20
	Slow     *int           `yaml:"slow"`     // how many times the service's usual time makes an answer slow, if it is above 500ms: 10
	Silence  *time.Duration `yaml:"silence"`  // without any answer, while the other nodes answer: 1s
	Window   time.Duration  `yaml:"window"`   // over which rates are taken, those of breakers too: 10s
	Pause    time.Duration  `yaml:"pause"`    // of the first ejection; it doubles each time: 1s
	PauseMax time.Duration  `yaml:"pauseMax"` // 30s
}

// BreakerPolicy is a circuit breaker: there is one when it says anything but rate 0.
type BreakerPolicy struct {
	Rate    *int          `yaml:"rate"`    // percent of failures, and of 502, 503 and 504, that open it: 50
	Minimum int           `yaml:"minimum"` // answers within the window, for the rate to count: 20
	Pause   time.Duration `yaml:"pause"`   // until it lets one request through to try: 5s
}

// CheckPolicy asks every node at intervals whether it is well.
type CheckPolicy struct {
	Type      string        `yaml:"type"`      // http, tcp, grpc or none: none
	Path      string        `yaml:"path"`      // of http: /readyz; 2xx is well
	Service   string        `yaml:"service"`   // of grpc: the name asked for; "" is the whole node
	Interval  time.Duration `yaml:"interval"`  // 5s, a tenth more or less
	Timeout   time.Duration `yaml:"timeout"`   // 1s
	Healthy   int           `yaml:"healthy"`   // good checks in a row make a node well: 2
	Unhealthy int           `yaml:"unhealthy"` // bad ones in a row make it ill: 3
}

// The types of checks.
const (
	checkNone = "none"
	checkHTTP = "http"
	checkTCP  = "tcp"
	checkGRPC = "grpc"
)

// DefaultPolicy returns the whole policy of a service of which the configuration says nothing.
func DefaultPolicy() Policy {
	p := func(n int) *int { return &n }
	d := func(d time.Duration) *time.Duration { return &d }
	off := false
	return Policy{
		Balance: lb.RoundRobin{}.String(), HashOn: hashClient,
		ZoneMinimum: p(lb.DefaultZoneMinimum), SlowStart: d(10 * time.Second), PanicThreshold: p(lb.DefaultPanicThreshold),
		MaxInFlight: p(0), MaxInFlightPerNode: p(0), Adaptive: &off,
		Eject: EjectPolicy{
			After: p(lb.DefaultEjectAfter), Rate: p(lb.DefaultEjectRate), Minimum: p(lb.DefaultEjectMinimum),
			Slow: p(lb.DefaultEjectSlow), Silence: d(lb.DefaultEjectSilence), Window: lb.DefaultWindow,
			Pause: lb.DefaultEjectPause, PauseMax: lb.DefaultEjectPauseMax,
		},
		Check: CheckPolicy{Type: checkNone, Path: "/readyz", Interval: 5 * time.Second, Timeout: time.Second, Healthy: 2, Unhealthy: 3},
	}
}

// or returns p with what it does not say taken from base.
func (p Policy) or(base Policy) Policy {
	b, n := func(b, base BreakerPolicy) BreakerPolicy {
		return BreakerPolicy{cmp.Or(b.Rate, base.Rate), cmp.Or(b.Minimum, base.Minimum), cmp.Or(b.Pause, base.Pause)}
	}, func(e, base EjectPolicy) EjectPolicy {
		return EjectPolicy{
			cmp.Or(e.After, base.After), cmp.Or(e.Rate, base.Rate), cmp.Or(e.Minimum, base.Minimum), cmp.Or(e.Slow, base.Slow),
			cmp.Or(e.Silence, base.Silence), cmp.Or(e.Window, base.Window), cmp.Or(e.Pause, base.Pause), cmp.Or(e.PauseMax, base.PauseMax),
		}
	}
	c, bc := p.Check, base.Check
	return Policy{
		cmp.Or(p.Balance, base.Balance), cmp.Or(p.HashOn, base.HashOn),
		cmp.Or(p.ZoneMinimum, base.ZoneMinimum), cmp.Or(p.SlowStart, base.SlowStart), cmp.Or(p.PanicThreshold, base.PanicThreshold),
		cmp.Or(p.MaxInFlight, base.MaxInFlight), cmp.Or(p.MaxInFlightPerNode, base.MaxInFlightPerNode), cmp.Or(p.Adaptive, base.Adaptive),
		b(p.Breaker, base.Breaker), b(p.NodeBreaker, base.NodeBreaker), n(p.Eject, base.Eject),
		CheckPolicy{
			cmp.Or(c.Type, bc.Type), cmp.Or(c.Path, bc.Path), cmp.Or(c.Service, bc.Service), cmp.Or(c.Interval, bc.Interval),
			cmp.Or(c.Timeout, bc.Timeout), cmp.Or(c.Healthy, bc.Healthy), cmp.Or(c.Unhealthy, bc.Unhealthy),
		},
	}
}

// of returns the whole policy of a service.
func (p Policies) of(service string) Policy {
	whole := p[defaultPolicy].or(DefaultPolicy())
	if service != defaultPolicy {
		whole = p[service].or(whole)
	}
	return whole
}

// Validate returns all complaints, joined; each is a *SettingError whose key begins with the service's
// name.
func (p Policies) Validate() error { return errors.Join(p.complaints("")...) }

// under returns the complaints with the name of p before their keys.
func (p Policies) under(name string) []error { return p.complaints(name + ".") }

func (p Policies) complaints(prefix string) (errs []error) {
	for _, service := range slices.Sorted(maps.Keys(p)) {
		complain := func(key, format string, args ...any) {
			errs = append(errs, &SettingError{prefix + service + "." + key, fmt.Sprintf(format, args...)})
		}
		own, whole := p[service], p.of(service)
		own.validate(complain)
		whole.contradictions(complain)
		if service != defaultPolicy { // what the default says beyond its own need is for others
			base := p.of(defaultPolicy)
			own.superfluous(&whole, &base, complain)
		}
	}
	return errs
}

// validate checks every value by itself.
func (p *Policy) validate(complain func(key, format string, args ...any)) {
	if _, err := lb.ParsePolicy(p.Balance); p.Balance != "" && err != nil {
		complain("balance", "%v", err)
	}
	if _, err := parseHashOn(p.HashOn); p.HashOn != "" && err != nil {
		complain("hashOn", "%v", err)
	}
	types := []string{checkNone, checkHTTP, checkTCP, checkGRPC}
	if p.Check.Type != "" && !slices.Contains(types, p.Check.Type) {
		complain("check.type", "%q is no type of check: there are %s", p.Check.Type, strings.Join(types, ", "))
	}
	if path := p.Check.Path; path != "" && !checkPath(path) {
		complain("check.path", "%q is no path: it begins with / and holds no blanks", path)
	}
	numbers := []struct {
		key      string
		n        *int
		min, max int
	}{
		{"zoneMinimum", p.ZoneMinimum, 1, 100},
		{"panicThreshold", p.PanicThreshold, 0, 100},
		{"maxInFlight", p.MaxInFlight, 0, 10_000_000},
		{"maxInFlightPerNode", p.MaxInFlightPerNode, 0, 10_000_000},
		{"eject.after", p.Eject.After, 0, 1000},
		{"eject.rate", p.Eject.Rate, 0, 100},
		{"eject.minimum", p.Eject.Minimum, 1, 100_000},
		{"eject.slow", p.Eject.Slow, 0, 10_000},
		{"breaker.rate", p.Breaker.Rate, 0, 100},
		{"breaker.minimum", given(p.Breaker.Minimum), 1, 100_000},
		{"nodeBreaker.rate", p.NodeBreaker.Rate, 0, 100},
		{"nodeBreaker.minimum", given(p.NodeBreaker.Minimum), 1, 100_000},
		{"check.healthy", given(p.Check.Healthy), 1, 100},
		{"check.unhealthy", given(p.Check.Unhealthy), 1, 100},
	}
	for _, n := range numbers {
		if n.n != nil && (*n.n < n.min || *n.n > n.max) {
			complain(n.key, "%d is not between %d and %d", *n.n, n.min, n.max)
		}
	}
	durations := []struct {
		key      string
		d        *time.Duration
		min, max time.Duration
	}{
		{"slowStart", p.SlowStart, 0, time.Hour},
		{"eject.silence", p.Eject.Silence, 0, time.Hour},
		{"eject.window", given(p.Eject.Window), time.Second, time.Hour},
		{"eject.pause", given(p.Eject.Pause), 100 * time.Millisecond, time.Hour},
		{"eject.pauseMax", given(p.Eject.PauseMax), 100 * time.Millisecond, 24 * time.Hour},
		{"breaker.pause", given(p.Breaker.Pause), 100 * time.Millisecond, time.Hour},
		{"nodeBreaker.pause", given(p.NodeBreaker.Pause), 100 * time.Millisecond, time.Hour},
		{"check.interval", given(p.Check.Interval), 100 * time.Millisecond, time.Hour},
		{"check.timeout", given(p.Check.Timeout), 10 * time.Millisecond, time.Minute},
	}
	for _, d := range durations {
		if d.d != nil && (*d.d < d.min || *d.d > d.max) {
			complain(d.key, "%s is not between %s and %s", *d.d, d.min, d.max)
		}
	}
}

// given is nil for the zero value, which says nothing.
func given[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// contradictions checks a whole policy against itself.
func (p *Policy) contradictions(complain func(key, format string, args ...any)) {
	if e := &p.Eject; e.Pause > e.PauseMax {
		complain("eject.pause", "%s is longer than pauseMax, which is %s", e.Pause, e.PauseMax)
	}
	if all, one := *p.MaxInFlight, *p.MaxInFlightPerNode; all > 0 && one > all {
		complain("maxInFlightPerNode", "%d is more than maxInFlight, which is %d for all nodes together", one, all)
	}
	if c := &p.Check; c.Timeout > c.Interval {
		complain("check.timeout", "%s is longer than the interval, which is %s", c.Timeout, c.Interval)
	}
}

// superfluous complains of what p says other than base, and what would change nothing; whole is p with
// what it does not say.
func (p *Policy) superfluous(whole, base *Policy, complain func(key, format string, args ...any)) {
	if p.HashOn != "" && p.HashOn != base.HashOn && whole.Balance != (lb.Hash{}).String() {
		complain("hashOn", "balance is %s, and only hash goes by anything", whole.Balance)
	}
	if p.Check.Path != "" && p.Check.Path != base.Check.Path && whole.Check.Type != checkHTTP {
		complain("check.path", "the check's type is %s, and only http has a path", whole.Check.Type)
	}
	if p.Check.Service != "" && p.Check.Service != base.Check.Service && whole.Check.Type != checkGRPC {
		complain("check.service", "the check's type is %s, and only grpc names a service", whole.Check.Type)
	}
}

// checkPath reports whether a request for path can be written as it is.
func checkPath(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// options compiles a whole, valid policy for a gateway in the given zone.
func (p *Policy) options(zone string) lb.Options {
	balance, err := lb.ParsePolicy(p.Balance)
	if err != nil {
		panic("BUG: a policy that was not validated: " + err.Error())
	}
	return lb.Options{
		Policy: balance, Zone: zone, ZoneMinimum: *p.ZoneMinimum, SlowStart: *p.SlowStart, PanicThreshold: orNever(*p.PanicThreshold),
		MaxInFlight: *p.MaxInFlight, MaxInFlightPerNode: *p.MaxInFlightPerNode, Adaptive: *p.Adaptive,
		Breaker: p.Breaker.options(), NodeBreaker: p.NodeBreaker.options(), Window: p.Eject.Window,
		Eject: lb.Eject{
			After: orNever(*p.Eject.After), Rate: orNever(*p.Eject.Rate), Minimum: *p.Eject.Minimum, Slow: orNever(*p.Eject.Slow),
			Silence: orNever(*p.Eject.Silence), Pause: p.Eject.Pause, PauseMax: p.Eject.PauseMax,
		},
	}
}

func (b BreakerPolicy) options() lb.Breaker {
	o := lb.Breaker{Enabled: b != (BreakerPolicy{}), Minimum: b.Minimum, Pause: b.Pause}
	if b.Rate != nil {
		o.Rate, o.Enabled = *b.Rate, *b.Rate > 0
	}
	return o
}

// orNever turns the 0 of the configuration, which turns off, into that of lb.
func orNever[T int | time.Duration](n T) T {
	if n == 0 {
		return -1
	}
	return n
}
