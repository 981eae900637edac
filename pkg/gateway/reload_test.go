package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/route"
)

// live returns what a gateway may be given anew: the routes below prefix, and the settings of start.
func live(t testing.TB, prefix, key string, routes route.Services) gateway.Live {
	t.Helper()
	table, err := route.New(prefix, routes)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.NewCallKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	return gateway.Live{Routes: table, Keys: keys, Settings: gateway.DefaultSettings()}
}

func TestReload(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.URL.Path+" "+r.Header.Get("Call-Service-Key"))
	})
	b := start(t, nil, addr)
	if _, body := b.get("/api/user/login"); body != "/login "+testKey {
		t.Fatalf("login = %q", body)
	}
	other := strings.Repeat("k", 32)
	l := live(t, "/v2", other, route.Services{"user": {"login": {Path: "/enter"}}})
	l.Settings.MaxTarget = 256
	if err := b.g.Reload(l); err != nil {
		t.Fatal(err)
	}
	if status, _ := b.get("/api/user/login"); status != 404 {
		t.Errorf("the old route = %d, want 404", status)
	}
	if _, body := b.get("/v2/user/login"); body != "/enter "+other {
		t.Errorf("the new route = %q, want /enter with the new key", body)
	}
	if status, _ := b.get("/v2/user/login?" + strings.Repeat("x", 300)); status != 414 {
		t.Errorf("a target over the new limit = %d, want 414", status)
	}
	if got := b.g.Cluster(true).Gateway.Routes; got != l.Routes.Digest() {
		t.Errorf("routes = %q, want %q", got, l.Routes.Digest())
	}
}

func TestReloadRefuses(t *testing.T) {
	b := start(t, nil, node(t, func(http.ResponseWriter, *http.Request) {}))
	bad := live(t, "/v2", testKey, nil)
	bad.Settings.Retries = -1
	if err := b.g.Reload(bad); err == nil || !strings.Contains(err.Error(), "retries") {
		t.Fatalf("Reload() = %v, want an error that names retries", err)
	}
	if err := b.g.Reload(gateway.Live{Settings: gateway.DefaultSettings()}); err == nil {
		t.Error("Reload() without routes is taken")
	}
	if status, _ := b.get("/api/user/login"); status != 200 {
		t.Errorf("after a refused reload = %d, want 200", status)
	}
	b.g.ReloadFailed(errors.New("services.yml:3: something"))
	if _, text := b.get("/readyz?verbose=1"); !strings.Contains(text, "services.yml:3: something") {
		t.Errorf("/readyz?verbose=1 = %q, want the complaint", text)
	}
	if _, text := b.get("/readyz"); text != "ok\n" {
		t.Errorf("/readyz = %q", text)
	}
	if got := b.g.Cluster(true).Gateway.ConfigError; got != "services.yml:3: something" {
		t.Errorf("configError = %q", got)
	}
	if err := b.g.Reload(live(t, "/api", testKey, route.Services{"user": {"login": {Path: "/login"}}})); err != nil {
		t.Fatal(err)
	}
	if _, text := b.get("/readyz?verbose=1"); text != "ok\n" {
		t.Errorf("/readyz?verbose=1 = %q after a good reload", text)
	}
}

// TestReloadUnderLoad holds that every request is answered by one of the generations, and none is lost.
func TestReloadUnderLoad(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	b := start(t, nil, addr)
	if err := b.g.Reload(live(t, "/api", testKey, route.Services{"user": {"login": {Path: "/generation-0"}}})); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				status, body := b.get("/api/user/login")
				if status != 200 || !strings.HasPrefix(body, "/generation-") {
					t.Errorf("login = %d %q", status, body)
					return
				}
			}
		})
	}
	for i := range 1000 {
		if err := b.g.Reload(live(t, "/api", testKey, route.Services{"user": {"login": {Path: fmt.Sprintf("/generation-%d", i)}}})); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
}

// TestReloadsOfNewRoutesGrowNothing gives ever new routes: the figures of those that have gone do not stay for ever, those of what is served
// do.
func TestReloadsOfNewRoutesGrowNothing(t *testing.T) {
	b := start(t, nil, node(t, func(http.ResponseWriter, *http.Request) {}))
	for i := range 30 {
		routes := route.Services{"user": {"login": {Path: "/login"}}, fmt.Sprint("other", i): {}}
		for j := range 100 {
			routes[fmt.Sprint("other", i)][fmt.Sprint("a", j)] = route.Route{Path: "/"}
		}
		if err := b.g.Reload(live(t, "/api", testKey, routes)); err != nil {
			t.Fatal(err)
		}
		if status, _ := b.get("/api/user/login"); status != 200 {
			t.Fatalf("reload %d: %d, want 200", i, status)
		}
	}
	routes, budgets := b.g.Remembered()
	if routes > 1200 || budgets > 20 {
		t.Errorf("%d routes and %d services are remembered after 3000 routes of 30 services, want 1101 and 12 at most", routes, budgets)
	}
	waitUntil(t, "the route that stayed has answered 30 requests", func() bool {
		return b.metric(`goms_requests_total{code="2xx",route="/api/user/login",service="user"}`) == 30
	})
}
