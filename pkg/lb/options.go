package lb

import (
	"cmp"
	"time"
)

// The defaults of Options, in the units of the fields they are for.
const (
	DefaultEjectAfter     = 3 // failures in a row
	DefaultEjectPause     = time.Second
	DefaultEjectPauseMax  = 30 * time.Second
	DefaultEjectRate      = 50 // percent
	DefaultEjectMinimum   = 20 // outcomes in the window
	DefaultEjectSlow      = 10 // times the usual time
	DefaultEjectSilence   = time.Second
	DefaultWindow         = 10 * time.Second
	DefaultPanicThreshold = 50 // percent of the nodes
	DefaultZoneMinimum    = 70 // percent of the own zone's weight
	DefaultBreakerRate    = 50 // percent
	DefaultBreakerMinimum = 20 // outcomes in the window
	DefaultBreakerPause   = 5 * time.Second
)

// slowFloor is the shortest answer time that ever counts as slow.
const slowFloor = 500 * time.Millisecond

// Options configure a Pool. The zero value is usable. They may be changed at any time by
// Pool.Configure, but for NewData, DropData and Now.
type Options struct {
	// Policy chooses among the nodes; nil means RoundRobin.
	Policy Policy
	// Zone is where the caller is: nodes of the same zone come first for as long as
	// enough of them are healthy. "" treats all zones alike.
	Zone string
	// ZoneMinimum is how much of the own zone's weight, in percent, must be healthy for
	// all requests to stay there; below it the missing share goes to the other zones. 0
	// means DefaultZoneMinimum.
	ZoneMinimum int
	// SlowStart is how long the share of a node that joins a busy pool of others (20
	// requests a second) grows, from a tenth of its weight to the whole, as long as at least
	// half of the weight is not new; 0 or less gives it its whole share at once. It needs
	// Tick.
	SlowStart time.Duration
	// PanicThreshold is the percentage of nodes that must be healthy (SetHealth) for that
	// to be believed: below it all are used. 0 means DefaultPanicThreshold, less than 0
	// always believes.
	PanicThreshold int

	// MaxInFlight bounds the attempts in flight on all nodes together, MaxInFlightPerNode
	// those on each; 0 or less is no bound. They are kept by Acquire.
	MaxInFlight, MaxInFlightPerNode int
	// Adaptive lets Acquire refuse attempts while the pool answers much later than it
	// used to, however short the request: a queue is standing before its nodes. It needs
	// Tick, Answered with times, and Flow for attempts that are long under way.
	Adaptive bool
	// Breaker is the circuit breaker of the whole pool, NodeBreaker that of each node.
	// They are kept by Acquire.
	Breaker, NodeBreaker Breaker
	// Window is the time over which failure rates are taken; 0 means DefaultWindow.
	Window time.Duration
	// Eject says when a node is left out of the picks.
	Eject Eject

	// NewData makes the value of Node.Data for a node that joins, before any other
	// goroutine can see the node. nil leaves Data nil. It is called by Update.
	NewData func(*Node) any
	// DropData is given the Data of a node that left, once no new Pick can return it;
	// requests picked earlier may still be using it. nil does nothing. It is called by
	// Update.
	DropData func(any)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Eject says when a node is left out of the picks, and for how long. The zero value is
// usable.
type Eject struct {
	// After is how many connection failures in a row (Pool.Failed) eject a node; 0 means
	// DefaultEjectAfter, less than 0 means never.
	After int
	// Rate is the percentage of failures, bad answers and slow ones in the window that
	// ejects a node, if the other nodes have less than half of that; 0 means
	// DefaultEjectRate, less than 0 means never.
	Rate int
	// Minimum is how many outcomes the window must hold for Rate to count; 0 means
	// DefaultEjectMinimum.
	Minimum int
	// Slow is how many times the usual time of the pool an answer must take to be slow;
	// answers within half a second never are. 0 means DefaultEjectSlow, less than 0
	// means that none is.
	Slow int
	// Silence is how long a node may answer nothing at all, while it is sent requests
	// and the others answer theirs; one that is alone in the caller's zone may for twice
	// that. 0 means DefaultEjectSilence, less than 0 means for ever. It needs Tick.
	Silence time.Duration
	// Pause is how long a node is left alone after its first ejection; 0 means
	// DefaultEjectPause. It doubles with each failed return, up to PauseMax.
	Pause time.Duration
	// PauseMax bounds the pause; 0 means DefaultEjectPauseMax.
	PauseMax time.Duration
}

// Breaker configures a circuit breaker. Closed, it lets all pass. When, in the pool's
// window, Rate percent of at least Minimum outcomes were failures or bad answers, it
// opens and lets nobody pass for Pause. Then it is half open: one attempt a Pause passes,
// and the first that succeeds closes it.
type Breaker struct {
	// Enabled says that there is a breaker.
	Enabled bool
	// Rate is in percent; 0 means DefaultBreakerRate.
	Rate int
	// Minimum is a number of outcomes; 0 means DefaultBreakerMinimum.
	Minimum int
	// Pause is how long the breaker stays open; 0 means DefaultBreakerPause.
	Pause time.Duration
}

// normal returns o with every default filled in.
func (o Options) normal() Options {
	if o.Policy == nil {
		o.Policy = RoundRobin{}
	}
	o.ZoneMinimum = min(cmp.Or(max(o.ZoneMinimum, 0), DefaultZoneMinimum), 100)
	o.PanicThreshold = cmp.Or(o.PanicThreshold, DefaultPanicThreshold)
	o.MaxInFlight, o.MaxInFlightPerNode = max(o.MaxInFlight, 0), max(o.MaxInFlightPerNode, 0)
	o.Window = cmp.Or(max(o.Window, 0), DefaultWindow)
	o.Breaker, o.NodeBreaker = o.Breaker.normal(), o.NodeBreaker.normal()
	e := &o.Eject
	e.After = cmp.Or(e.After, DefaultEjectAfter)
	e.Rate = cmp.Or(e.Rate, DefaultEjectRate)
	e.Minimum = cmp.Or(max(e.Minimum, 0), DefaultEjectMinimum)
	e.Slow = cmp.Or(e.Slow, DefaultEjectSlow)
	e.Silence = cmp.Or(e.Silence, DefaultEjectSilence)
	e.Pause = cmp.Or(max(e.Pause, 0), DefaultEjectPause)
	e.PauseMax = max(cmp.Or(e.PauseMax, DefaultEjectPauseMax), e.Pause)
	return o
}

func (b Breaker) normal() Breaker {
	b.Rate = cmp.Or(max(b.Rate, 0), DefaultBreakerRate)
	b.Minimum = cmp.Or(max(b.Minimum, 0), DefaultBreakerMinimum)
	b.Pause = cmp.Or(max(b.Pause, 0), DefaultBreakerPause)
	return b
}
