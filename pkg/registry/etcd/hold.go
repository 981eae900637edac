package etcd

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

// lookAgain is how often it is asked whether held nodes are dead: asking of thousands, at each of a thousand events a second, would
// cost more than all the rest.
const lookAgain = 500 * time.Millisecond

// Bounds of one round of questions. After an outage thousands may be held, and each may have its port tried by every process.
const (
	maxAsked = 256
	askers   = 64
)

// drop takes a delete: the node leaves now or, during a hold, later. One that said it was draining has said goodbye. A lease that
// ended says only that nobody could renew it: then the node is held too, if somebody can say whether it is dead.
func (v *view) drop(key string) {
	e, known := v.entries[key]
	switch {
	case !known || e.held:
		return
	case e.node.State == registry.Draining:
		v.remove(key, e)
		return
	case v.now().Before(v.holdUntil):
	case v.doubted(e):
		e.until = v.now().Add(v.grace)
		v.asking = append(v.asking, key)
	default:
		v.remove(key, e)
		return
	}
	e.held, e.lost = true, v.now()
	v.keep(key, e)
}

// doubted returns whether a node may have lost its key without its doing, and would be missed. Where nobody can say whether it is
// dead the store is believed.
func (v *view) doubted(e entry) bool { return v.probed && e.leased && !e.dark && v.takes(e.node) }

// strength is what a service has of nodes that requests are sent to.
type strength struct {
	registered int
	held       int // doubted
	alive      int // of those that are held: they were asked about, and are not dead
}

// short returns whether n nodes that are held are more than those that are registered: then they stay. What took the keys of so many
// may be no death at all.
func (s strength) short(n int) bool { return s.registered < n }

// strengths counts the nodes of the services that hold any.
func (v *view) strengths() map[string]strength {
	all := map[string]strength{}
	for key := range v.held {
		e := v.entries[key]
		s := all[e.node.Service]
		if v.doubted(e) {
			s.held++
			if e.alive {
				s.alive++
			}
		}
		all[e.node.Service] = s
	}
	for _, e := range v.entries {
		if s, some := all[e.node.Service]; some && !e.held && !e.dark && v.takes(e.node) {
			s.registered++
			all[e.node.Service] = s
		}
	}
	return all
}

// release lets the held nodes leave whose hold is over, and says at times in v.asking which of the others are to be asked about.
// It returns how long to wait before the next call; 0 when nothing is held.
func (v *view) release() time.Duration {
	if len(v.held) == 0 {
		v.notice(nil)
		return 0
	}
	now := v.now()
	d, rest := v.holdUntil.Sub(now), v.looked.Add(lookAgain).Sub(now)
	switch {
	case d > 0 && rest > 0:
		return min(d, rest)
	case rest > 0 && !v.looked.Before(v.holdUntil): // what the end of the hold has left behind
		return rest
	}
	v.looked = now
	v.supersede()
	all := v.strengths()
	if d <= 0 {
		v.notice(all)
	}
	v.asking = v.asking[:0]
	var others []string
	for key := range v.held {
		e := v.entries[key]
		switch s := all[e.node.Service]; {
		case v.doubted(e) && s.short(s.held):
			e.until = now.Add(v.grace) // when the first have come back, the others have as long to follow
			v.keep(key, e)
			v.asking = append(v.asking, key)
		case d <= 0 && !now.Before(e.until):
			v.remove(key, e)
		default:
			others = append(others, key)
		}
	}
	v.asking = append(v.asking, others...)
	switch {
	case len(v.held) == 0:
		v.notice(nil)
		return 0
	case d > 0:
		return min(d, lookAgain)
	}
	return lookAgain
}

// supersede lets the held nodes leave at whose addresses there are nodes of other services that came when those had gone, as the key of
// a dead one may last a while: what answers there is not them. Services that were at one address together before may share it.
func (v *view) supersede() {
	held := make(map[string]string, len(v.held)) // keys by their HTTP addresses
	for key := range v.held {
		held[v.entries[key].node.HTTPAddr] = key
	}
	for _, e := range v.entries {
		key, taken := held[e.node.HTTPAddr]
		if !taken || e.held || e.node.Service == v.entries[key].node.Service {
			continue
		}
		if gone := v.entries[key]; e.born.After(gone.born) && gone.lost.Sub(e.born) < v.grace {
			v.remove(key, gone)
			delete(held, e.node.HTTPAddr)
		}
	}
}

// notice says of which services most nodes have lost their keys and stay because they live, when that begins, and when it ends.
func (v *view) notice(all map[string]strength) {
	for service := range v.bereft {
		if s := all[service]; !s.short(s.alive) {
			delete(v.bereft, service)
			v.tell(service, strength{})
		}
	}
	for service, s := range all {
		if !v.bereft[service] && s.short(s.alive) {
			v.bereft[service] = true
			v.tell(service, s)
		}
	}
}

// verdict is what became of a question about a held node.
type verdict struct {
	key  string
	mod  int64 // of the entry that was asked about
	node registry.Node
	dead bool
}

// questions takes what is to be asked about, no more than one round can do. The rest is for the next.
func (v *view) questions() []verdict {
	var list []verdict
	for len(v.asking) > 0 && len(list) < maxAsked {
		key := v.asking[0]
		v.asking = v.asking[1:]
		if e := v.entries[key]; e.held {
			list = append(list, verdict{key: key, mod: e.mod, node: e.node})
		}
	}
	return list
}

// believe lets a node leave that is dead, unless it has come back since it was asked about.
func (v *view) believe(d verdict) {
	e := v.entries[d.key]
	switch {
	case !e.held || e.mod != d.mod:
	case d.dead:
		v.remove(d.key, e)
	default:
		e.alive = true
		v.keep(d.key, e)
	}
}

// inquire has helpers ask about the held nodes, one round at a time: it may take long to find that a node is dead.
func (f *follower) inquire(ctx context.Context) {
	if f.inquiring || len(f.w.view.asking) == 0 {
		return
	}
	list := f.w.view.questions()
	if len(list) == 0 || f.w.r.cfg.Dead == nil {
		return
	}
	f.inquiring = true
	f.helpers.Go(func() {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range min(askers, len(list)) {
			wg.Go(func() {
				for i := next.Add(1) - 1; int(i) < len(list) && ctx.Err() == nil; i = next.Add(1) - 1 {
					list[i].dead = f.w.r.cfg.Dead(list[i].node)
				}
			})
		}
		wg.Wait()
		f.verdicts <- list
	})
}

// hear takes the answers of a round.
func (f *follower) hear(list []verdict) {
	f.inquiring = false
	for _, d := range list {
		f.w.view.believe(d)
	}
}

// bereaved logs that most nodes of a service have lost their registrations; none are kept any more when s is zero.
func (r *Registry) bereaved(service string, s strength) {
	if s == (strength{}) {
		r.log.Info("nodes of a service are registered again, or gone", "service", service)
		return
	}
	r.log.Warn("most nodes of a service lost their registration, kept while they live", "service", service, "nodes", s.alive, "registered", s.registered)
}
