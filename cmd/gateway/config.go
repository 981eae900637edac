package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/goms-io/goms/pkg/certs"
	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/route"
)

// Config is the whole configuration tree, as a gateway reads it.
type Config struct {
	Project project.Config `yaml:",inline"`
	// Services are the routes: service, action, and the path at the service's nodes or a mapping.
	Services route.Services `yaml:"services"`
	// Gateway is read by gateways only.
	Gateway Gateway `yaml:"gateway"`
	// Service is read by services only.
	Service any `yaml:"service" open:"true"`
}

// Gateway is the section of the configuration that is the gateways' own.
type Gateway struct {
	ListenHost string `yaml:"listenHost"` // host or IP that the HTTP and RPC ports listen on; "" is all
	HTTPPort   int    `yaml:"httpPort"`   // 8080; 0 is any free one
	RPCPort    int    `yaml:"rpcPort"`    // 8180; 0 is any free one
	AdminHost  string `yaml:"adminHost"`  // 127.0.0.1
	AdminPort  int    `yaml:"adminPort"`  // the HTTP port + 200 when absent (-1), 0 is any free one
	Prefix     string `yaml:"prefix"`     // of all routes: /api
	H2C        bool   `yaml:"h2c"`        // HTTP/2 without TLS on the HTTP port, for clients that begin with it: false

	// SnapshotFile is where the nodes are kept for a start without etcd, "" nowhere: data/{projectName}.nodes.
	SnapshotFile string `yaml:"snapshotFile"`

	// RoutesFrom is where the routes come from: "file" is services of the configuration, "etcd" the table that gateway routes
	// push has put there, and until then services. RoutesFile is where that is kept for a start without etcd, "" nowhere.
	RoutesFrom string `yaml:"routesFrom"` // file
	RoutesFile string `yaml:"routesFile"` // data/{projectName}.routes

	// TLS is the HTTPS listener: there is one when there are certificates, or hosts to obtain them for.
	TLS TLS `yaml:"tls"`

	// ProxyProtocol are the networks whose connections to the HTTP, HTTPS and redirect ports begin with a PROXY
	// header.
	ProxyProtocol []netip.Prefix `yaml:"proxyProtocol"`
	// Listeners are further addresses for clients.
	Listeners []Listener `yaml:"listeners"`

	gateway.Settings `yaml:",inline"`
}

// TLS is the HTTPS listener, for HTTP/2 and HTTP/1.1.
type TLS struct {
	Port         int          `yaml:"port"`         // 8443; 0 is any free one
	Certificates []certs.Pair `yaml:"certificates"` // chosen by the host name; the first is for all others
	ACME         ACME         `yaml:"acme"`         // obtains more of them
	ClientCAFile string       `yaml:"clientCAFile"` // clients must have a certificate of one of these authorities; "" asks for none
	RedirectPort int          `yaml:"redirectPort"` // plain HTTP that only names the HTTPS address; -1 is none
}

func (t TLS) enabled() bool { return len(t.Certificates) > 0 || len(t.ACME.Hosts) > 0 }

func defaultConfig() Config {
	return Config{
		Project: project.Default(),
		Gateway: Gateway{HTTPPort: 8080, RPCPort: 8180, AdminHost: "127.0.0.1", AdminPort: -1, Prefix: route.DefaultPrefix, SnapshotFile: "data/{projectName}.nodes", RoutesFrom: routesFromFile, RoutesFile: "data/{projectName}.routes", TLS: TLS{Port: 8443, RedirectPort: -1}, Settings: gateway.DefaultSettings()},
	}
}

// Validate returns all complaints, joined.
func (c *Config) Validate() error {
	var all []error
	complain := func(key, format string, args ...any) {
		all = append(all, &project.ConfigError{Key: key, Msg: fmt.Sprintf(format, args...)})
	}
	g := &c.Gateway
	for _, p := range []struct {
		key  string
		port int
		none bool // -1 is a value of its own
	}{
		{"gateway.httpPort", g.HTTPPort, false},
		{"gateway.rpcPort", g.RPCPort, false},
		{"gateway.adminPort", g.AdminPort, true},
		{"gateway.tls.port", g.TLS.Port, false},
		{"gateway.tls.redirectPort", g.TLS.RedirectPort, true},
	} {
		if p.port > 65535 || p.port < 0 && !(p.none && p.port == -1) {
			complain(p.key, "%d is no port", p.port)
		}
	}
	if g.HTTPPort != 0 && g.HTTPPort == g.RPCPort {
		complain("gateway.rpcPort", "%d is the HTTP port too", g.RPCPort)
	}
	if _, err := route.New(g.Prefix, nil); err != nil {
		complain("gateway.prefix", "%v", err)
	}
	if g.RoutesFrom != routesFromFile && g.RoutesFrom != routesFromEtcd {
		complain("gateway.routesFrom", "%q is neither file nor etcd", g.RoutesFrom)
	}
	g.TLS.validate(complain)
	for i, l := range g.Listeners {
		if l.TLS && !g.TLS.enabled() {
			complain(fmt.Sprintf("gateway.listeners[%d].tls", i), "there are no certificates: it needs gateway.tls.certificates or gateway.tls.acme")
		}
	}
	return errors.Join(all...)
}

// adminAddr is what the admin listener listens on.
func (g *Gateway) adminAddr(httpPort int) string {
	port := g.AdminPort
	if port < 0 {
		if port = httpPort + 200; port > 65535 {
			port = 0
		}
	}
	return net.JoinHostPort(g.AdminHost, strconv.Itoa(port))
}

// flags is the command line.
type flags struct {
	set    *pflag.FlagSet
	config string // as given; load sets the default
	found  string // the default of a load before, which stays it though nothing is there any more

	httpPort, rpcPort, adminPort int
	etcdAddr, advertiseHost      string
	logFormat, logLevel          string
}

func newFlags() *flags {
	f := &flags{set: pflag.NewFlagSet("gateway", pflag.ContinueOnError)}
	f.set.SortFlags = false
	f.set.Usage = func() {}
	f.set.StringVar(&f.config, "config", "", "configuration `file or directory` (default: "+project.ConfigDir+", if it is there)")
	f.set.IntVar(&f.httpPort, "http_port", 8080, "HTTP `port`; 0 = any free one")
	f.set.IntVar(&f.rpcPort, "rpc_port", 8180, "RPC `port`; 0 = any free one")
	f.set.IntVar(&f.adminPort, "admin_port", 8280, "`port` for operators, on loopback (default: the HTTP port + 200); 0 = any free one")
	f.set.Lookup("admin_port").DefValue = "0" // so that it is not shown
	f.set.StringVar(&f.etcdAddr, "etcd_addr", "", "`addresses` of etcd, as in 10.0.0.1:2379|10.0.0.2:2379 (default: one inside this process)")
	f.set.StringVar(&f.advertiseHost, "advertise_host", "", "`host` under which others reach this gateway (default: the one that routes to etcd)")
	f.set.StringVar(&f.logFormat, "log_format", "text", "text or json")
	f.set.StringVar(&f.logLevel, "log_level", "info", "debug, info, warn or error")
	return f
}

// apply puts the flags that were given over what files and environment said.
func (f *flags) apply(c *Config) {
	given := map[string]func(){
		"http_port":      func() { c.Gateway.HTTPPort = f.httpPort },
		"rpc_port":       func() { c.Gateway.RPCPort = f.rpcPort },
		"admin_port":     func() { c.Gateway.AdminPort = f.adminPort },
		"etcd_addr":      func() { c.Project.EtcdAddr = config.SplitAddrs(f.etcdAddr) },
		"advertise_host": func() { c.Project.AdvertiseHost = f.advertiseHost },
		"log_format":     func() { c.Project.LogFormat = f.logFormat },
		"log_level":      func() { c.Project.LogLevel = f.logLevel },
	}
	for name, set := range given {
		if f.set.Changed(name) {
			set()
		}
	}
}

// unexpected is the complaint about a word behind the flags.
func unexpected(word string) error {
	if slices.Contains(commandNames, word) {
		return &config.UsageError{Err: fmt.Errorf("unexpected argument %q: %s", word, commandFirst)}
	}
	return &config.UsageError{Err: fmt.Errorf("unexpected argument %q", word)}
}

// load parses the command line and loads the configuration.
func load(f *flags, args []string) (*Config, error) {
	if err := config.ParseFlags(f.set, args); err != nil {
		return nil, err
	}
	if f.set.NArg() > 0 {
		return nil, unexpected(f.set.Arg(0))
	}
	if f.config == "" {
		f.config = f.found
	}
	if f.config == "" {
		if _, err := os.Stat(project.ConfigDir); err == nil {
			f.config = project.ConfigDir
		}
	}
	c := defaultConfig()
	err := config.Load(f.config, &c, config.Options{EnvPrefix: project.EnvPrefix, Apply: func() { f.apply(&c) }})
	return &c, err
}
