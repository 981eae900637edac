package service

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/project"
)

// flags is the command line of a node. Names are written as in the documentation,
// with _; config.ParseFlags takes the other spellings.
type flags struct {
	set          *pflag.FlagSet
	name, config string

	httpPort, rpcPort, weight int
	etcdAddr, advertiseHost   string
	version, zone             string
	logFormat, logLevel       string
}

func newFlags(name string) *flags {
	f := &flags{set: pflag.NewFlagSet(name, pflag.ContinueOnError)}
	f.set.SortFlags = false
	f.set.IntVar(&f.httpPort, "http_port", DefaultHTTPPort, "HTTP `port`; 0 = any free one")
	f.set.IntVar(&f.rpcPort, "rpc_port", DefaultRPCPort, "RPC `port`; 0 = any free one")
	f.set.StringVar(&f.etcdAddr, "etcd_addr", "", "`addresses` of etcd, as in 10.0.0.1:2379|10.0.0.2:2379 (default "+DefaultEtcdAddr+")")
	f.set.StringVar(&f.advertiseHost, "advertise_host", "", "`host` under which others reach this node (default: the one that routes to etcd)")
	f.set.IntVar(&f.weight, "weight", 1, "share of the requests relative to other nodes; 0 = none")
	f.set.StringVar(&f.version, "version", "", "version of the service, for the registry")
	f.set.StringVar(&f.zone, "zone", "", "zone of the node, for the registry")
	f.set.StringVar(&f.name, "name", name, "name of the service")
	f.set.StringVar(&f.config, "config", "", "configuration `file or directory` (default: "+project.ConfigDir+", if it is there)")
	f.set.StringVar(&f.logFormat, "log_format", "text", "text or json")
	f.set.StringVar(&f.logLevel, "log_level", "info", "debug, info, warn or error")
	return f
}

// apply puts the flags that were given over what the files and the environment said.
func (f *flags) apply(c *Config) {
	given := map[string]func(){
		"http_port":      func() { c.Service.HTTPPort = f.httpPort },
		"rpc_port":       func() { c.Service.RPCPort = f.rpcPort },
		"etcd_addr":      func() { c.EtcdAddr = config.SplitAddrs(f.etcdAddr) },
		"advertise_host": func() { c.AdvertiseHost = f.advertiseHost },
		"weight":         func() { c.Service.Weight = f.weight },
		"version":        func() { c.Service.Version = f.version },
		"zone":           func() { c.Service.Zone = f.zone },
		"log_format":     func() { c.LogFormat = f.logFormat },
		"log_level":      func() { c.LogLevel = f.logLevel },
	}
	for name, set := range given {
		if f.set.Changed(name) {
			set()
		}
	}
}

func (f *flags) usage() string {
	return fmt.Sprintf("Usage: %[1]s [flags]              run a node of a goms project\n       %[1]s healthcheck [flags]  ask the node on -http_port whether it lives\n\nFlags (one dash or two, _ or -):\n%s\n", f.name, strings.TrimSuffix(f.set.FlagUsages(), "\n"))
}
