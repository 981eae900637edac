package service

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/goms-io/goms/pkg/certs"
	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/registry"
)

// The defaults of a node's addresses.
const (
	DefaultHTTPPort = 9080
	DefaultRPCPort  = 9180
	DefaultEtcdAddr = "127.0.0.1:2379"
)

// Config is the configuration of a project, as nodes read it: one YAML tree, in one
// file or a directory, shared by gateways and services. Make one with DefaultConfig.
type Config struct {
	// The part that gateways and services share.
	project.Config `yaml:",inline"`

	// Services are the actions of each service, and their paths at its nodes. The
	// SDK needs them for Call.
	Services map[string]map[string]Action `yaml:"services" open:"true"`

	// Gateway is read by gateways only.
	Gateway any `yaml:"gateway" open:"true"`
	// Service is read by nodes only.
	Service NodeConfig `yaml:"service"`
}

// Action is one action of a service. In YAML it is its path, or a mapping with at
// least the path; the rest of the mapping is the gateway's.
type Action struct {
	Path string `yaml:"path"` // at a node, as in "/login"
}

// UnmarshalText reads the short form: the path.
func (a *Action) UnmarshalText(text []byte) error {
	a.Path = string(text)
	return nil
}

// NodeConfig holds what is particular to nodes.
type NodeConfig struct {
	ListenHost string `yaml:"listenHost"` // host or IP both ports listen on; "" = all
	HTTPPort   int    `yaml:"httpPort"`   // 9080 by default; 0 = any free one
	RPCPort    int    `yaml:"rpcPort"`    // 9180 by default; 0 = any free one
	Weight     int    `yaml:"weight"`     // share of the requests, 0 to 1000; 1 by default
	Version    string `yaml:"version"`    // told to the registry
	Zone       string `yaml:"zone"`       // told to the registry
	Backup     bool   `yaml:"backup"`     // requests come only when no other node can take them

	// TLS makes both ports speak TLS and nothing else, and is published; without files
	// they are plain.
	TLS ServerTLS `yaml:"tls"`

	// MaxInFlight is how many HTTP requests and RPC calls together the node has in its
	// handlers at once; a further one is answered 503, or codes.Unavailable, before its
	// handler, so that gateways and services take it to another node. Health checks and
	// reflection do not count. 0, the default, is any number.
	MaxInFlight int `yaml:"maxInFlight"`

	// TrustedProxies are the addresses (IP or CIDR) whose X-Forwarded-For Gin's
	// ClientIP believes. None by default: anybody can write that header.
	TrustedProxies []string `yaml:"trustedProxies"`

	// DrainDelay is how long a node that leaves keeps serving as if nothing had
	// happened, so that gateways have moved away before it closes a connection; 2s by
	// default. In its second half requests that their sender can take to another node are
	// refused before their handler. DrainTimeout is how long requests in flight then have to finish; 30s.
	DrainDelay   time.Duration `yaml:"drainDelay"`
	DrainTimeout time.Duration `yaml:"drainTimeout"`

	// ReadHeaderTimeout bounds the head of a request (10s by default), IdleTimeout an
	// unused connection (120s). ReadTimeout and WriteTimeout bound one pause within a
	// request's body and an answer (60s), not the whole of it.
	ReadHeaderTimeout time.Duration `yaml:"readHeaderTimeout"`
	ReadTimeout       time.Duration `yaml:"readTimeout"`
	WriteTimeout      time.Duration `yaml:"writeTimeout"`
	IdleTimeout       time.Duration `yaml:"idleTimeout"`
}

// ServerTLS is the certificate of a node. Changed files are taken up within seconds;
// broken ones keep what was there. How to speak to other nodes is nodeTLS.
type ServerTLS struct {
	CertFile     string `yaml:"certFile"`     // PEM, the chain from leaf to root
	KeyFile      string `yaml:"keyFile"`      // PEM
	ClientCAFile string `yaml:"clientCAFile"` // gateways and services must show a certificate of one of these authorities; "" asks for none
}

func (t ServerTLS) enabled() bool { return t != ServerTLS{} }

// options are for certs.Open. Towards nodes HTTP is HTTP/1.1; gRPC adds what it needs.
func (t ServerTLS) options(log *slog.Logger) certs.Options {
	return certs.Options{
		Pairs:        []certs.Pair{{CertFile: t.CertFile, KeyFile: t.KeyFile}},
		ClientCAFile: t.ClientCAFile, Protocols: []string{"http/1.1"}, Log: log,
	}
}

// DefaultConfig returns the defaults. They lack the call-service key, without which
// nothing runs.
func DefaultConfig() Config {
	shared := project.Default()
	shared.EtcdAddr = []string{DefaultEtcdAddr}
	return Config{
		Config: shared,
		Service: NodeConfig{
			HTTPPort:          DefaultHTTPPort,
			RPCPort:           DefaultRPCPort,
			Weight:            1,
			DrainDelay:        2 * time.Second,
			DrainTimeout:      30 * time.Second,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       time.Minute,
			WriteTimeout:      time.Minute,
			IdleTimeout:       registry.DefaultIdle,
		},
	}
}

// Validate returns nil or all complaints, joined; each is a *project.ConfigError.
func (c Config) Validate() error {
	all := []error{c.Config.Validate()}
	complain := func(key, format string, args ...any) {
		all = append(all, &project.ConfigError{Key: key, Msg: fmt.Sprintf(format, args...)})
	}
	if len(c.EtcdAddr) == 0 {
		complain("etcdAddr", "no address; write host:port, as in %q", DefaultEtcdAddr)
	}
	for service, actions := range c.Services {
		for action, a := range actions {
			if !strings.HasPrefix(a.Path, "/") {
				complain("services."+service+"."+action, "path %q does not begin with /", a.Path)
			}
		}
	}
	c.Service.complain(func(key, format string, args ...any) { complain("service."+key, format, args...) })
	return errors.Join(all...)
}

func (n NodeConfig) complain(complain func(key, format string, args ...any)) {
	for _, p := range []struct {
		key  string
		port int
	}{{"httpPort", n.HTTPPort}, {"rpcPort", n.RPCPort}} {
		if p.port < 0 || p.port > 65535 {
			complain(p.key, "%d is no port", p.port)
		}
	}
	if n.HTTPPort != 0 && n.HTTPPort == n.RPCPort {
		complain("rpcPort", "%d is the HTTP port too", n.RPCPort)
	}
	if n.Weight < 0 || n.Weight > 1000 {
		complain("weight", "%d is not between 0 and 1000", n.Weight)
	}
	if n.TLS.enabled() {
		if _, err := certs.Open(n.TLS.options(nil)); err != nil {
			complain("tls", "%v", err)
		}
	}
	if n.MaxInFlight < 0 {
		complain("maxInFlight", "%d is negative; 0 is any number", n.MaxInFlight)
	}
	for _, proxy := range n.TrustedProxies {
		_, err := netip.ParsePrefix(proxy)
		if _, notIP := netip.ParseAddr(proxy); err != nil && notIP != nil {
			complain("trustedProxies", "%q is neither an address nor a range (CIDR)", proxy)
		}
	}
	if n.DrainDelay < 0 {
		complain("drainDelay", "%v is negative", n.DrainDelay)
	}
	for _, d := range []struct {
		key string
		d   time.Duration
	}{
		{"drainTimeout", n.DrainTimeout},
		{"readHeaderTimeout", n.ReadHeaderTimeout},
		{"readTimeout", n.ReadTimeout},
		{"writeTimeout", n.WriteTimeout},
		{"idleTimeout", n.IdleTimeout},
	} {
		if d.d <= 0 {
			complain(d.key, "%v is not positive", d.d)
		}
	}
}
