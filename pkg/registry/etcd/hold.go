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
	askers   = 32
)

// drop takes a delete: the node leaves now or, during a hold, later. One that said it was draining has said goodbye. A lease that
// ended says only that nobody could renew it: that is not enough for the last node of a service to leave.
func (v *view) drop(key string) {
	e, known := v.entries[key]
	switch {
	case !known || e.held:
		return
	case e.node.State == registry.Draining:
		v.remove(key, e)
		return
	case v.now().Before(v.holdUntil):
		e.held = true
		v.keep(key, e)
		return
	}
	gone := e
	gone.held = true
	v.keep(key, gone)
	if !v.lone(gone) {
		v.remove(key, gone)
		return
	}
	gone.until = v.now().Add(v.grace)
	v.keep(key, gone)
	v.asking = append(v.asking, key)
}

// lone returns whether a held node is all that its service has, and may have lost its key without its doing. Where nobody can say
// whether it is dead the store is believed.
func (v *view) lone(e entry) bool {
	return v.probed && e.leased && e.takes() && v.usable[e.node.Service] == 0
}

// release lets the held nodes leave whose hold is over, and says at times in v.asking which of the others are to be asked about.
// It returns how long to wait before the next call; 0 when nothing is held.
func (v *view) release() time.Duration {
	if len(v.held) == 0 {
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
	v.asking = v.asking[:0]
	var others []string
	var lone map[string]string // keys by their HTTP addresses
	for key := range v.held {
		e := v.entries[key]
		switch {
		case v.lone(e):
			v.asking = append(v.asking, key)
			if lone == nil {
				lone = map[string]string{}
			}
			lone[e.node.HTTPAddr] = key
		case d <= 0 && !now.Before(e.until):
			v.remove(key, e)
		default:
			others = append(others, key)
		}
	}
	v.asking = append(v.asking, others...)
	v.supersede(lone)
	switch {
	case len(v.held) == 0:
		return 0
	case d > 0:
		return min(d, lookAgain)
	}
	return lookAgain
}

// supersede lets the lone nodes leave at whose addresses there are nodes of other services now: what answers there is not them.
func (v *view) supersede(lone map[string]string) {
	if len(lone) == 0 {
		return
	}
	for _, e := range v.entries {
		if key, taken := lone[e.node.HTTPAddr]; taken && !e.held && e.node.Service != v.entries[key].node.Service {
			v.remove(key, v.entries[key])
			delete(lone, e.node.HTTPAddr)
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

// questions takes what is to be asked about, no more than one round can do.
func (v *view) questions() []verdict {
	var list []verdict
	for _, key := range v.asking {
		if e := v.entries[key]; e.held && len(list) < maxAsked {
			list = append(list, verdict{key: key, mod: e.mod, node: e.node})
		}
	}
	v.asking = v.asking[:0]
	return list
}

// believe lets a node leave that is dead, unless it has come back since it was asked about. It returns whether the node stays, for
// the lack of others and for no other reason, and that is news.
func (v *view) believe(d verdict) (kept bool) {
	e := v.entries[d.key]
	switch {
	case !e.held || e.mod != d.mod:
		return false
	case d.dead:
		v.remove(d.key, e)
		return false
	case e.kept || v.now().Before(v.holdUntil) || !v.lone(e):
		return false
	}
	e.kept = true
	v.keep(d.key, e)
	return true
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
		if f.w.view.believe(d) {
			f.w.r.log.Warn("last node of a service lost its registration, kept while it lives", "service", d.node.Service, "node", d.node.ID())
		}
	}
}
