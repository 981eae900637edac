package registry_test

import (
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/registry"
)

func TestValidateAddress(t *testing.T) {
	f := func(addr, want string) {
		t.Helper()
		for _, n := range []registry.Node{
			registry.NewNode("user", addr, "10.0.0.1:80"),
			registry.NewNode("user", "10.0.0.1:80", addr),
		} {
			err := n.Validate()
			switch {
			case want == "" && err != nil:
				t.Errorf("Validate() of address %q = %v, want nil", addr, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("Validate() of address %q = %v, want %q in it", addr, err, want)
			}
		}
	}
	f("10.0.0.1:1", "")
	f("127.0.0.1:65535", "")
	f("[2001:db8::1]:80", "")
	f("[::1]:80", "")
	f("localhost:80", "")
	f("node-1.example.com:80", "")
	f("Node1:80", "")
	f("1node.a1:80", "")

	f("", "host:port")
	f("10.0.0.1", "host:port")
	f(":80", "missing")
	f("10.0.0.1:", "port")
	f("10.0.0.1:0", "port")
	f("10.0.0.1:080", "port")
	f("10.0.0.1:+80", "port")
	f("10.0.0.1:65536", "port")
	f("10.0.0.1:http", "port")
	f("10.0.0.1:80:80", "host name")
	f("0.0.0.0:80", "nobody can dial it")
	f("[::]:80", "nobody can dial it")
	f("224.0.0.1:80", "nobody can dial it")
	f("::1:80", "brackets")
	f("[::1:80", "brackets")
	f("[10.0.0.1]:80", "brackets")
	f("[]:80", "brackets")
	f("[2001:DB8::1]:80", "write it as 2001:db8::1")
	f("[2001:db8:0::1]:80", "write it as 2001:db8::1")
	f("[::ffff:10.0.0.1]:80", "write it as IPv4: 10.0.0.1")
	f("[fe80::1%eth0]:80", "zone")
	f("10.0.0.01:80", "host name")
	f("10.0.0.256:80", "host name")
	f("a_b:80", "letters, digits")
	f("a b:80", "letters, digits")
	f("a\n:80", "letters, digits")
	f("é:80", "letters, digits")
	f("-a:80", "host name")
	f("a-:80", "host name")
	f("a..b:80", "host name")
	f("a.:80", "host name")
	f("../a:80", "host name")
	f(strings.Repeat("a", 64)+":80", "host name")
	f(strings.Repeat("a.", 127)+"a:80", "at most 253")
}

func TestValidateRest(t *testing.T) {
	f := func(want string, change func(n *registry.Node)) {
		t.Helper()
		n := registry.NewNode("user", "10.0.0.1:1", "10.0.0.1:2")
		change(&n)
		err := n.Validate()
		switch {
		case want == "" && err != nil:
			t.Errorf("Validate() of %+v = %v, want nil", n, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("Validate() of %+v = %v, want %q in it", n, err, want)
		}
	}
	f("", func(n *registry.Node) {})
	f("", func(n *registry.Node) { n.Service = "order_api-2.v1" })
	f("", func(n *registry.Node) { n.Service = "用户" })
	f("", func(n *registry.Node) { n.Weight = 0 })
	f("", func(n *registry.Node) { n.Weight = registry.MaxWeight })
	f("", func(n *registry.Node) { n.State = "" })
	f("", func(n *registry.Node) { n.State = registry.Draining })
	f("", func(n *registry.Node) { n.Version = "v1.2.3 <&>" })

	f("empty", func(n *registry.Node) { n.Service = "" })
	f("'/'", func(n *registry.Node) { n.Service = "a/b" })
	f("'/'", func(n *registry.Node) { n.Service = ".." })
	f("blank", func(n *registry.Node) { n.Service = "a b" })
	f("U+000A", func(n *registry.Node) { n.Service = "a\nb" })
	f("U+202E", func(n *registry.Node) { n.Service = "a\u202eb" })
	f("UTF-8", func(n *registry.Node) { n.Service = "a\xff" })
	f("at most 128", func(n *registry.Node) { n.Service = strings.Repeat("a", 129) })
	f("weight -1", func(n *registry.Node) { n.Weight = -1 })
	f("weight 1001", func(n *registry.Node) { n.Weight = 1001 })
	f("version", func(n *registry.Node) { n.Version = "\x1b[31m" })
	f("zone", func(n *registry.Node) { n.Zone = strings.Repeat("z", 129) })
	f("state", func(n *registry.Node) { n.State = "down" })
}

func TestCheckProject(t *testing.T) {
	for _, name := range []string{"goms", "my-shop", "项目"} {
		if err := registry.CheckProject(name); err != nil {
			t.Errorf("CheckProject(%q) = %v, want nil", name, err)
		}
	}
	for _, name := range []string{"", "go_ms", "go/ms", "go ms", "go\tms", "\xff", strings.Repeat("a", 65)} {
		if err := registry.CheckProject(name); err == nil {
			t.Errorf("CheckProject(%q) = nil, want an error", name)
		}
	}
}
