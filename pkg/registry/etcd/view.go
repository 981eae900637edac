package etcd

import (
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/goms-io/goms/pkg/registry"
)

// farAway is a time that does not come while the process lives.
const farAway = 100 * 365 * 24 * time.Hour

// entry is a key of the store that reads as a node.
type entry struct {
	node   registry.Node
	mod    int64     // revision of its last put
	leased bool      // it was put under a lease, which may end without the node's doing
	born   time.Time // when the node was first heard of
	held   bool      // the key is gone, and the node stays until the hold ends
	lost   time.Time // since when it is held
	until  time.Time // when held because its lease ended: it does not leave before, if it lives
	alive  bool      // when held: it was asked about, and is not dead
	dark   bool      // a newer key of the service has the same HTTP address: the node is not told
}

// place is what one node of a service has for itself: where its requests go.
type place struct{ service, addr string }

func (e entry) place() place { return place{e.node.Service, e.node.HTTPAddr} }

// duplicate is the cause for which a node is not told.
const duplicate = "duplicate"

// view is what one watch knows of the store, and what it told. It belongs to the goroutine of that watch.
type view struct {
	project   string
	ignore    func(key string, err error)        // told each entry that cannot be read
	refuse    func(key, cause string, err error) // told each node that can be read and is not told
	probed    bool                               // somebody can say whether a node that is held is dead
	takes     func(registry.Node) bool           // whether requests are sent to a node
	believed  func(registry.Node) bool           // whether a node may be where it says
	tell      func(service string, s strength)   // told when most nodes of a service are held, and zero when that is over
	grace     time.Duration                      // how long a node whose lease ended stays, if it lives
	now       func() time.Time
	entries   map[string]entry    // changed by keep and forget alone
	owners    map[place]string    // the key that is told of each place
	dark      int                 // how many entries are dark
	held      map[string]struct{} // the keys of the entries that are held
	asking    []string            // those of them that are to be asked about now, the urgent first
	bereft    map[string]bool     // the services that tell was called with last
	holdUntil time.Time           // deletes before this time are held
	looked    time.Time           // when all that are held were looked at last
	newest    int64               // the newest revision that a listing or an event brought
	listed    bool                // a listing was installed
	told      registry.Snapshot

	put, removed []registry.Node // changes since told
}

func newView(project string, ignore func(string, error), refuse func(string, string, error)) *view {
	return &view{
		project: project, ignore: ignore, refuse: refuse, now: time.Now,
		takes: registry.Node.Takes, believed: func(registry.Node) bool { return true }, tell: func(string, strength) {},
		entries: map[string]entry{}, owners: map[place]string{}, held: map[string]struct{}{}, bereft: map[string]bool{},
	}
}

// keep sets what is known of a key.
func (v *view) keep(key string, e entry) {
	v.entries[key] = e
	if e.held {
		v.held[key] = struct{}{}
	} else {
		delete(v.held, key)
	}
}

// forget removes a key.
func (v *view) forget(key string) {
	delete(v.entries, key)
	delete(v.held, key)
}

// seed takes in nodes that were known before the store was read.
func (v *view) seed(s registry.Snapshot) {
	for _, n := range s.Nodes {
		key := n.Key(v.project)
		v.keep(key, entry{node: n, born: v.now()}) // not leased: the store knows better than what may be days old
		v.put = append(v.put, n)
		v.claim(key)
	}
	v.newest = s.Revision
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
		if _, ok := present[key]; ok {
			continue
		}
		v.drop(key)
		if e, held := v.entries[key]; held { // what comes is newer, though the revisions of an emptied store begin anew
			e.mod = revision
			v.keep(key, e)
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
	if !known {
		old.born = v.now()
	}
	v.keep(key, entry{node: n, mod: kv.ModRevision, leased: kv.Lease != 0, dark: old.dark, born: old.born})
	if !known || n != old.node {
		v.put = append(v.put, n)
	}
	v.claim(key)
}

// claim settles which of the keys with the same place is told: the one that was put last. A key that is gone, and only held, has
// nothing to say against one that is there; one that is not believed says nothing of any place.
func (v *view) claim(key string) {
	e := v.entries[key]
	if !v.believed(e.node) {
		return
	}
	at := e.place()
	owner, taken := v.owners[at]
	if !taken || owner == key {
		v.owners[at] = key
		return
	}
	other := v.entries[owner]
	if !other.held && (other.mod > e.mod || other.mod == e.mod && owner > key) {
		v.darken(key, owner)
		return
	}
	v.darken(owner, key)
	v.lighten(key)
}

// darken stops telling a key, for the sake of another.
func (v *view) darken(key, owner string) {
	e := v.entries[key]
	if e.dark {
		return
	}
	e.dark = true
	v.dark++
	v.keep(key, e)
	v.removed = append(v.removed, e.node)
	v.refuse(key, duplicate, fmt.Errorf("node %q: the newer %q has the same HTTP address", key, owner))
}

// lighten makes a key the one that is told of its place.
func (v *view) lighten(key string) {
	e := v.entries[key]
	v.owners[e.place()] = key
	if !e.dark {
		return
	}
	e.dark = false
	v.dark--
	v.keep(key, e)
	v.put = append(v.put, e.node)
}

func (v *view) remove(key string, e entry) {
	v.forget(key)
	if e.dark {
		v.dark--
		return
	}
	v.removed = append(v.removed, e.node)
	if v.owners[e.place()] != key {
		return
	}
	delete(v.owners, e.place())
	if v.dark > 0 {
		v.succeed(e.place())
	}
}

// succeed tells the newest of the dark keys of a place, if there is one.
func (v *view) succeed(at place) {
	best := ""
	for key, e := range v.entries {
		if e.place() == at && (best == "" || e.mod > v.entries[best].mod) {
			best = key
		}
	}
	if best != "" {
		v.lighten(best)
	}
}

// changed returns whether there may be news.
func (v *view) changed() bool { return len(v.put)+len(v.removed) > 0 }

// snapshot returns the set as it is now, and whether it differs from the one that was told.
func (v *view) snapshot() (s registry.Snapshot, news bool) {
	if !v.changed() {
		return v.told, false
	}
	// The same node may have been put and removed in one batch: what is known now counts.
	var put, removed []registry.Node
	for _, n := range v.put {
		if e, ok := v.entries[n.Key(v.project)]; ok && !e.dark {
			put = append(put, e.node)
		}
	}
	for _, n := range v.removed {
		if e, ok := v.entries[n.Key(v.project)]; !ok || e.dark {
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
	return same == len(v.entries)-len(v.held)
}
