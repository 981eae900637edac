package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// poll calls fn with what lies under a prefix, then again whenever that has changed, until ctx is done. It is for small sets of keys, where listing all of them costs no more than keeping account of events: whatever befell the store or
// the watch, the next listing is right. When fn returns an error it is called again with the next listing, soon. Trouble that is
// more than an outage, which Watch reports, is logged when it begins.
func (r *Registry) poll(ctx context.Context, what, prefix string, fn func(*clientv3.GetResponse) error) error {
	bound, stop := r.bind(ctx)
	defer stop()
	var again retry
	failing := false
	var last *clientv3.GetResponse
	for bound.Err() == nil {
		err := r.pollOnce(bound, what, prefix, func(resp *clientv3.GetResponse) error {
			if last != nil && slices.EqualFunc(last.Kvs, resp.Kvs, sameEntry) {
				return nil
			}
			if err := fn(resp); err != nil {
				return err
			}
			last = resp
			return nil
		})
		if bound.Err() != nil {
			break
		}
		if err == nil {
			again.reset()
			failing = false
			continue
		}
		if !away(err) && !failing {
			failing = true
			r.log.Warn("part of the registry unavailable", "reason", kindOf(err), "err", err)
		}
		again.wait(bound)
	}
	return r.over(ctx)
}

func sameEntry(a, b *mvccpb.KeyValue) bool {
	return bytes.Equal(a.Key, b.Key) && a.ModRevision == b.ModRevision && bytes.Equal(a.Value, b.Value)
}

// pollOnce lists, calls fn, and returns when it is time to list again.
func (r *Registry) pollOnce(ctx context.Context, what, prefix string, fn func(*clientv3.GetResponse) error) error {
	client, err := r.connect(ctx)
	if err != nil {
		return err
	}
	resp, err := r.get(ctx, client, prefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("list %s: %w", what, err)
	}
	if err := fn(resp); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(ctx, r.cfg.CheckInterval)
	defer cancel()
	events := client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1))
	select {
	case ev, ok := <-events:
		switch {
		case ctx.Err() != nil, ok && ev.CompactRevision > 0:
			return nil
		case !ok:
			return errors.New("watch " + what + ": etcd ended the watch")
		case ev.Err() != nil:
			return fmt.Errorf("watch %s: %w", what, ev.Err())
		}
		// A burst of changes is one listing.
		pause := time.NewTimer(pace)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	return nil
}

// get is a bounded Get.
func (r *Registry) get(ctx context.Context, client *clientv3.Client, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	return client.Get(ctx, key, opts...)
}
