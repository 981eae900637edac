package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// routeWait bounds the look-up of one etcd host name.
const routeWait = time.Second

// AdvertiseHost returns the host that a node on this machine should publish: the address of the interface that routes to the
// first of etcdAddrs ("host:port", "host" or a URL) that has a route. It sends no packet except, for a host name, the question
// to the resolver, at most a second each. The answer is a loopback address only when that etcd is on loopback. When no address
// has a route it is the first private address of an interface that is up. The error names the -advertise_host flag.
//
// IPv6 is returned without brackets: join it with [net.JoinHostPort].
func AdvertiseHost(etcdAddrs []string) (string, error) {
	var errs []error
	for _, addr := range etcdAddrs {
		host, err := routeTo(addr)
		if err == nil {
			return host, nil
		}
		errs = append(errs, err)
	}
	host, err := privateHost()
	if err == nil {
		return host, nil
	}
	return "", fmt.Errorf("find the address to publish: %w; give it with -advertise_host", errors.Join(append(errs, err)...))
}

// routeTo returns the local address of a UDP socket that is connected to addr.
func routeTo(addr string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), routeWait)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", hostPort(addr))
	if err != nil {
		return "", fmt.Errorf("route to etcd %q: %w", addr, err)
	}
	defer conn.Close()
	local := addrOf(conn.LocalAddr())
	remote := addrOf(conn.RemoteAddr())
	switch {
	case !local.IsValid(), local.IsUnspecified(), local.Zone() != "":
		return "", fmt.Errorf("route to etcd %q: local address %q cannot be published", addr, conn.LocalAddr())
	case local.IsLoopback() && !remote.IsLoopback():
		return "", fmt.Errorf("route to etcd %q: it leads through loopback", addr)
	}
	return local.String(), nil
}

// privateHost returns the first private address of this machine, IPv4 before IPv6.
func privateHost() (string, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	var six string
	for _, iface := range ifaces {
		if iface.Flags&net.FlagUp == 0 || iface.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := iface.Addrs()
		if err != nil {
			continue // the interface went away
		}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || !prefix.Addr().IsPrivate() {
				continue
			}
			if prefix.Addr().Is4() {
				return prefix.Addr().String(), nil
			}
			if six == "" {
				six = prefix.Addr().String()
			}
		}
	}
	if six == "" {
		return "", errors.New("no interface has a private address")
	}
	return six, nil
}

// hostPort brings an etcd address into the form that a dialer takes.
func hostPort(addr string) string {
	if _, rest, ok := strings.Cut(addr, "://"); ok {
		addr, _, _ = strings.Cut(rest, "/")
	}
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), "2379")
}

func addrOf(a net.Addr) netip.Addr {
	if u, ok := a.(*net.UDPAddr); ok {
		return u.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
