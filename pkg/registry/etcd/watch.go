package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
)

// resync is why a watch has to list again though nothing is wrong with the store. It is a key of Status.Resyncs.
type resync string

const (
	compacted resync = "compacted"
	revision  resync = "revision"
	stale     resync = "stale"
	closed    resync = "closed"
)

// Error makes a resync the end of a session.
func (c resync) Error() string { return "list again: " + string(c) }

// firstRead is how long the store may take to be read before the seed of a watch is told.
const firstRead = time.Second

// watcher is one Watch: sessions, one after the other, that share what is known.
type watcher struct {
	r    *Registry
	name string // in reports of trouble
	fn   func(registry.Snapshot)
	view *view
	why  resync            // why the last session ended
	seed registry.Snapshot // told when the store is away at the start; no nodes is none
}

// Watch calls fn with the whole set of nodes, then again after each change, from the calling goroutine; the first time when etcd
// was first reached. It returns when ctx is done, with its error, or with registry.ErrClosed when r is closed, and not before.
// Changes that come within 20 ms are one call, or within up to 250 ms where fn takes long. While fn runs, changes wait; none is lost.
func (r *Registry) Watch(ctx context.Context, fn func(registry.Snapshot)) error {
	return r.WatchFrom(ctx, registry.Snapshot{}, fn)
}

// WatchFrom is Watch with a set of nodes that was true some time ago. When etcd cannot be read within a second, fn is called with
// seed; Status then says Stale until etcd has been read, and nodes of the seed that etcd does not know are held as deletes after
// a reconnect are. They are held too when etcd answers at once but is behind seed.Revision: it was restored or emptied. In all
// other cases etcd's word counts, and the seed does nothing. A seed without nodes is none.
func (r *Registry) WatchFrom(ctx context.Context, seed registry.Snapshot, fn func(registry.Snapshot)) error {
	bound, stop := r.bind(ctx)
	defer stop()
	w := &watcher{
		r:    r,
		name: fmt.Sprintf("watch %d", r.watches.Add(1)),
		fn:   fn,
		view: r.newView(),
		seed: seed,
	}
	w.view.probed, w.view.grace, w.view.tell = r.cfg.Dead != nil, 2*r.ttl, r.bereaved
	if r.cfg.Takes != nil {
		w.view.takes = r.cfg.Takes
	}
	defer r.health.forget(w.name)
	var again retry
	for bound.Err() == nil {
		began := time.Now()
		err := w.session(bound)
		if bound.Err() != nil {
			break
		}
		if !errors.As(err, &w.why) {
			r.health.fail(w.name, err)
		}
		w.begin()
		if time.Since(began) > 5*time.Second {
			again.reset()
		}
		again.wait(bound)
	}
	return r.over(ctx)
}

// begin tells the seed, if there is one.
func (w *watcher) begin() {
	if len(w.seed.Nodes) == 0 {
		return
	}
	w.r.log.Warn("registry away at the start, the nodes of the last run are served", "nodes", len(w.seed.Nodes), "revision", w.seed.Revision)
	w.r.setStale(true)
	w.view.seed(w.seed)
	w.seed = registry.Snapshot{}
	w.tell()
}

// session lists, tells, and follows the changes from there, until that has to begin anew.
func (w *watcher) session(ctx context.Context) error {
	client, resp, err := w.read(ctx)
	if err != nil {
		return err
	}
	at := resp.Header.Revision
	switch {
	case w.view.listed:
		w.view.hold(2 * w.r.ttl)
		w.r.resynced(w.why)
	case w.seed.Revision > at:
		w.view.seed(w.seed)
		fallthrough
	case len(w.view.entries) > 0:
		w.view.hold(2 * w.r.ttl)
	}
	w.seed = registry.Snapshot{}
	w.view.install(at, resp.Kvs)
	w.r.saw(at)
	w.r.setStale(false)
	w.tell()
	if w.view.told.Revision == 0 { // nothing was told, because there are no nodes
		w.view.told.Revision = at
		w.fn(w.view.told)
	}
	w.why = closed // unless follow has another reason
	f := newFollower(w, client, at)
	defer f.stop()
	err = f.follow(ctx)
	if ctx.Err() == nil {
		w.tell() // what the pace has put off
	}
	return err
}

// read lists the nodes. While there is a seed to tell it does not take long.
func (w *watcher) read(ctx context.Context) (*clientv3.Client, *clientv3.GetResponse, error) {
	if len(w.seed.Nodes) > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, firstRead)
		defer cancel()
	}
	client, err := w.r.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	resp, err := w.r.list(ctx, client)
	return client, resp, err
}

// tell calls fn if there is news.
func (w *watcher) tell() {
	if s, news := w.view.snapshot(); news {
		w.fn(s)
	}
}

// resynced counts a listing after the first.
func (r *Registry) resynced(why resync) {
	r.mu.Lock()
	r.resyncs[string(why)]++
	r.mu.Unlock()
	r.log.Info("registry listed again", "reason", string(why))
}

// ignore counts an entry that cannot be read, and logs it the first time.
func (r *Registry) ignore(key string, err error) {
	if r.unread.news(key) {
		r.log.Warn("registry entry ignored", "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ignored++
}

// refuse counts a node that was read and is not told, by cause, and logs it the first time.
func (r *Registry) refuse(key, cause string, err error) {
	if r.untold.news(key) {
		r.log.Warn("node refused", "reason", cause, "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[cause]++
}

// setStale says whether what is told is a seed.
func (r *Registry) setStale(stale bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = stale
}

// newView returns a view that knows nothing yet.
func (r *Registry) newView() *view {
	v := newView(r.cfg.Project, r.ignore, r.refuse)
	if r.cfg.Believed != nil {
		v.believed = r.cfg.Believed
	}
	return v
}
