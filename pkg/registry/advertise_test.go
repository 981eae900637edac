package registry_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/registry"
)

func TestAdvertiseHostOnLoopback(t *testing.T) {
	f := func(want string, addrs ...string) {
		t.Helper()
		got, err := registry.AdvertiseHost(addrs)
		if err != nil || got != want {
			t.Errorf("AdvertiseHost(%q) = %q, %v, want %q", addrs, got, err, want)
		}
	}
	f("127.0.0.1", "127.0.0.1:2379")
	f("127.0.0.1", "127.0.0.1")
	f("127.0.0.1", "http://127.0.0.1:2379")
	f("127.0.0.1", "https://127.0.0.1:2379/")
	f("127.0.0.1", "no-port:no-port", "127.0.0.1:2379") // the first has no route
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		l.Close()
		f("::1", "[::1]:2379")
		f("::1", "[::1]")
	}
}

func TestAdvertiseHostElsewhere(t *testing.T) {
	for _, addrs := range [][]string{nil, {"192.0.2.1:2379"}, {"[2001:db8::1]:2379"}, {"0.0.0.1:x"}} {
		got, err := registry.AdvertiseHost(addrs)
		if err != nil {
			if !strings.Contains(err.Error(), "-advertise_host") {
				t.Errorf("AdvertiseHost(%q) = %v, want an error that names -advertise_host", addrs, err)
			}
			continue
		}
		ip, err := netip.ParseAddr(got)
		if err != nil || ip.IsLoopback() || ip.IsUnspecified() {
			t.Errorf("AdvertiseHost(%q) = %q, want an address that others can dial", addrs, got)
		}
		n := registry.NewNode("user", net.JoinHostPort(got, "1"), net.JoinHostPort(got, "2"))
		if err := n.Validate(); err != nil {
			t.Errorf("AdvertiseHost(%q) = %q, which is no address of a node: %v", addrs, got, err)
		}
	}
}
