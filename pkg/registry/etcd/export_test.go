package etcd

import (
	"context"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
)

// Complaints returns what says of each key once that it is to be logged, within bounds.
func Complaints(log *slog.Logger) (news func(key string) bool) {
	return newComplaints(log, "malformed").news
}

// Monitor sends whether the connection of a client is ready, each time that changes, until ctx is done.
func Monitor(ctx context.Context, client *clientv3.Client) (links <-chan bool, done func()) {
	f := &follower{client: client, links: make(chan bool, 1)}
	f.helpers.Go(func() { f.monitor(ctx) })
	return f.links, f.helpers.Wait
}

// View is what one watch knows of the store, at a time that the test sets.
type View struct {
	v   *view
	now time.Time
}

// NewView returns a view whose nodes can be asked about, with the grace of a node whose lease ends.
func NewView(project string, grace time.Duration) *View {
	w := &View{v: newView(project, nil, nil), now: time.Unix(1, 0)}
	w.v.probed, w.v.grace, w.v.now = true, grace, func() time.Time { return w.now }
	return w
}

// Pass lets time pass, looking at what is held as often as a watch does.
func (w *View) Pass(d time.Duration) {
	for until := w.now.Add(d); w.now.Before(until); {
		wait := w.v.release()
		if wait == 0 || w.now.Add(wait).After(until) {
			wait = until.Sub(w.now)
		}
		w.now = w.now.Add(wait)
	}
	w.v.release()
}

// Lend takes in that a node is registered under a lease, at a revision.
func (w *View) Lend(n registry.Node, revision int64) {
	w.v.apply(false, &mvccpb.KeyValue{Key: []byte(n.Key(w.v.project)), Value: []byte(n.Value()), ModRevision: revision, Lease: 1})
}

// End takes in that the lease of a node has ended, at a revision.
func (w *View) End(n registry.Node, revision int64) {
	w.v.apply(true, &mvccpb.KeyValue{Key: []byte(n.Key(w.v.project)), ModRevision: revision})
}

// Nodes returns the nodes that are told.
func (w *View) Nodes() []registry.Node {
	s, _ := w.v.snapshot()
	return s.Nodes
}
