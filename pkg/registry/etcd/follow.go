package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"github.com/goms-io/goms/pkg/registry"
)

// recheck is how long a watch that disagrees with a listing has to catch up.
const recheck = time.Second

// pace is the least time between two calls of the callback: under churn a call costs more than the change that caused it. Where
// calls take long, they are spaced so that they take a fifth of the time, up to maxPace apart.
const (
	pace    = 20 * time.Millisecond
	maxPace = 250 * time.Millisecond
)

// calm is the suspicion of a watch that agrees with the store.
const calm = -1

// follower follows the changes after a listing. Its own goroutine, that of Watch, runs follow and all that it calls; two helpers
// send it what they find.
type follower struct {
	w      *watcher
	client *clientv3.Client

	helpers  sync.WaitGroup
	links    chan bool      // from monitor: the connection is ready, or not; the newest only
	answers  chan listing   // from list
	verdicts chan []verdict // from inquire
	check    *time.Timer    // when to list next
	release  *time.Timer    // when the hold is over
	due      *time.Timer    // when to tell what is put off
	told     time.Time      // when something was told last
	pause    time.Duration  // from then until something may be told again
	again    retry          // between listings that fail

	epoch     int64 // how many watch streams there were when this one was known to be whole
	lost      bool  // the connection is broken, or the store fails
	asking    bool  // a listing is under way
	inquiring bool  // it is being asked who of the held is dead
	asked     int64 // seen when it began
	seen      int64 // the newest revision of the store
	progress  int64 // answers of the watch so far
	doubt     int64 // progress when the watch disagreed with a listing, or calm
}

// listing is an answer to a full listing.
type listing struct {
	resp *clientv3.GetResponse
	err  error
}

func newFollower(w *watcher, client *clientv3.Client, at int64) *follower {
	return &follower{
		w: w, client: client,
		links:    make(chan bool, 1),
		answers:  make(chan listing, 1),
		verdicts: make(chan []verdict, 1),
		check:    time.NewTimer(w.r.cfg.CheckInterval),
		release:  time.NewTimer(0),
		due:      time.NewTimer(0),
		seen:     at,
		doubt:    calm,
	}
}

// stop waits for the helpers, whose context is done.
func (f *follower) stop() {
	f.check.Stop()
	f.release.Stop()
	f.due.Stop()
	f.helpers.Wait()
}

// follow returns why the watch has to begin anew.
func (f *follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := f.open(ctx, cancel, f.seen+1)
	if err != nil {
		return err
	}
	f.w.r.health.ok(f.w.name)
	f.epoch = f.w.r.streams.Load()
	f.helpers.Go(func() { f.monitor(ctx) })

	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case resp, ok := <-events:
			err = f.take(resp, ok)
		case ready := <-f.links:
			f.link(ready)
		case <-f.check.C:
			f.ask(ctx)
		case l := <-f.answers:
			err = f.judge(l)
		case list := <-f.verdicts:
			f.hear(list)
		case <-f.release.C:
		case <-f.due.C:
		}
		if err != nil {
			return err
		}
		if wait := f.w.view.release(); wait > 0 {
			f.release.Reset(wait)
		}
		f.inquire(ctx)
		f.tell()
	}
}

// tell calls the callback if there is news, at once or when the pace allows it.
func (f *follower) tell() {
	if !f.w.view.changed() {
		return
	}
	began := time.Now()
	if wait := f.pause - began.Sub(f.told); wait > 0 {
		f.due.Reset(wait)
		return
	}
	f.w.tell()
	f.told = time.Now()
	f.pause = min(max(pace, 4*f.told.Sub(began)), maxPace)
}

// open starts the watch at a revision, and calls cancel if that takes too long: the client does not return before etcd has
// confirmed the watch.
func (f *follower) open(ctx context.Context, cancel context.CancelFunc, at int64) (clientv3.WatchChan, error) {
	timer := time.AfterFunc(f.w.r.timeout(), cancel)
	ctx = clientv3.WithRequireLeader(ctx)
	events := f.client.Watch(ctx, registry.Prefix(f.w.r.cfg.Project), clientv3.WithPrefix(), clientv3.WithRev(at))
	if !timer.Stop() {
		return nil, fmt.Errorf("watch nodes: %w", context.DeadlineExceeded)
	}
	return events, nil
}

// take applies one answer of the watch.
func (f *follower) take(resp clientv3.WatchResponse, ok bool) error {
	f.interrupted()
	switch {
	case !ok:
		return errors.New("watch nodes: etcd ended the watch")
	case resp.CompactRevision > 0:
		return compacted
	case resp.Err() != nil:
		return fmt.Errorf("watch nodes: %w", resp.Err())
	}
	for _, e := range resp.Events {
		f.w.view.apply(e.Type == clientv3.EventTypeDelete, e.Kv)
	}
	f.progress++
	f.saw(resp.Header.Revision)
	f.w.r.health.alive()
	return nil
}

// interrupted holds deletes from now on if the watch stream is not the one it was.
func (f *follower) interrupted() {
	n := f.w.r.streams.Load()
	if n == f.epoch {
		return
	}
	f.epoch = n
	if !f.lost {
		f.w.view.hold(2 * f.w.r.ttl)
	}
	f.check.Reset(0)
}

// link takes a change of the connection. While it is broken all deletes are held.
func (f *follower) link(ready bool) {
	if ready {
		f.check.Reset(0)
		return
	}
	f.outage(errLost)
}

func (f *follower) outage(err error) {
	f.lost = true
	f.w.view.hold(farAway)
	f.w.r.health.fail(f.w.name, err)
}

// ask has a helper list the nodes.
func (f *follower) ask(ctx context.Context) {
	if f.asking {
		return
	}
	f.asking, f.asked = true, f.seen
	f.helpers.Go(func() {
		resp, err := f.w.r.list(ctx, f.client)
		f.answers <- listing{resp, err}
	})
}

// judge compares the view with a listing that was asked for while the watch went on.
func (f *follower) judge(l listing) error {
	f.asking = false
	if l.err != nil {
		f.outage(l.err)
		f.check.Reset(f.again.next())
		return nil
	}
	f.again.reset()
	f.check.Reset(f.w.r.cfg.CheckInterval)
	f.interrupted()
	if f.lost {
		f.lost = false
		f.w.view.hold(2 * f.w.r.ttl)
	}
	f.w.r.health.ok(f.w.name)

	at := l.resp.Header.Revision
	if at < f.asked {
		return revision
	}
	f.saw(at)
	switch {
	case f.w.view.newest > at || f.w.view.agrees(l.resp.Kvs):
		f.doubt = calm
	case f.doubt == f.progress:
		return stale
	default:
		f.doubt = f.progress
		f.check.Reset(min(recheck, f.w.r.cfg.CheckInterval))
	}
	return nil
}

func (f *follower) saw(revision int64) {
	f.seen = max(f.seen, revision)
	f.w.r.saw(f.seen)
}

// monitor sends whether the connection is ready, each time that changes. Its first state is not news: gRPC sends requests over a
// connection before it calls it ready, and one that broke just now changes its state again, or has its streams counted anew.
func (f *follower) monitor(ctx context.Context) {
	conn := f.client.ActiveConnection()
	state := conn.GetState()
	for conn.WaitForStateChange(ctx, state) {
		state = conn.GetState()
		select {
		case <-f.links: // what was not read is old
		default:
		}
		f.links <- state == connectivity.Ready
	}
}
