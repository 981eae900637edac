package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// nodeUsage is how gateway node is used.
const nodeUsage = `want one of:
  gateway node list [flags]
  gateway node drain|undrain|reset <service> <node> [flags]
  gateway node weight <service> <node> <0 to 1000> [flags]
where <node> is as in /cluster, rpc host:port_http host:port`

// commandFirst is the complaint about flags before the words that they belong to.
const commandFirst = "a command comes before the flags"

// nodeTimeout bounds one command.
const nodeTimeout = 10 * time.Second

// nodeCommand sets what all gateways see of single nodes, over what the nodes say of themselves. It needs etcd and no gateway.
func nodeCommand(ctx context.Context, f *flags, args []string, stdout io.Writer) error {
	words, rest := splitWords(args)
	if len(words) == 0 {
		if errors.Is(config.ParseFlags(f.set, rest), pflag.ErrHelp) {
			printUsage(stdout, nodeUsage, f)
			return nil
		}
		if len(rest) > 0 {
			return nodeMisuse(commandFirst)
		}
		return nodeMisuse("")
	}
	change, err := nodeChange(words)
	if err != nil {
		return err
	}
	conf, err := load(f, rest)
	if err != nil {
		return err
	}
	reg, err := registryOf(conf)
	if err != nil {
		return err
	}
	defer reg.Close() //nolint:errcheck // nothing is pending
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	if change == nil {
		return whereEtcd(conf, listNodes(ctx, reg, conf.trust(), stdout))
	}
	service, id := words[1], words[2]
	o, err := reg.SetOverride(ctx, service, id, func(o *registry.Override) {
		change(o)
		o.By, o.At = whoAmI(), time.Now().UTC().Truncate(time.Second)
	})
	switch {
	case errors.Is(err, etcd.ErrNoNode):
		return fmt.Errorf("%w (gateway node list shows all)", err)
	case err != nil:
		return whereEtcd(conf, err)
	}
	fmt.Fprintf(stdout, "%s %s: %s\n", service, id, o)
	return nil
}

// splitWords parts the words that a command begins with from its flags.
func splitWords(args []string) (words, rest []string) {
	i := 0
	for i < len(args) && !isFlag(args[i]) {
		i++
	}
	return args[:i], args[i:]
}

// isFlag tells -config from -1, which is a bad weight and should be told so.
func isFlag(arg string) bool {
	_, err := strconv.Atoi(arg)
	return strings.HasPrefix(arg, "-") && err != nil
}

func nodeMisuse(format string, args ...any) error {
	text := nodeUsage
	if format != "" {
		text = fmt.Sprintf(format, args...) + "; " + text
	}
	return &config.UsageError{Err: errors.New(text)}
}

// nodeChange returns what the words of the command line do to an override; nil is to list.
func nodeChange(words []string) (func(*registry.Override), error) {
	verbs := map[string]func(*registry.Override){
		"drain":   func(o *registry.Override) { o.State = registry.Draining },
		"undrain": func(o *registry.Override) { o.State = "" },
		"reset":   func(o *registry.Override) { o.State, o.Weight = "", registry.AsPublished },
	}
	change, known := verbs[words[0]]
	switch {
	case words[0] == "list" && len(words) == 1:
		return nil, nil
	case words[0] == "weight" && len(words) == 4:
		weight, err := strconv.Atoi(words[3])
		if err != nil || weight < 0 || weight > registry.MaxWeight {
			return nil, nodeMisuse("weight %q is not 0 to %d", words[3], registry.MaxWeight)
		}
		return func(o *registry.Override) { o.Weight = weight }, nil
	case known && len(words) == 3:
		return change, nil
	}
	return nil, nodeMisuse("%q cannot be understood", strings.Join(words, " "))
}

// printUsage prints how a command of several words is used.
func printUsage(w io.Writer, usage string, f *flags) {
	fmt.Fprintf(w, "%s\n\nFlags (one dash or two, _ or -):\n%s", strings.Replace(usage, "want one of", "Usage", 1), f.set.FlagUsages())
}

// etcdAddrs are the addresses that the configuration names, or that of an embedded etcd on this machine.
func (c *Config) etcdAddrs() []string {
	if addrs := c.Project.EtcdAddr; len(addrs) > 0 {
		return addrs
	}
	return []string{c.Project.Etcd.Embedded.Addr}
}

// whereEtcd says of an error that came of nobody's answer whom was asked.
func whereEtcd(c *Config, err error) error {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented:
	default:
		if !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
	return fmt.Errorf("%w (is that etcd, at %s? -etcd_addr or etcdAddr names another)", err, strings.Join(c.etcdAddrs(), ", "))
}

// registryOf opens the registry that the configuration names.
func registryOf(c *Config) (*etcd.Registry, error) {
	rc, err := c.Project.EtcdConfig(c.etcdAddrs(), nil)
	if err != nil {
		return nil, err
	}
	trust := c.trust()
	rc.Believed = func(n registry.Node) bool { return trust.Check(n) == nil }
	return etcd.Open(rc)
}

// trust is what every gateway with this configuration believes, whatever its own addresses are.
func (c *Config) trust() *registry.Trust {
	return registry.NewTrust(registry.TrustConfig{Networks: c.Project.NodeNetworks})
}

// listNodes prints the nodes that etcd holds, and what is set for them, then what gateways do not use.
func listNodes(ctx context.Context, reg *etcd.Registry, trust *registry.Trust, stdout io.Writer) error {
	nodes, err := reg.Nodes(ctx)
	if err != nil {
		return err
	}
	overrides, err := reg.Overrides(ctx)
	if err != nil {
		return err
	}
	set := map[[2]string]registry.Override{}
	for _, o := range overrides {
		set[[2]string{o.Service, o.ID}] = o
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tNODE\tWEIGHT\tSTATE\tVERSION\tZONE\tOVERRIDE\tBY\tAT")
	line := func(n registry.Node, weight, state string) {
		o, ok := set[[2]string{n.Service, n.ID()}]
		delete(set, [2]string{n.Service, n.ID()})
		what, by, at := "-", "-", "-"
		if ok {
			what, by, at = o.String(), o.By, o.At.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Service, n.ID(), weight, state, dash(n.Version), dash(n.Zone), what, dash(by), at)
	}
	var unused []string
	for _, n := range nodes.Nodes {
		state := string(n.State)
		if err := trust.Check(n); err != nil {
			state = "refused"
			unused = append(unused, fmt.Sprintf("%s %s is refused: %v", n.Service, n.ID(), err))
		}
		line(n, strconv.Itoa(n.Weight), state)
	}
	for _, o := range overrides { // of nodes that are gone, and may come back
		if _, left := set[[2]string{o.Service, o.ID}]; left {
			rpc, http, _ := strings.Cut(o.ID, "_")
			line(registry.NewNode(o.Service, rpc, http), "-", "gone")
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	s := reg.Status()
	if s.Ignored > 0 {
		unused = append(unused, fmt.Sprintf("entries of etcd that cannot be read: %d (gateways name them in their logs)", s.Ignored))
	}
	for cause, n := range s.Refused {
		unused = append(unused, fmt.Sprintf("nodes that are left out, %s: %d (gateways name them in their logs)", cause, n))
	}
	for _, text := range unused {
		fmt.Fprintln(stdout, text)
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// whoAmI is user@host, for the record.
func whoAmI() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return strings.ToValidUTF8(name+"@"+host, "?")
}
