package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Run keeps what was published alive, for ever, under one lease, and carries out Publish and Withdraw. It returns when ctx is
// done, with its error, or with registry.ErrClosed when r is closed. It deletes nothing: Withdraw does, and the TTL. One Run
// at a time.
func (r *Registry) Run(ctx context.Context) error {
	r.mu.Lock()
	busy := r.running
	r.running = true
	r.mu.Unlock()
	if busy {
		return errors.New("run registry: it runs already")
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.running = false
	}()
	defer r.health.forget(runLoop)

	bound, stop := r.bind(ctx)
	defer stop()
	k := &keeper{r: r, guards: map[string]context.CancelFunc{}}
	defer k.stop()
	k.loop(bound)
	return r.over(ctx)
}

// keeper is one Run: it brings the store to what the claims want, again and again.
type keeper struct {
	r      *Registry
	wg     sync.WaitGroup                // of renew and guard
	guards map[string]context.CancelFunc // by key
	lease  *lease                        // nil when there is none
}

// lease is the lease that the keys of this process hang on.
type lease struct {
	id   clientv3.LeaseID
	stop context.CancelFunc // ends the renewals
	lost chan struct{}      // closed when renewals ended
}

func (k *keeper) loop(ctx context.Context) {
	var again retry
	verify := false
	for ctx.Err() == nil {
		verify = k.r.takeVerify() || verify
		err := k.reconcile(ctx, verify)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// Nothing is known of what was under way, and kicks do not hurry a store that has trouble.
			verify = true
			k.r.health.fail(runLoop, err)
			again.wait(ctx)
			continue
		}
		again.reset()
		verify = k.rest(ctx)
	}
}

// rest waits for the next kick, or for the time to compare the claims with the store, and then returns true. The time is spread,
// so that the processes of a project do not all come at once.
func (k *keeper) rest(ctx context.Context) (verify bool) {
	third := k.r.ttl / 3
	timer := time.NewTimer(third - third/10 + rand.N(third/5))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-k.r.kick:
	case <-ctx.Done():
	}
	return false
}

// reconcile makes the store hold what the claims want; with verify also those that it held already.
func (k *keeper) reconcile(ctx context.Context, verify bool) error {
	if k.lease != nil {
		select {
		case <-k.lease.lost:
			k.lease.stop()
			k.lease = nil
		default:
		}
	}
	worked := false
	for {
		todo := k.r.pending(k.leaseID(), verify)
		if len(todo) == 0 {
			break
		}
		client, err := k.r.connect(ctx)
		if err != nil {
			return err
		}
		if err := k.carryOut(ctx, client, todo); err != nil {
			return err
		}
		// Once more: a lease that was lost on the way left other claims behind.
		worked, verify = true, false
	}
	if worked {
		k.r.health.ok(runLoop)
	}
	return nil
}

// carryOut does what the claims want. A claim that the store refuses does not keep back the others.
func (k *keeper) carryOut(ctx context.Context, client *clientv3.Client, todo []claim) error {
	var errs []error
	for _, c := range todo {
		do := k.put
		if c.withdrawn {
			do = k.remove
		}
		err := do(ctx, client, c)
		if err != nil && (ctx.Err() != nil || away(err)) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// put makes the store hold the claim under the lease, unless another process took the key.
func (k *keeper) put(ctx context.Context, client *clientv3.Client, c claim) error {
	ctx, cancel := context.WithTimeout(ctx, k.r.timeout())
	defer cancel()
	for {
		if err := k.grant(ctx, client); err != nil {
			return err
		}
		done, err := k.tryPut(ctx, client, c)
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			k.lease.stop()
			k.lease = nil
		case err != nil:
			return fmt.Errorf("register node %q: %w", c.key, err)
		case done:
			return nil
		}
	}
}

// tryPut puts the claim if it has to. It is not done when somebody else changed the key at the same time.
func (k *keeper) tryPut(ctx context.Context, client *clientv3.Client, c claim) (done bool, err error) {
	put := clientv3.OpPut(c.key, c.value, clientv3.WithLease(k.lease.id))
	if c.lease == 0 {
		// The first time the newer process wins, whoever holds the key.
		k.r.trying(c, k.lease.id)
		if _, err := client.Do(ctx, put); err != nil {
			return false, err
		}
		k.settled(client, c)
		return true, nil
	}
	now, err := client.Get(ctx, c.key)
	if err != nil {
		return false, err
	}
	unchanged := clientv3.Compare(clientv3.CreateRevision(c.key), "=", 0)
	if len(now.Kvs) == 1 {
		kv := now.Kvs[0]
		held := clientv3.LeaseID(kv.Lease)
		switch {
		case held == k.lease.id && string(kv.Value) == c.value:
			k.r.trying(c, k.lease.id)
			k.settled(client, c)
			return true, nil
		case !k.r.owned(held):
			k.r.settle(c, true)
			return true, nil
		}
		unchanged = clientv3.Compare(clientv3.ModRevision(c.key), "=", kv.ModRevision)
	}
	k.r.trying(c, k.lease.id)
	resp, err := client.Txn(ctx).If(unchanged).Then(put).Commit()
	if err != nil || !resp.Succeeded {
		return false, err
	}
	k.settled(client, c)
	return true, nil
}

// settled notes that the store holds the claim, and has its key guarded.
func (k *keeper) settled(client *clientv3.Client, c claim) {
	k.r.settle(c, false)
	k.guardKey(client, c.key)
}

// remove deletes the key of the claim, unless another process put it since.
func (k *keeper) remove(ctx context.Context, client *clientv3.Client, c claim) error {
	if stop := k.guards[c.key]; stop != nil {
		stop()
		delete(k.guards, c.key)
	}
	ctx, cancel := context.WithTimeout(ctx, k.r.timeout())
	defer cancel()
	for c.lease != 0 {
		now, err := client.Get(ctx, c.key)
		if err != nil {
			return fmt.Errorf("withdraw node %q: %w", c.key, err)
		}
		if len(now.Kvs) == 0 || !k.r.owned(clientv3.LeaseID(now.Kvs[0].Lease)) {
			break
		}
		unchanged := clientv3.Compare(clientv3.ModRevision(c.key), "=", now.Kvs[0].ModRevision)
		resp, err := client.Txn(ctx).If(unchanged).Then(clientv3.OpDelete(c.key)).Commit()
		if err != nil {
			return fmt.Errorf("withdraw node %q: %w", c.key, err)
		}
		if resp.Succeeded {
			break
		}
	}
	k.r.settle(c, false)
	return nil
}

// grant makes sure that there is a lease.
func (k *keeper) grant(ctx context.Context, client *clientv3.Client) error {
	if k.lease != nil {
		return nil
	}
	resp, err := client.Grant(ctx, int64(k.r.ttl/time.Second))
	if err != nil {
		return fmt.Errorf("grant lease: %w", err)
	}
	k.r.own(resp.ID)
	// Renewals end with Run, not with the request that this grant is for.
	renewal, stop := context.WithCancel(context.WithoutCancel(ctx))
	answers, err := client.KeepAlive(renewal, resp.ID)
	if err != nil {
		stop()
		return fmt.Errorf("keep lease alive: %w", err)
	}
	k.lease = &lease{id: resp.ID, stop: stop, lost: make(chan struct{})}
	k.wg.Add(1)
	go k.renew(renewal, client, k.lease, answers)
	return nil
}

// renew notes renewals until they end, because the lease is gone or nobody can be asked. The client renews over one stream, and
// finds out late that the member at its other end has fallen silent: later than the lease lasts. So when an answer is overdue the
// lease is renewed over a stream of its own, which another member gets.
func (k *keeper) renew(ctx context.Context, client *clientv3.Client, l *lease, answers <-chan *clientv3.LeaseKeepAliveResponse) {
	defer k.wg.Done()
	defer k.r.look()
	defer close(l.lost)
	overdue := time.NewTimer(k.r.ttl / 2) // one was due after a third
	defer overdue.Stop()
	for {
		select {
		case _, ok := <-answers:
			if !ok { // the client gave up on its stream, or on the lease
				if k.renewOnce(ctx, client, l) != nil {
					return
				}
				var err error
				if answers, err = client.KeepAlive(ctx, l.id); err != nil {
					return
				}
			}
			k.r.health.alive()
			overdue.Reset(k.r.ttl / 2)
		case <-overdue.C:
			switch err := k.renewOnce(ctx, client, l); {
			case errors.Is(err, rpctypes.ErrLeaseNotFound):
				return
			case err != nil:
				overdue.Reset(k.r.ttl / 16)
			default:
				k.r.health.alive()
				overdue.Reset(k.r.ttl / 3)
			}
		}
	}
}

// renewOnce renews the lease over streams of their own, as many as there are members: the client gives each to the next of them, and
// one that answers is enough.
func (k *keeper) renewOnce(ctx context.Context, client *clientv3.Client, l *lease) error {
	ctx, cancel := context.WithTimeout(ctx, k.r.ttl/8)
	defer cancel()
	tries := max(len(k.r.cfg.Addrs), 2)
	answers := make(chan error, tries)
	for range tries {
		k.wg.Go(func() {
			_, err := client.KeepAliveOnce(ctx, l.id)
			answers <- err
		})
	}
	var last error
	for range tries {
		if last = <-answers; last == nil || errors.Is(last, rpctypes.ErrLeaseNotFound) {
			return last
		}
	}
	return last
}

func (k *keeper) leaseID() clientv3.LeaseID {
	if k.lease == nil {
		return 0
	}
	return k.lease.id
}

// guardKey starts a watch that makes Run look when the key is deleted, unless there is one.
func (k *keeper) guardKey(client *clientv3.Client, key string) {
	if k.guards[key] != nil {
		return
	}
	// The guard ends with the claim or with Run, which calls stop.
	ctx, stop := context.WithCancel(context.Background())
	k.guards[key] = stop
	k.wg.Add(1)
	go k.guard(ctx, client, key)
}

func (k *keeper) guard(ctx context.Context, client *clientv3.Client, key string) {
	defer k.wg.Done()
	var again retry
	for ctx.Err() == nil {
		watch := client.Watch(clientv3.WithRequireLeader(ctx), key, clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
		for resp := range watch {
			if resp.Err() == nil {
				// Also when the watch was just created: it did not see what happened before.
				again.reset()
				k.r.suspect()
			}
		}
		again.wait(ctx)
	}
}

// stop ends and waits for all that the keeper started. The lease is left to its TTL.
func (k *keeper) stop() {
	if k.lease != nil {
		k.lease.stop()
	}
	for _, stop := range k.guards {
		stop()
	}
	k.wg.Wait()
}
