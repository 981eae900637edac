package etcd

import (
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/goms-io/goms/pkg/registry"
)

// farAway is a time that does not come while the process lives.
const farAway = 100 * 365 * 24 * time.Hour

// entry is a key of the store that reads as a node.
type entry struct {
	node registry.Node
	mod  int64 // revision of its last put
	held bool  // the key is gone, and the node stays until the hold ends
}

// view is what one watch knows of the store, and what it told. It belongs to the goroutine of that watch.
type view struct {
	project   string
	ignore    func(key string, err error) // told each entry that cannot be read
	now       func() time.Time
	entries   map[string]entry
	held      int       // how many entries are held
	holdUntil time.Time // deletes before this time are held
	newest    int64     // the newest revision that a listing or an event brought
	listed    bool      // a listing was installed
	told      registry.Snapshot

	put, removed []registry.Node // changes since told
}

func newView(project string, ignore func(string, error)) *view {
	return &view{project: project, ignore: ignore, now: time.Now, entries: map[string]entry{}}
}

// hold holds deletes for d from now on, and with them those that are held already.
func (v *view) hold(d time.Duration) { v.holdUntil = v.now().Add(d) }

// install replaces what is known by a listing at revision.
func (v *view) install(revision int64, kvs []*mvccpb.KeyValue) {
	present := make(map[string]struct{}, len(kvs))
	for _, kv := range kvs {
		present[string(kv.Key)] = struct{}{}
		v.set(kv)
	}
	for key := range v.entries {
		if _, ok := present[key]; !ok {
			v.drop(key)
		}
	}
	v.newest, v.listed = revision, true
}

// apply takes one event of the watch.
func (v *view) apply(deleted bool, kv *mvccpb.KeyValue) {
	if kv.ModRevision < v.entries[string(kv.Key)].mod {
		return
	}
	if deleted {
		v.drop(string(kv.Key))
	} else {
		v.set(kv)
	}
	v.newest = max(v.newest, kv.ModRevision)
}

func (v *view) set(kv *mvccpb.KeyValue) {
	key := string(kv.Key)
	old, known := v.entries[key]
	n, err := registry.Parse(v.project, key, string(kv.Value))
	if err != nil {
		v.ignore(key, err)
		if !known {
			return
		}
		n = old.node // somebody spoilt the value: the last good one stands
	}
	if old.held {
		v.held--
	}
	v.entries[key] = entry{node: n, mod: kv.ModRevision}
	if !known || n != old.node {
		v.put = append(v.put, n)
	}
}

// drop takes a delete: the node leaves now or, during a hold, later. One that said it was draining has said goodbye.
func (v *view) drop(key string) {
	e, known := v.entries[key]
	switch {
	case !known || e.held:
	case e.node.State != registry.Draining && v.now().Before(v.holdUntil):
		e.held = true
		v.held++
		v.entries[key] = e
	default:
		v.remove(key, e)
	}
}

// release lets the held nodes leave if the hold is over, and otherwise returns how long to wait before asking again; 0 when
// nothing is held.
func (v *view) release() time.Duration {
	if v.held == 0 {
		return 0
	}
	if d := v.holdUntil.Sub(v.now()); d > 0 {
		return d
	}
	for key, e := range v.entries {
		if e.held {
			v.held--
			v.remove(key, e)
		}
	}
	return 0
}

func (v *view) remove(key string, e entry) {
	delete(v.entries, key)
	v.removed = append(v.removed, e.node)
}

// snapshot returns the set as it is now, and whether it differs from the one that was told.
func (v *view) snapshot() (s registry.Snapshot, news bool) {
	if len(v.put)+len(v.removed) == 0 {
		return v.told, false
	}
	// The same node may have been put and removed in one batch: what is known now counts.
	var put, removed []registry.Node
	for _, n := range v.put {
		if e, ok := v.entries[n.Key(v.project)]; ok {
			put = append(put, e.node)
		}
	}
	for _, n := range v.removed {
		if _, ok := v.entries[n.Key(v.project)]; !ok {
			removed = append(removed, n)
		}
	}
	v.put, v.removed = v.put[:0], v.removed[:0]
	if len(put)+len(removed) == 0 {
		return v.told, false
	}
	v.told = v.told.Apply(v.newest, put, removed)
	return v.told, true
}

// agrees returns whether a listing holds what is known, apart from what is held. What cannot be read does not count.
func (v *view) agrees(kvs []*mvccpb.KeyValue) bool {
	same := 0
	for _, kv := range kvs {
		key := string(kv.Key)
		e, known := v.entries[key]
		if known && (e.held || e.mod != kv.ModRevision) {
			return false
		}
		if known {
			same++
			continue
		}
		if _, err := registry.Parse(v.project, key, string(kv.Value)); err == nil {
			return false
		}
	}
	return same == len(v.entries)-v.held
}
