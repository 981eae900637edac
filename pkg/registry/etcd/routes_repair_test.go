package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry/etcd"
)

// TestRoutesOutliveTheirHead has somebody spoil the key that names the newest version: no command is stuck, the history stays, and a
// rollback or a push over whatever is there mends it.
func TestRoutesOutliveTheirHead(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	routes := open(t, s.addr, etcd.Config{}).Routes()
	push := func(from int64, text string) (etcd.RouteDoc, error) {
		t.Helper()
		return routes.Push(t.Context(), []byte(text), from, "", "")
	}
	for i := range 3 {
		if _, err := push(int64(i), fmt.Sprintf("a: %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	newest := int64(3)
	for _, head := range []string{"garbage", "", "-1", "0", "99", "999999999999", "9223372036854775807", "99999999999999999999", strings.Repeat("9", 100_000)} {
		s.put("goms/routes/head", head)
		if _, err := routes.Pull(t.Context(), 0); !errors.Is(err, etcd.ErrRoutesDamaged) || !strings.Contains(err.Error(), "goms/routes/head") || len(err.Error()) > 200 {
			t.Errorf("Pull(0) with head %.30q = %v, want a short error that it is damaged, and where", head, err)
		}
		if list, err := routes.List(t.Context()); err != nil || int64(len(list)) != newest {
			t.Errorf("List() with head %.30q = %d versions, %v, want %d", head, len(list), err, newest)
		}
		if _, err := push(newest, "a: from what is not known"); !errors.Is(err, etcd.ErrRoutesDamaged) {
			t.Errorf("Push() with head %.30q from version %d = %v, want that it is damaged", head, newest, err)
		}
		newest++
		if doc, err := routes.Rollback(t.Context(), 1, "", ""); err != nil || doc.Version != newest || string(doc.YAML) != "a: 0" {
			t.Errorf("Rollback(1) with head %.30q = version %d %q, %v, want version %d", head, doc.Version, doc.YAML, err, newest)
		}
		if doc, err := routes.Pull(t.Context(), 0); err != nil || doc.Version != newest {
			t.Errorf("Pull(0) after a rollback = version %d, %v, want %d", doc.Version, err, newest)
		}
	}
	s.put("goms/routes/head", "garbage")
	if doc, err := push(-1, "a: over it"); err != nil || doc.Version != newest+1 {
		t.Errorf("Push() over whatever is there = version %d, %v, want %d", doc.Version, err, newest+1)
	}
	newest++

	// Without a head there is no table, and the next one does not write over the history.
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Delete(ctx, "goms/routes/head")
		return err
	})
	if _, err := routes.Pull(t.Context(), 0); !errors.Is(err, etcd.ErrNoRoutes) {
		t.Errorf("Pull(0) without a head = %v, want %v", err, etcd.ErrNoRoutes)
	}
	if doc, err := push(0, "a: anew"); err != nil || doc.Version != newest+1 {
		t.Errorf("Push() without a head = version %d, %v, want %d", doc.Version, err, newest+1)
	}
}

// TestRoutesBesideOthersKeys has somebody put keys of no version among the versions: they are nobody's.
func TestRoutesBesideOthersKeys(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	routes := open(t, s.addr, etcd.Config{}).Routes()
	for _, name := range []string{"abc", "1", "-00000000001", "0000000000001", "999999999999", "9223372036854775807"} {
		s.put("goms/routes/v/"+name, "x")
	}
	for i := range 2 {
		if doc, err := routes.Push(t.Context(), fmt.Appendf(nil, "a: %d", i), -1, "", ""); err != nil || doc.Version != int64(i+1) {
			t.Errorf("Push() = version %d, %v, want %d", doc.Version, err, i+1)
		}
	}
	list, err := routes.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Version != 2 || list[1].Version != 1 {
		t.Errorf("List() = %v, %v, want versions 2 and 1", list, err)
	}
}
