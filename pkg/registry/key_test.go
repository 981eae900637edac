package registry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

func TestKeyAndValue(t *testing.T) {
	f := func(n registry.Node, key, value string) {
		t.Helper()
		if got := n.Key("goms"); got != key {
			t.Errorf("Key() = %q, want %q", got, key)
		}
		if got := n.Value(); got != value {
			t.Errorf("Value() = %q, want %q", got, value)
		}
		got, err := registry.Parse("goms", key, value)
		if err != nil || got != n {
			t.Errorf("Parse(%q, %q) = %+v, %v, want %+v", key, value, got, err, n)
		}
	}
	n := registry.NewNode("user", "192.168.125.179:9180", "192.168.125.179:9080")
	f(n, "goms_user_192.168.125.179:9180_192.168.125.179:9080", "0")
	n.Service = "order_api_"
	f(n, "goms_order_api__192.168.125.179:9180_192.168.125.179:9080", "0")
	n.RPCAddr, n.HTTPAddr = "[2001:db8::1]:1", "node-1.local:2"
	f(n, "goms_order_api__[2001:db8::1]:1_node-1.local:2", "0")
	n.Weight = 0
	f(n, n.Key("goms"), `{"weight":0}`)
	n.Weight, n.State = 1, registry.Draining
	f(n, n.Key("goms"), `{"state":"draining"}`)
	n = registry.Node{Service: "user", RPCAddr: "a:1", HTTPAddr: "a:2", Weight: 7, Version: "1.2", Zone: "b", State: registry.Up, Backup: true}
	f(n, "goms_user_a:1_a:2", `{"weight":7,"version":"1.2","zone":"b","backup":true}`)
	n = registry.NewNode("user", "a:1", "a:2")
	n.TLS, n.Idle = true, 1500*time.Millisecond
	f(n, "goms_user_a:1_a:2", `{"tls":true,"idle":1500}`)
	n = registry.NewNode("gateway", "a:1", "a:2")
	n.Routes = "0123456789abcdef"
	f(n, "goms_gateway_a:1_a:2", `{"routes":"0123456789abcdef"}`)
}

func TestReusable(t *testing.T) {
	f := func(idle, want time.Duration) {
		t.Helper()
		if got := (registry.Node{Idle: idle}).Reusable(); got != want {
			t.Errorf("Reusable() with idle %v = %v, want %v", idle, got, want)
		}
	}
	f(0, 108*time.Second)
	f(registry.DefaultIdle, 108*time.Second)
	f(5*time.Second, 4*time.Second)
	f(time.Second, 500*time.Millisecond)
	f(100*time.Millisecond, 50*time.Millisecond)
}

func TestParseValue(t *testing.T) {
	const key = "goms_user_a:1_a:2"
	plain := registry.NewNode("user", "a:1", "a:2")
	f := func(value string, change func(n *registry.Node)) {
		t.Helper()
		got, err := registry.Parse("goms", key, value)
		if change == nil {
			if err == nil {
				t.Errorf("Parse(%.40q) = %+v, want an error", value, got)
			}
			return
		}
		want := plain
		change(&want)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", value, got, err, want)
		}
	}
	same := func(*registry.Node) {}
	f("0", same)
	f("{}", same)
	f(" \n{ } ", same)
	f(`{"weight":1,"version":"","zone":"","state":"up"}`, same)
	f(`{"weight":null,"state":null}`, same)
	f(`{"state":""}`, same)
	f(`{"addedLater":{"a":[1]}}`, same)
	f(`{"tls":false,"idle":0}`, same)
	f(`{"tls":true,"idle":86400000}`, func(n *registry.Node) { n.TLS, n.Idle = true, 24*time.Hour })
	f(`{"weight":1000}`, func(n *registry.Node) { n.Weight = 1000 })
	f(`{"zone":"`+strings.Repeat(" ", 128)+`"}`, func(n *registry.Node) { n.Zone = strings.Repeat(" ", 128) })

	for _, bad := range []string{
		"", "1", "00", "0 ", "null", "[]", `"0"`, "true", "{", "{}{}", "{} x", `{"weight":"1"}`, `{"weight":1.5}`, `{"weight":-1}`, `{"weight":1001}`,
		`{"weight":1e99}`, `{"state":"down"}`, `{"state":"UP"}`, `{"version":"\u0000"}`, `{"version":1}`, "{\"version\":\"\xff\"}",
		`{"tls":1}`, `{"tls":"true"}`, `{"idle":-1}`, `{"idle":86400001}`, `{"idle":9223372036854775807}`, `{"idle":"1s"}`, `{"idle":0.5}`,
		`{"zone":"` + strings.Repeat("z", 129) + `"}`, `{"x":"` + strings.Repeat("x", 4<<10) + `"}`,
	} {
		f(bad, nil)
	}
}

func TestParseKey(t *testing.T) {
	for _, key := range []string{
		"", "goms", "goms_", "goms__", "goms___", "goms_user", "goms_user_a:1", "goms__a:1_a:2", "other_user_a:1_a:2", "gomsx_user_a:1_a:2",
		"goms_user_a:1_a:2_", "goms_user_a:1_a:0", "goms_user_a_a:2", "goms_../x_a:1_a:2", "goms_us\ner_a:1_a:2", "goms_user_0.0.0.0:1_a:2",
	} {
		if got, err := registry.Parse("goms", key, "0"); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", key, got)
		}
	}
}

// TestParseSaysWhatIsWanted: what is wrong with a value is said to who put it, not to who wrote this program.
func TestParseSaysWhatIsWanted(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		for _, parse := range []func() error{
			func() error { _, err := registry.Parse("goms", "goms_user_a:1_a:2", value); return err },
			func() error {
				_, err := registry.ParseOverride("goms", "goms/overrides/user/a:1_a:2", value)
				return err
			},
		} {
			if err := parse(); err == nil || !strings.Contains(err.Error(), "user") || !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), "struct") {
				t.Errorf("parse %q = %v, want the key and %q", value, err, want)
			}
		}
	}
	f(`{"weight":1e9}`, `field "weight": want a whole number, not number 1e9`)
	f(`{"weight":1.5}`, `field "weight": want a whole number, not number 1.5`)
	f(`{"weight":"5"}`, `field "weight": want a whole number, not string`)
	f(`{"state":7}`, `field "state": want a string, not number`)
	f(`{"weight":NaN}`, `want one JSON object: invalid character 'N' looking for beginning of value`)
	f(`{"weight":5}{}`, `want one JSON object: invalid character '{' after top-level value`)
	f(`{"weight":-5}`, `weight -5: want 0 to 1000`)
}

// FuzzParse: no bytes make it panic, and what it takes has the same key and survives another round.
func FuzzParse(f *testing.F) {
	f.Add("goms_user_192.168.125.179:9180_192.168.125.179:9080", "0")
	f.Add("goms_a_b_[2001:db8::1]:1_node-1.local:2", `{"weight":0,"version":"1","zone":"z","state":"draining"}`)
	f.Add("goms_user_a:1_a:2", `{"tls":true,"idle":250}`)
	f.Add("goms_../_::1:1_[::]:0", "null")
	f.Add("goms_\xff_a:1_a:2", "{\"zone\":\"\xff\"}")
	f.Fuzz(func(t *testing.T, key, value string) {
		n, err := registry.Parse("goms", key, value)
		if err != nil {
			if n != (registry.Node{}) {
				t.Fatalf("Parse(%q, %q) = %+v with error %v", key, value, n, err)
			}
			return
		}
		if got := n.Key("goms"); got != key {
			t.Fatalf("Key() = %q after Parse(%q)", got, key)
		}
		if err := n.Validate(); err != nil {
			t.Fatalf("Parse(%q, %q) is invalid: %v", key, value, err)
		}
		again, err := registry.Parse("goms", n.Key("goms"), n.Value())
		if err != nil || again != n {
			t.Fatalf("Parse(%q, %q) = %+v, %v, want %+v", n.Key("goms"), n.Value(), again, err, n)
		}
	})
}

// FuzzRoundTrip: every valid node survives its key and value.
func FuzzRoundTrip(f *testing.F) {
	f.Add("user", "10.0.0.1:1", "10.0.0.1:2", 1, "", "", "up")
	f.Add("a_b", "[2001:db8::1]:1", "node-1.local:2", 0, "1.2 <&>\u2028", `"z"\`, "draining")
	f.Fuzz(func(t *testing.T, service, rpc, http string, weight int, version, zone, state string) {
		n := registry.Node{Service: service, RPCAddr: rpc, HTTPAddr: http, Weight: weight, Version: version, Zone: zone, State: registry.State(state)}
		if n.Validate() != nil {
			return
		}
		if n.State == "" {
			n.State = registry.Up
		}
		if value := n.Value(); len(value) > 4<<10 {
			t.Fatalf("Value() has %d bytes", len(value))
		}
		got, err := registry.Parse("goms", n.Key("goms"), n.Value())
		if err != nil || got != n {
			t.Fatalf("Parse(%q, %q) = %+v, %v, want %+v", n.Key("goms"), n.Value(), got, err, n)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Parse("goms", "goms_user_192.168.125.179:9180_192.168.125.179:9080", "0"); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleNode_Key() {
	n := registry.NewNode("user", "10.0.0.7:9180", "10.0.0.7:9080")
	fmt.Println(n.Key("goms"), n.Value())
	n.State = registry.Draining
	fmt.Println(n.Key("goms"), n.Value())
	// Output:
	// goms_user_10.0.0.7:9180_10.0.0.7:9080 0
	// goms_user_10.0.0.7:9180_10.0.0.7:9080 {"state":"draining"}
}
