package registry

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// State says whether a node wants new requests.
type State string

// The states of a node. A node that is about to leave publishes [Draining], keeps serving what it has, then withdraws.
const (
	Up       State = "up"
	Draining State = "draining"
)

// Bounds of what a node may say of itself. The lengths are in bytes.
const (
	MaxWeight     = 1000 // the largest weight; the least is 0, which takes no requests
	maxService    = 128
	maxProject    = 64
	maxHost       = 253
	maxLabel      = 128
	maxValue      = 4 << 10
	defaultWeight = 1
)

// The idle limit of a node's HTTP connections: what holds for a node that says nothing of it, and the longest that one may say.
const (
	DefaultIdle = 120 * time.Second
	MaxIdle     = 24 * time.Hour
)

// Node is one registered process of a service. It is a value: comparable, and safe to copy.
//
// Weight 1 and State [Up] are the defaults; [NewNode] sets them. A literal without Weight has weight 0 and takes no requests.
// An empty State means Up.
type Node struct {
	// Service is the name of the service, as in the route table.
	Service string
	// RPCAddr and HTTPAddr are the "host:port" that others dial: an IP address or a host name, IPv6 in brackets.
	RPCAddr, HTTPAddr string
	// Weight is the share of requests among the nodes of the service, 0 to [MaxWeight].
	Weight int
	// Version and Zone are labels for people and policies. Both may be empty.
	Version, Zone string
	// State says whether the node wants new requests.
	State State
	// TLS says that the node's ports speak TLS and nothing else.
	TLS bool
	// Idle is how long the node leaves an unused HTTP connection open, in whole milliseconds up to [MaxIdle]; 0 is [DefaultIdle].
	Idle time.Duration
	// Routes tells one table of routes from another. Gateways have one; it is empty, or up to 64 hexadecimal digits.
	Routes string
	// Backup says that the node is to be sent requests only when no node without it can be.
	Backup bool
}

// NewNode returns a node with the defaults: weight 1, state up, no labels.
func NewNode(service, rpcAddr, httpAddr string) Node {
	return Node{Service: service, RPCAddr: rpcAddr, HTTPAddr: httpAddr, Weight: defaultWeight, State: Up}
}

// ID returns RPCAddr and HTTPAddr joined by an underscore: the node's name within its service.
func (n Node) ID() string { return n.RPCAddr + "_" + n.HTTPAddr }

// Reusable returns how long ago the last use of an HTTP connection to n may lie for the connection to be used once more: the
// node's own limit less a margin for what is under way when the node closes. The margin is a tenth, at least 1 s, at most half of the limit.
func (n Node) Reusable() time.Duration {
	idle := n.Idle
	if idle <= 0 {
		idle = DefaultIdle
	}
	return idle - min(max(idle/10, time.Second), idle/2)
}

// Takes reports whether n wants requests: it does not drain, and its weight is not 0.
func (n Node) Takes() bool { return n.State != Draining && n.Weight > 0 }

// Validate reports why n cannot be registered, nil when it can.
func (n Node) Validate() error {
	return errors.Join(
		checkService(n.Service),
		checkAddr("rpc", n.RPCAddr),
		checkAddr("http", n.HTTPAddr),
		n.checkValue(),
	)
}

// checkValue checks the part of n that its value carries.
func (n Node) checkValue() error {
	if n.Weight < 0 || n.Weight > MaxWeight {
		return fmt.Errorf("check weight %d: want 0 to %d", n.Weight, MaxWeight)
	}
	if n.Idle < 0 || n.Idle > MaxIdle || n.Idle%time.Millisecond != 0 {
		return fmt.Errorf("check idle limit %v: want whole milliseconds, up to %v", n.Idle, MaxIdle)
	}
	if err := checkText("version", n.Version, maxLabel); err != nil {
		return err
	}
	if err := checkText("zone", n.Zone, maxLabel); err != nil {
		return err
	}
	if len(n.Routes) > 64 || strings.Trim(n.Routes, "0123456789abcdef") != "" {
		return fmt.Errorf("check routes %.70q: want up to 64 hexadecimal digits", n.Routes)
	}
	switch n.State {
	case Up, Draining, "":
		return nil
	}
	return fmt.Errorf("check state %.40q: want %q or %q", n.State, Up, Draining)
}

// CheckProject reports why name cannot be the name of a project, nil when it can. A project's name may not hold an
// underscore: it ends at the first one in a key.
func CheckProject(name string) error {
	if name == "" {
		return errors.New("check project name: it is empty")
	}
	if strings.ContainsAny(name, "_/ ") {
		return fmt.Errorf("check project name %.80q: it may not hold '_', '/' or a blank", name)
	}
	return checkText("project name", name, maxProject)
}

// CheckHost reports why host cannot be that of a node's addresses, nil when it can: an IP address without brackets, or a host name.
func CheckHost(host string) error {
	if why := addrTrouble(net.JoinHostPort(host, "1")); why != "" {
		return fmt.Errorf("%.300q: %s", host, why)
	}
	return nil
}

func checkService(name string) error {
	if name == "" {
		return errors.New("check service name: it is empty")
	}
	if strings.ContainsAny(name, "/ ") || name == "." || name == ".." {
		return fmt.Errorf("check service name %.80q: it may not hold '/' or a blank, nor be a dot or two", name)
	}
	return checkText("service name", name, maxService)
}

// checkText checks a name or label: short, UTF-8, printable.
func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("check %s %.40q...: %d bytes, at most %d", what, s, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("check %s %q: not UTF-8", what, s)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("check %s %q: it may not hold the character %U", what, s, r)
		}
	}
	return nil
}

func checkAddr(what, addr string) error {
	if why := addrTrouble(addr); why != "" {
		return fmt.Errorf("check %s address %.300q: %s", what, addr, why)
	}
	return nil
}

// addrTrouble says why addr is no "host:port" that others can dial, "" when it is one. One address has one spelling, so that a node has one key.
func addrTrouble(addr string) string {
	i := strings.LastIndexByte(addr, ':')
	if i < 0 {
		return "want host:port"
	}
	host, port := addr[:i], addr[i+1:]
	if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 || port[0] == '0' {
		return "want a port of 1 to 65535"
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		if !ok || err != nil || !ip.Is6() {
			return "want an IPv6 address within the brackets"
		}
		return ipTrouble(ip, inner)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Is6() {
			return "want IPv6 in brackets"
		}
		return ipTrouble(ip, host)
	}
	return nameTrouble(host)
}

func ipTrouble(ip netip.Addr, written string) string {
	switch {
	case ip.Zone() != "":
		return "a zone means nothing on another machine"
	case ip.Is4In6():
		return "write it as IPv4: " + ip.Unmap().String()
	case ip.IsUnspecified(), ip.IsMulticast():
		return "nobody can dial it: advertise the address of one interface"
	case ip.String() != written:
		return "write it as " + ip.String()
	}
	return ""
}

// nameTrouble says what is wrong with a DNS name, "" when nothing is.
func nameTrouble(host string) string {
	if host == "" {
		return "the host is missing"
	}
	if len(host) > maxHost {
		return fmt.Sprintf("host name of %d bytes, at most %d", len(host), maxHost)
	}
	label := ""
	for label = range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "want an IP address or a host name"
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c != '-' {
				return "want an IP address or a host name of letters, digits, '-' and '.'"
			}
		}
	}
	if strings.Trim(label, "0123456789") == "" {
		return "want an IP address or a host name"
	}
	return ""
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
