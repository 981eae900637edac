package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/certs"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

var _ certs.KV = (*etcd.KV)(nil) // where gateways keep their certificates

func TestKV(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	one, other := open(t, s.addr, etcd.Config{}).KV("acme"), open(t, s.addr, etcd.Config{}).KV("acme")
	beside := open(t, s.addr, etcd.Config{}).KV("acme2")
	get := func(kv *etcd.KV, key, want string) {
		t.Helper()
		v, err := kv.Get(ctx, key)
		if err != nil || string(v) != want || want == "" && v != nil {
			t.Errorf("Get(%q) = %q %v, want %q", key, v, err, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	get(one, "a", "")
	must(one.Delete(ctx, "a"))
	must(one.Put(ctx, "a", []byte("1")))
	get(other, "a", "1")
	get(beside, "a", "")
	must(other.Put(ctx, "a", []byte("2")))
	get(one, "a", "2")
	must(one.Put(ctx, "b/c", make([]byte, 64<<10)))
	must(beside.Put(ctx, "z", []byte("beside")))
	list, err := one.List(ctx, "")
	if err != nil || len(list) != 2 || list[0].Key != "a" || string(list[0].Value) != "2" || list[1].Key != "b/c" || len(list[1].Value) != 64<<10 || list[0].Revision == 0 || list[0].Revision >= list[1].Revision {
		t.Errorf("List() = %.200v %v, want a and b/c", list, err)
	}
	if list, err := one.List(ctx, "b/"); err != nil || len(list) != 1 || list[0].Key != "b/c" {
		t.Errorf("List(b/) = %.200v %v, want b/c", list, err)
	}
	must(other.Delete(ctx, "a"))
	get(one, "a", "")
	if v, _ := s.entry(project + "/acme2/z"); v != "beside" {
		t.Errorf("the key in etcd holds %q, want beside", v)
	}
}

func TestKVPutIf(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ctx := t.Context()
	kv := open(t, s.addr, etcd.Config{}).KV("test")
	first, err := kv.PutIf(ctx, "a", []byte("1"), 0)
	if err != nil || first == 0 {
		t.Fatalf("PutIf() of a new key = %d %v", first, err)
	}
	if _, err := kv.PutIf(ctx, "a", []byte("x"), 0); !errors.Is(err, etcd.ErrConflict) {
		t.Errorf("PutIf() of a key that is there = %v, want ErrConflict", err)
	}
	second, err := kv.PutIf(ctx, "a", []byte("2"), first)
	if err != nil || second <= first {
		t.Errorf("PutIf() = %d %v, want more than %d", second, err, first)
	}
	if _, err := kv.PutIf(ctx, "a", []byte("x"), first); !errors.Is(err, etcd.ErrConflict) {
		t.Errorf("PutIf() of an old revision = %v, want ErrConflict", err)
	}
	if e, err := kv.Entry(ctx, "a"); err != nil || string(e.Value) != "2" || e.Revision != second || e.Key != "a" {
		t.Errorf("Entry() = %v %v, want 2 at %d", e, err, second)
	}
	if e, err := kv.Entry(ctx, "b"); err != nil || e.Revision != 0 || e.Value != nil {
		t.Errorf("Entry() of nothing = %v %v", e, err)
	}

	// Of many at once one wins.
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := kv.PutIf(ctx, "a", fmt.Append(nil, i), second)
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, etcd.ErrConflict):
				t.Errorf("PutIf() = %v, want ErrConflict", err)
			}
		})
	}
	wg.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d writers won, want 1", n)
	}
}

// What is stored is no node, and nothing a watch of the nodes would complain about.
func TestKVIsBesideTheNodes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := start(t, s.addr, node(1))
	if err := p.KV("acme").Put(t.Context(), "a_b_c", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	p.publish(node(2))
	seen := make(chan registry.Snapshot, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Watch(ctx, func(s registry.Snapshot) { seen <- s }) })
	defer wg.Wait()
	defer cancel()
	select {
	case got := <-seen:
		if len(got.Nodes) != 2 || p.Status().Ignored != 0 {
			t.Errorf("%d nodes, %d entries ignored, want 2 and 0", len(got.Nodes), p.Status().Ignored)
		}
	case <-time.After(patience):
		t.Fatal("no snapshot")
	}
}

// A store that is away is an error in good time, and not an absence.
func TestKVAway(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	kv := open(t, s.addr, etcd.Config{}).KV("acme")
	if err := kv.Put(t.Context(), "a", []byte("top secret")); err != nil {
		t.Fatal(err)
	}
	s.down()
	began := time.Now()
	if v, err := kv.Get(t.Context(), "a"); err == nil || v != nil {
		t.Errorf("Get() while the store is away = %q %v, want an error", v, err)
	}
	if err := kv.Put(t.Context(), "a", []byte("top secret")); err == nil || strings.Contains(err.Error(), "top secret") || !strings.Contains(err.Error(), `put "goms/acme/a": `) {
		t.Errorf("Put() while the store is away = %v, want an error that names the key only", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("two requests took %v", took)
	}
	s.up()
	eventually(t, "the value is back", patience, func() bool {
		v, err := kv.Get(t.Context(), "a")
		return err == nil && string(v) == "top secret"
	})
}

func TestKVClosed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := open(t, s.addr, etcd.Config{})
	kv := r.KV("acme")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Get(t.Context(), "a"); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("Get() after Close = %v, want ErrClosed", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, s.addr, etcd.Config{}).KV("acme").List(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("List() with a context that is over = %v, want context.Canceled", err)
	}
}

// A role for the nodes' keys is none for what lies beside them.
func TestKVNeedsItsOwnPermission(t *testing.T) {
	t.Parallel()
	s := newLockedStore(t)
	kv := open(t, s.addr, etcd.Config{Username: "goms", Password: password}).KV("acme")
	if _, err := kv.Get(t.Context(), "a.example"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Get() = %v, want permission denied", err)
	}
}
