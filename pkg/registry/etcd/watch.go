package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

// maxPoison bounds how many keys that cannot be read are logged.
const maxPoison = 256

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

// watcher is one Watch: sessions, one after the other, that share what is known.
type watcher struct {
	r    *Registry
	name string // in reports of trouble
	fn   func(registry.Snapshot)
	view *view
	why  resync // why the last session ended
}

// Watch calls fn with the whole set of nodes, then again after each change, from the calling goroutine; the first time when etcd
// was first reached. It returns when ctx is done, with its error, or with registry.ErrClosed when r is closed, and not before.
// The changes of one answer of etcd are one call. While fn runs, changes wait; none is lost.
func (r *Registry) Watch(ctx context.Context, fn func(registry.Snapshot)) error {
	bound, stop := r.bind(ctx)
	defer stop()
	w := &watcher{
		r:    r,
		name: fmt.Sprintf("watch %d", r.watches.Add(1)),
		fn:   fn,
		view: newView(r.cfg.Project, r.ignore),
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
		if time.Since(began) > 5*time.Second {
			again.reset()
		}
		again.wait(bound)
	}
	return r.over(ctx)
}

// session lists, tells, and follows the changes from there, until that has to begin anew.
func (w *watcher) session(ctx context.Context) error {
	client, err := w.r.connect(ctx)
	if err != nil {
		return err
	}
	resp, err := w.r.list(ctx, client)
	if err != nil {
		return err
	}
	at := resp.Header.Revision
	again := w.view.listed
	if again {
		w.view.hold(2 * w.r.ttl)
		w.r.resynced(w.why)
	}
	w.view.install(at, resp.Kvs)
	w.r.saw(at)
	w.tell()
	if w.view.told.Revision == 0 { // nothing was told, because there are no nodes
		w.view.told.Revision = at
		w.fn(w.view.told)
	}
	w.why = closed // unless follow has another reason
	f := newFollower(w, client, at)
	defer f.stop()
	return f.follow(ctx)
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
	r.mu.Lock()
	r.ignored++
	_, known := r.poison[key]
	news := !known && len(r.poison) < maxPoison
	if news {
		r.poison[key] = struct{}{}
	}
	r.mu.Unlock()
	if news {
		r.log.Warn("registry entry ignored", "err", err)
	}
}
