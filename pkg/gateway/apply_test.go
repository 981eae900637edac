package gateway_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
)

// crowd is n nodes, in services of the given size.
func crowd(n, size int) []registry.Node {
	nodes := make([]registry.Node, n)
	for i := range nodes {
		host := fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
		nodes[i] = registry.NewNode(fmt.Sprintf("service%d", i/size), host+":9180", host+":9080")
	}
	return nodes
}

// BenchmarkApply measures one snapshot of 10,000 nodes in which 20 have left and 20 have joined: a fiftieth of a second of a
// thousand joins and a thousand leaves.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{10_000, 100} {
		b.Run(fmt.Sprintf("services of %d", size), func(b *testing.B) {
			g := start(b, nil).g
			nodes := crowd(10_040, size)
			full := registry.NewSnapshot(1, nodes[:10_020])
			even := full.Apply(2, nil, nodes[5000:5020])
			odd := full.Apply(3, nodes[10_020:], nodes[7000:7020])
			g.Apply(full)
			b.ReportAllocs()
			cpu := cpuTime(b)
			for i := 0; b.Loop(); i++ {
				if i%2 == 0 {
					g.Apply(even)
				} else {
					g.Apply(odd)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is what this process has used of the processors: on a machine that others use too it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// discovery is a Discovery that says what it was told to say.
type discovery registry.Status

func (d discovery) Status() registry.Status { return registry.Status(d) }

// TestStaleNodesAreTold holds what operators see of a gateway that has not read the registry since its start.
func TestStaleNodesAreTold(t *testing.T) {
	g := withDiscovery(t, registry.Status{
		Stale: true, StaleSince: time.Now().Add(-time.Hour), Ignored: 3, Refused: map[string]int64{"network": 2},
		Overrides: []registry.Override{{Service: "user", ID: "a", Weight: 0, By: "me@here"}},
	}, nil)
	g.Apply(registry.NewSnapshot(1, nil))
	admin := httptest.NewServer(g.AdminHandler())
	defer admin.Close()
	for page, want := range map[string][]string{
		"/readyz": {"has not been read since the start", ", 1h0m0s ago"},
		"/metrics": {
			"goms_registry_stale 1", "goms_registry_connected 0", "goms_registry_age_seconds 360",
			`goms_registry_ignored_total{cause="malformed"} 3`, `goms_registry_ignored_total{cause="network"} 2`,
		},
		"/cluster?verbose=1": {`"registryStale": true`, `"registryStaleSince"`, `"network": 2`, `"weight": 0`, `"by": "me@here"`},
	} {
		text := fetch(t, admin.URL+page)
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s lacks %q:\n%.2000s", page, w, text)
			}
		}
	}
}

// TestNodesAreDialledWhereAllowed has a host name that comes to an address which Control refuses.
func TestNodesAreDialledWhereAllowed(t *testing.T) {
	addr := node(t, func(http.ResponseWriter, *http.Request) { t.Error("the node was reached") })
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	trust := registry.NewTrust(registry.TrustConfig{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	g := withDiscovery(t, registry.Status{}, trust.Control)
	name := "localhost:" + port
	s := trust.Filter(registry.NewSnapshot(1, []registry.Node{registry.NewNode("user", name, name)}))
	if len(s.Nodes) != 1 {
		t.Fatal("the name was refused before it was resolved")
	}
	g.Apply(s)
	b := serve(t, g)
	if status, body := b.get("/api/user/login"); status != 502 {
		t.Errorf("answer = %d %s, want 502", status, body)
	}
}

func withDiscovery(t *testing.T, s registry.Status, control func(string, string, syscall.RawConn) error) *gateway.Gateway {
	t.Helper()
	routes, err := route.New(route.DefaultPrefix, route.Services{"user": {"login": {Path: "/login"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.NewCallKeys(testKey)
	if err != nil {
		t.Fatal(err)
	}
	settings := gateway.DefaultSettings()
	settings.DrainDelay = 0
	g, err := gateway.New(gateway.Config{Routes: routes, Keys: keys, Settings: settings, Discovery: discovery(s), Control: control})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestApplyTouchesWhatChanged holds that a service whose nodes stay keeps its turn, its figures and its pool.
func TestApplyTouchesWhatChanged(t *testing.T) {
	g := withDiscovery(t, registry.Status{}, nil)
	nodes := crowd(6, 2)
	full := registry.NewSnapshot(1, nodes)
	g.Apply(full)
	want := g.Cluster(false)
	g.Apply(full.Apply(2, nil, nodes[2:4]))
	got := g.Cluster(false)
	if len(got.Services) != 2 || len(got.Services["service0"].Nodes) != 2 || len(got.Services["service2"].Nodes) != 2 {
		t.Errorf("services without the second = %v", got.Services)
	}
	heavier := nodes[0]
	heavier.Weight = 9
	g.Apply(full.Apply(3, []registry.Node{heavier}, nil))
	if got := g.Cluster(true); len(got.Services) != 3 || got.Services["service0"].Detail[0].Weight != 9 {
		t.Errorf("services after a change = %v, want %v and weight 9", got.Services, want.Services)
	}
	allocs := testing.AllocsPerRun(20, func() { g.Apply(full.Apply(4, []registry.Node{heavier}, nil)) })
	if allocs > 30 {
		t.Errorf("Apply() of what is there allocates %v times", allocs)
	}
}
