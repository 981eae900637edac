package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry/etcd"
)

func TestRoutesAreVersions(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	routes := open(t, s.addr, etcd.Config{}).Routes()
	ctx := t.Context()
	if _, err := routes.Pull(ctx, 0); !errors.Is(err, etcd.ErrNoRoutes) {
		t.Fatalf("Pull() of nothing = %v, want %v", err, etcd.ErrNoRoutes)
	}
	push := func(text string, from int64) etcd.RouteDoc {
		t.Helper()
		doc, err := routes.Push(ctx, []byte(text), from, "why "+text, "me@here")
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	if doc := push("a: 1\n", 0); doc.Version != 1 || doc.Size != 5 || doc.Author != "me@here" || doc.Comment != "why a: 1\n" {
		t.Errorf("Push() = %+v", doc)
	}
	if doc := push("a: 1\n", 1); doc.Version != 1 {
		t.Errorf("Push() of what is there made version %d, want 1", doc.Version)
	}
	push("a: 2\n", 1)
	if _, err := routes.Push(ctx, []byte("a: 3\n"), 1, "", ""); !errors.Is(err, etcd.ErrRoutesMoved) {
		t.Errorf("Push() from an old version = %v, want %v", err, etcd.ErrRoutesMoved)
	}
	doc, err := routes.Rollback(ctx, 1, "a: 2 was wrong", "me@here")
	if err != nil || doc.Version != 3 || doc.RolledBack != 1 || string(doc.YAML) != "a: 1\n" {
		t.Errorf("Rollback() = %+v, %v", doc, err)
	}
	for version, want := range map[int64]string{0: "a: 1\n", 1: "a: 1\n", 2: "a: 2\n", 3: "a: 1\n"} {
		if doc, err := routes.Pull(ctx, version); err != nil || string(doc.YAML) != want {
			t.Errorf("Pull(%d) = %q, %v, want %q", version, doc.YAML, err, want)
		}
	}
	if _, err := routes.Rollback(ctx, 9, "", ""); !errors.Is(err, etcd.ErrNoRoutes) {
		t.Errorf("Rollback() to what is not there = %v, want %v", err, etcd.ErrNoRoutes)
	}
	list, err := routes.List(ctx)
	if err != nil || len(list) != 3 || list[0].Version != 3 || list[0].RolledBack != 1 || list[2].Comment != "why a: 1\n" || string(list[1].YAML) != "a: 2\n" {
		t.Errorf("List() = %+v, %v, want 3 versions, the newest first", list, err)
	}
}

func TestRoutesThatCannotBePushed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	routes := open(t, s.addr, etcd.Config{}).Routes()
	f := func(yaml, comment, want string) {
		t.Helper()
		if _, err := routes.Push(t.Context(), []byte(yaml), -1, comment, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Push(%.20q, %.20q) = %v, want %q", yaml, comment, err, want)
		}
	}
	f("", "", "empty")
	f(strings.Repeat("x", etcd.MaxRoutes+1), "", "1048577 bytes, at most 1048576")
	f("a: \xff", "", "UTF-8")
	f("a: 1", strings.Repeat("x", 401), "400 bytes")
	if doc, err := routes.Push(t.Context(), []byte(strings.Repeat("x", etcd.MaxRoutes)), -1, "", ""); err != nil || doc.Version != 1 {
		t.Errorf("Push() of the largest = %d, %v, want version 1", doc.Version, err)
	}
}

func TestRoutesKeepTheirHistoryShort(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	routes := open(t, s.addr, etcd.Config{}).Routes()
	for i := range etcd.KeptRoutes + 7 {
		if _, err := routes.Push(t.Context(), fmt.Appendf(nil, "a: %d", i), int64(i), "", ""); err != nil {
			t.Fatal(err)
		}
	}
	list, err := routes.List(t.Context())
	if err != nil || len(list) != etcd.KeptRoutes || list[0].Version != etcd.KeptRoutes+7 || list[len(list)-1].Version != 8 {
		t.Errorf("List() = %d versions, %v, want the newest %d", len(list), err, etcd.KeptRoutes)
	}
	if _, err := routes.Pull(t.Context(), 7); !errors.Is(err, etcd.ErrNoRoutes) {
		t.Errorf("Pull() of what was trimmed = %v, want %v", err, etcd.ErrNoRoutes)
	}
}

// TestRoutesPushedAtOnce has several push from the same version: one may win.
func TestRoutesPushedAtOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	const pushers, rounds = 4, 10
	won := make([]int, rounds)
	var mu sync.Mutex
	for round := range rounds {
		var wg sync.WaitGroup
		for i := range pushers {
			routes := open(t, s.addr, etcd.Config{}).Routes()
			wg.Go(func() {
				_, err := routes.Push(t.Context(), fmt.Appendf(nil, "a: %d.%d", round, i), int64(round), "", "")
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won[round]++
				case !errors.Is(err, etcd.ErrRoutesMoved):
					t.Errorf("Push() = %v", err)
				}
			})
		}
		wg.Wait()
		if won[round] != 1 {
			t.Fatalf("round %d: %d pushes from one version won, want 1", round, won[round])
		}
	}
}

func TestRoutesWatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := open(t, s.addr, etcd.Config{})
	routes := r.Routes()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var told []etcd.RouteDoc
	bad, none := 0, 0 // times an error was told, and that there is no table
	var complaint string
	done := make(chan error, 1)
	go func() {
		done <- routes.Watch(ctx, func(doc etcd.RouteDoc, err error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				bad++
				complaint = err.Error()
			case doc.Version == 0:
				none++
			default:
				told = append(told, doc)
			}
		})
	}()
	newest := func(want string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(told) > 0 && string(told[len(told)-1].YAML) == want
		}
	}
	push := func(text string) {
		t.Helper()
		if _, err := routes.Push(t.Context(), []byte(text), -1, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	count := func(n *int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return *n > 0
		}
	}
	eventually(t, "that there is none", patience, count(&none))
	push("a: 1")
	eventually(t, "first table", patience, newest("a: 1"))
	push("a: 2")
	eventually(t, "second table", patience, newest("a: 2"))
	// What somebody spoils is told as an error, and that it is lost as none.
	s.put("goms/routes/v/000000000002", "{}\nb: 1")
	s.put("goms/routes/head", "1")
	eventually(t, "older table", patience, newest("a: 1"))
	s.put("goms/routes/head", "2")
	eventually(t, "complaint", patience, func() bool { return r.Status().Ignored > 0 })
	eventually(t, "error", patience, count(&bad))
	s.put("goms/routes/head", "77")
	eventually(t, "which key names what is not there", patience, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(complaint, `key "goms/routes/head" names version 77, which is not there`)
	})
	if !newest("a: 1")() {
		t.Error("a damaged table was told")
	}
	mu.Lock()
	none = 0
	mu.Unlock()
	s.down()
	s.empty()
	s.up()
	eventually(t, "that it is gone", patience, count(&none))
	push("a: 9")
	eventually(t, "table after the loss", patience, newest("a: 9"))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch() = %v, want %v", err, context.Canceled)
	}
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, "goms_", clientv3.WithPrefix())
		if err == nil && resp.Count != 0 {
			t.Errorf("%d keys lie where nodes are", resp.Count)
		}
		return err
	})
}
