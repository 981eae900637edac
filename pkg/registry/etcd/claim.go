package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
)

// runLoop is the name of Run's loop in reports of trouble.
const runLoop = "run"

// maxLeases bounds what is remembered of former leases. They matter when the store was restored from a backup.
const maxLeases = 1024

// errTaken is what Publish returns when another process has put the key since.
var errTaken = errors.New("another process has registered the same addresses")

// claim is what this process wants under one key. Registry.mu guards it; Run's loop alone sets the fields below want.
type claim struct {
	key       string
	node      registry.Node
	value     string
	withdrawn bool  // wanted is: no key
	want      int64 // grows with each Publish and Withdraw

	have    int64            // the want that the store holds
	lease   clientv3.LeaseID // under which the key was put last, 0 when it never was
	taken   bool             // another process holds the key
	changed chan struct{}    // closed and replaced when have or taken changes
}

// Publish sets what the store is to say of n, and returns when it does. When ctx ends first, n stays wanted and is published as
// soon as it can be; the error wraps that of ctx. Run must be running, or be started, for Publish to get anywhere.
//
// When another process has put the same key since this one did, Publish returns an error and leaves the key to the other.
func (r *Registry) Publish(ctx context.Context, n registry.Node) error {
	if err := n.Validate(); err != nil {
		return fmt.Errorf("publish node %q: %w", n.ID(), err)
	}
	return r.demand(ctx, "publish", n, false)
}

// Withdraw deletes the key of n, if this handle has published it and no other process has since, and returns when it is gone.
// When ctx ends first, it is deleted as soon as it can be while Run runs, or when its TTL has passed.
func (r *Registry) Withdraw(ctx context.Context, n registry.Node) error {
	return r.demand(ctx, "withdraw", n, true)
}

// demand sets what is wanted of n and waits until the store holds that or something newer.
func (r *Registry) demand(ctx context.Context, verb string, n registry.Node, withdrawn bool) error {
	if r.isClosed() {
		return fmt.Errorf("%s node %q: %w", verb, n.ID(), registry.ErrClosed)
	}
	key := n.Key(r.cfg.Project)
	r.mu.Lock()
	c := r.claims[key]
	if c == nil {
		if withdrawn {
			r.mu.Unlock()
			return nil
		}
		c = &claim{key: key, changed: make(chan struct{})}
		r.claims[key] = c
	}
	c.want++
	c.node, c.value, c.withdrawn = n, n.Value(), withdrawn
	want := c.want
	r.mu.Unlock()
	r.look()

	for {
		r.mu.Lock()
		done, taken, changed := c.have >= want, c.taken, c.changed
		r.mu.Unlock()
		switch {
		case done && taken:
			return fmt.Errorf("%s node %q: %w", verb, n.ID(), errTaken)
		case done:
			return nil
		}
		select {
		case <-changed:
		case <-r.closed:
			return fmt.Errorf("%s node %q: %w", verb, n.ID(), registry.ErrClosed)
		case <-ctx.Done():
			if err := r.health.trouble(runLoop); err != nil {
				return fmt.Errorf("%s node %q: %w (registry: %w)", verb, n.ID(), ctx.Err(), err)
			}
			return fmt.Errorf("%s node %q: %w", verb, n.ID(), ctx.Err())
		}
	}
}

// look makes Run look at the claims.
func (r *Registry) look() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// suspect makes Run look at the claims and compare them with the store.
func (r *Registry) suspect() {
	r.mu.Lock()
	r.verify = true
	r.mu.Unlock()
	r.look()
}

// takeVerify returns whether somebody was suspicious, and calms down.
func (r *Registry) takeVerify() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.verify
	r.verify = false
	return was
}

// pending returns copies of the claims that are not as wanted under lease, or of all when verify is set, sorted by key.
func (r *Registry) pending(lease clientv3.LeaseID, verify bool) []claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []claim
	for _, c := range r.claims {
		if verify || c.have < c.want || c.lease != lease && !c.taken {
			out = append(out, *c)
		}
	}
	slices.SortFunc(out, func(a, b claim) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	return out
}

// trying notes that the key of c may be in the store under lease from now on.
func (r *Registry) trying(c claim, lease clientv3.LeaseID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claims[c.key].lease = lease
}

// settle notes that the store holds what the copy c wanted, or that another process has taken its key.
func (r *Registry) settle(c claim, taken bool) {
	r.mu.Lock()
	now := r.claims[c.key]
	news := taken && !now.taken
	now.have, now.taken = c.want, taken
	if now.withdrawn && now.have == now.want {
		delete(r.claims, c.key)
	}
	close(now.changed)
	now.changed = make(chan struct{})
	r.mu.Unlock()
	if news && !c.withdrawn {
		r.log.Warn("node registered by another process", "service", c.node.Service, "node", c.node.ID())
	}
}

// own notes a lease that this process was granted.
func (r *Registry) own(id clientv3.LeaseID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.leases) >= maxLeases {
		clear(r.leases)
	}
	r.leases[id] = struct{}{}
}

// owned returns whether a key under the lease may be changed: the lease is one of ours, or there is none, as with a key that was
// put by hand.
func (r *Registry) owned(id clientv3.LeaseID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, mine := r.leases[id]
	return mine || id == clientv3.NoLease
}
