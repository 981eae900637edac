package etcd

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
)

// ErrNoNode is what SetOverride returns for a node that is not registered.
var ErrNoNode = errors.New("no such node")

// WatchOverrides calls fn with what operators have set for single nodes, sorted by key, then again after each change, from the
// calling goroutine. It returns when ctx is done, with its error, or with registry.ErrClosed when r is closed, and not before.
// While etcd is away, or refuses, what was told last stands. What cannot be read is counted in Status.Ignored and left out.
func (r *Registry) WatchOverrides(ctx context.Context, fn func([]registry.Override)) error {
	return r.poll(ctx, "overrides", registry.OverridePrefix(r.cfg.Project), func(resp *clientv3.GetResponse) error {
		fn(r.readOverrides(resp))
		return nil
	})
}

// readOverrides reads what can be read.
func (r *Registry) readOverrides(resp *clientv3.GetResponse) []registry.Override {
	list := make([]registry.Override, 0, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		o, err := registry.ParseOverride(r.cfg.Project, string(kv.Key), string(kv.Value))
		if err != nil {
			r.ignore(string(kv.Key), err)
			continue
		}
		list = append(list, o)
	}
	return list
}

// Nodes returns the nodes that etcd holds now, without overrides, and whether they are believed or not. What cannot be read is left
// out and counted in Status.Ignored. It takes some seconds at most, and needs neither Run nor Watch.
func (r *Registry) Nodes(ctx context.Context) (registry.Snapshot, error) {
	client, err := r.connect(ctx)
	if err != nil {
		return registry.Snapshot{}, err
	}
	resp, err := r.list(ctx, client)
	if err != nil {
		return registry.Snapshot{}, err
	}
	v := r.newView()
	v.install(resp.Header.Revision, resp.Kvs)
	s, _ := v.snapshot()
	s.Revision = resp.Header.Revision
	return s, nil
}

// Overrides returns what operators have set, sorted by key. What cannot be read is left out and counted in Status.Ignored. It
// takes some seconds at most, and needs neither Run nor Watch.
func (r *Registry) Overrides(ctx context.Context) ([]registry.Override, error) {
	client, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := r.get(ctx, client, registry.OverridePrefix(r.cfg.Project), clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("list overrides: %w", err)
	}
	return r.readOverrides(resp), nil
}

// SetOverride changes what is set for the node with the given service and ID: change is called with what is set now, and what it
// leaves is stored; nothing is set any more when that is empty. It may be called again when somebody else sets something at the
// same time. By and At are change's to set. The error wraps ErrNoNode when the node is not registered, unless all that was set for it is
// removed.
func (r *Registry) SetOverride(ctx context.Context, service, id string, change func(*registry.Override)) (registry.Override, error) {
	o := registry.Override{Service: service, ID: id, Weight: registry.AsPublished}
	if err := o.Validate(); err != nil {
		return o, err
	}
	client, err := r.connect(ctx)
	if err != nil {
		return o, err
	}
	key := o.Key(r.cfg.Project)
	for {
		now, err := r.get(ctx, client, key)
		if err != nil {
			return o, fmt.Errorf("read override of node %q: %w", id, err)
		}
		next, mod := o, int64(0)
		if len(now.Kvs) == 1 {
			mod = now.Kvs[0].ModRevision
			// What cannot be read is replaced.
			if old, perr := registry.ParseOverride(r.cfg.Project, key, string(now.Kvs[0].Value)); perr == nil {
				next = old
			}
		}
		change(&next)
		if err := next.Validate(); err != nil {
			return next, err
		}
		done, err := r.storeOverride(ctx, client, next, mod)
		if err != nil || done {
			return next, err
		}
	}
}

// storeOverride stores o if its key was last changed at mod; it is not done when that is no longer so.
func (r *Registry) storeOverride(ctx context.Context, client *clientv3.Client, o registry.Override, mod int64) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	key, node := o.Key(r.cfg.Project), registry.Prefix(r.cfg.Project)+o.Service+"_"+o.ID
	unchanged := clientv3.Compare(clientv3.ModRevision(key), "=", mod)
	if o.Empty() && mod > 0 { // also for a node that is gone
		resp, err := client.Txn(ctx).If(unchanged).Then(clientv3.OpDelete(key)).Commit()
		if err != nil {
			return false, fmt.Errorf("remove override of node %q: %w", o.ID, err)
		}
		return resp.Succeeded, nil
	}
	registered := clientv3.Compare(clientv3.CreateRevision(node), ">", 0)
	set := []clientv3.Op{clientv3.OpPut(key, o.Value())}
	if o.Empty() {
		set = nil
	}
	resp, err := client.Txn(ctx).If(unchanged, registered).Then(set...).
		Else(clientv3.OpGet(node, clientv3.WithCountOnly())).Commit()
	if err != nil {
		return false, fmt.Errorf("set override of node %q: %w", o.ID, err)
	}
	if !resp.Succeeded && resp.Responses[0].GetResponseRange().Count == 0 {
		return false, fmt.Errorf("service %q has no node %q: %w", o.Service, o.ID, ErrNoNode)
	}
	return resp.Succeeded, nil
}
