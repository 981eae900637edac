package registry_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

func TestTrustBelievesNodesInItsNetworks(t *testing.T) {
	f := func(rpc, http string, want bool) {
		t.Helper()
		trust := registry.NewTrust(registry.TrustConfig{})
		s := trust.Filter(registry.NewSnapshot(1, []registry.Node{registry.NewNode("user", rpc, http)}))
		if got := trust.Check(registry.NewNode("user", rpc, http)) == nil; got != want {
			t.Errorf("Check(%s, %s) believes: %t, want %t", rpc, http, got, want)
		}
		if got := len(s.Nodes) == 1; got != want {
			t.Errorf("Filter(%s, %s) believes: %t, want %t", rpc, http, got, want)
		}
	}
	f("10.0.0.1:1", "10.0.0.1:2", true)
	f("127.0.0.1:1", "127.0.0.1:2", true)
	f("[::1]:1", "[fc00::7]:2", true)
	f("172.31.255.255:1", "192.168.0.1:2", true)
	f("node-1.internal:1", "node-1.internal:2", true) // what it comes to is judged when it is dialled
	f("172.32.0.1:1", "10.0.0.1:2", false)
	f("10.0.0.1:1", "8.8.8.8:2", false)
	f("10.0.0.1:1", "169.254.169.254:80", false)
	f("10.0.0.1:1", "[fe80::1]:2", false)
	f("10.0.0.1:1", "[2001:db8::1]:2", false)
}

func TestTrustRefusesItsOwnAddresses(t *testing.T) {
	self := registry.NewNode("gateway", "10.0.0.1:8180", "10.0.0.1:8080")
	other := registry.NewNode("gateway", "10.0.0.2:8180", "10.0.0.2:8080")
	var log bytes.Buffer
	trust := registry.NewTrust(registry.TrustConfig{
		Self: self, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Own: []net.Addr{&net.TCPAddr{IP: net.IPv6unspecified, Port: 8080}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8280}},
	})
	good := registry.NewNode("user", "10.0.0.1:9180", "10.0.0.1:9080")
	nodes := []registry.Node{
		self, other, good,
		registry.NewNode("gateway", "10.0.0.1:8180", "10.0.0.1:9999"),
		registry.NewNode("user", "10.0.0.3:1", "10.0.0.1:8080"),
		registry.NewNode("user", "10.0.0.1:8180", "10.0.0.3:1"),
		registry.NewNode("user", "10.0.0.3:1", "127.0.0.9:8080"),
		registry.NewNode("user", "10.0.0.3:1", "[::1]:8080"),
		registry.NewNode("user", "10.0.0.3:1", "127.0.0.1:8280"),
		registry.NewNode("user", "10.0.0.3:1", "127.0.0.2:8281"), // the next port
	}
	want := registry.NewSnapshot(1, []registry.Node{self, other, good, nodes[9]})
	for range 3 {
		if got := trust.Filter(registry.NewSnapshot(1, nodes)); !slices.Equal(got.Nodes, want.Nodes) {
			t.Fatalf("Filter() = %v, want %v", got.Nodes, want.Nodes)
		}
	}
	if got := trust.Refused(); got["own"] != 6 || len(got) != 1 {
		t.Errorf("Refused() = %v, want 6, own, each once", got)
	}
	if n := strings.Count(log.String(), "is refused"); n != 6 {
		t.Errorf("%d lines, want 6:\n%s", n, &log)
	}
	// One that went and came back counts again.
	trust.Filter(want)
	trust.Filter(registry.NewSnapshot(1, nodes[:5]))
	if got := trust.Refused(); got["own"] != 8 {
		t.Errorf("Refused() = %v, want 8", got)
	}
}

func TestTrustKeepsWhatItBelieves(t *testing.T) {
	trust := registry.NewTrust(registry.TrustConfig{Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
	s := registry.NewSnapshot(1, []registry.Node{registry.NewNode("user", "203.0.113.1:1", "203.0.113.1:2")})
	if got := trust.Filter(s); &got.Nodes[0] != &s.Nodes[0] {
		t.Error("Filter() copies nodes that are all believed")
	}
	if n := testing.AllocsPerRun(100, func() { trust.Filter(s) }); n > 1 {
		t.Errorf("Filter() allocates %v times, want at most once", n)
	}
}

// TestTrustControlsDials holds what a host name comes to against the networks.
func TestTrustControlsDials(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dial := func(c registry.TrustConfig) error {
		d := net.Dialer{Timeout: 2 * time.Second, Control: registry.NewTrust(c).Control}
		conn, err := d.Dial("tcp", "localhost:"+port)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial(registry.TrustConfig{}); err != nil {
		t.Errorf("Dial(localhost) = %v, want nil", err)
	}
	if err := dial(registry.TrustConfig{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}); err == nil || !strings.Contains(err.Error(), "outside nodeNetworks") {
		t.Errorf("Dial(localhost) with another network = %v, want a refusal", err)
	}
	if err := dial(registry.TrustConfig{Own: []net.Addr{l.Addr(), &net.TCPAddr{IP: net.IPv6loopback, Port: l.Addr().(*net.TCPAddr).Port}}}); err == nil || !strings.Contains(err.Error(), "own") {
		t.Errorf("Dial(localhost) of an own listener = %v, want a refusal", err)
	}
}
