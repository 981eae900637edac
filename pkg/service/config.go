package service

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
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
	// ProjectName is the name of the project all services belong to, "goms" by
	// default. It holds no '_'.
	ProjectName string `yaml:"projectName"`

	// CallServiceKey is the key that callers of a node must show. One is required,
	// here or in CallServiceKeyFile. The Old pair is a second key that is accepted
	// while keys are being changed, and never sent.
	CallServiceKey        string `yaml:"callServiceKey" secret:"true"`
	CallServiceKeyFile    string `yaml:"callServiceKeyFile"`
	CallServiceKeyOld     string `yaml:"callServiceKeyOld" secret:"true"`
	CallServiceKeyOldFile string `yaml:"callServiceKeyOldFile"`

	// EtcdAddr are the addresses of etcd, "127.0.0.1:2379" by default.
	EtcdAddr []string `yaml:"etcdAddr" split:"addrs"`
	// Etcd is the rest of what is needed to talk to etcd.
	Etcd Etcd `yaml:"etcd" open:"true"`

	// ZipkinAddr is the URL spans are posted to, as in
	// http://127.0.0.1:9411/api/v2/spans; "" = nowhere.
	ZipkinAddr string `yaml:"zipkinAddr"`
	// Zipkin holds the settings of tracing.
	Zipkin Zipkin `yaml:"zipkin"`

	// RedisAddr, EsAddr and AmqpAddr are for the program: the SDK does not use them.
	// They may hold credentials.
	RedisAddr string `yaml:"redisAddr" secret:"true"`
	EsAddr    string `yaml:"esAddr" secret:"true"`
	AmqpAddr  string `yaml:"amqpAddr" secret:"true"`

	// AdvertiseHost is the host under which others reach this node; "" = the address
	// of the interface that routes to etcd.
	AdvertiseHost string `yaml:"advertiseHost"`
	// LogFormat is "text" or "json"; LogLevel "debug", "info", "warn" or "error".
	LogFormat string `yaml:"logFormat"`
	LogLevel  string `yaml:"logLevel"`

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

// Etcd is how a node talks to etcd. What else stands there (a gateway's embedded
// etcd) is ignored.
type Etcd struct {
	Username     string        `yaml:"username"`
	Password     string        `yaml:"password" secret:"true"`
	PasswordFile string        `yaml:"passwordFile"`
	TLS          config.TLS    `yaml:"tls"`
	TTL          time.Duration `yaml:"ttl"` // of the registration; 0 = 10s
}

// Zipkin holds the settings of tracing.
type Zipkin struct {
	SampleRate float64 `yaml:"sampleRate"` // share of the traces begun here that are kept, 0 to 1; 1 by default
}

// NodeConfig holds what is particular to nodes.
type NodeConfig struct {
	ListenHost string `yaml:"listenHost"` // host or IP both ports listen on; "" = all
	HTTPPort   int    `yaml:"httpPort"`   // 9080 by default; 0 = any free one
	RPCPort    int    `yaml:"rpcPort"`    // 9180 by default; 0 = any free one
	Weight     int    `yaml:"weight"`     // share of the requests, 0 to 1000; 1 by default
	Version    string `yaml:"version"`    // told to the registry
	Zone       string `yaml:"zone"`       // told to the registry

	// TrustedProxies are the addresses (IP or CIDR) whose X-Forwarded-For Gin's
	// ClientIP believes. None by default: anybody can write that header.
	TrustedProxies []string `yaml:"trustedProxies"`

	// DrainDelay is how long a node that leaves keeps serving as if nothing had
	// happened, so that gateways have moved away before it closes a connection; 2s by
	// default. DrainTimeout is how long requests in flight then have to finish; 30s.
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

// DefaultConfig returns the defaults. They lack the call-service key, without which
// nothing runs.
func DefaultConfig() Config {
	return Config{
		ProjectName: "goms",
		EtcdAddr:    []string{DefaultEtcdAddr},
		Zipkin:      Zipkin{SampleRate: 1},
		LogFormat:   "text",
		LogLevel:    "info",
		Service: NodeConfig{
			HTTPPort:          DefaultHTTPPort,
			RPCPort:           DefaultRPCPort,
			Weight:            1,
			DrainDelay:        2 * time.Second,
			DrainTimeout:      30 * time.Second,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       time.Minute,
			WriteTimeout:      time.Minute,
			IdleTimeout:       2 * time.Minute,
		},
	}
}

// ConfigError is a complaint about one key of the configuration.
type ConfigError struct {
	Key string // dotted path; "" = none in particular
	Msg string
}

// Error returns "key: message".
func (e *ConfigError) Error() string {
	if e.Key == "" {
		return e.Msg
	}
	return e.Key + ": " + e.Msg
}

// ConfigKey returns the key the complaint is about.
func (e *ConfigError) ConfigKey() string { return e.Key }

// Validate returns nil or all complaints, joined; each is a *ConfigError.
func (c Config) Validate() error {
	var all []error
	complain := func(key, format string, args ...any) {
		all = append(all, &ConfigError{Key: key, Msg: fmt.Sprintf(format, args...)})
	}
	if err := registry.CheckProject(c.ProjectName); err != nil {
		complain("projectName", "%v", err)
	}
	if _, err := c.keys(); err != nil {
		all = append(all, err)
	}
	if len(c.EtcdAddr) == 0 {
		complain("etcdAddr", "no address; write host:port, as in %q", DefaultEtcdAddr)
	}
	for _, addr := range c.EtcdAddr {
		if _, _, err := net.SplitHostPort(addr); err != nil && !strings.Contains(addr, "://") {
			complain("etcdAddr", "address %q: want host:port", addr)
		}
	}
	if u, err := url.Parse(c.ZipkinAddr); c.ZipkinAddr != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		complain("zipkinAddr", "want a URL, as in http://127.0.0.1:9411/api/v2/spans")
	}
	if !(c.Zipkin.SampleRate >= 0 && c.Zipkin.SampleRate <= 1) {
		complain("zipkin.sampleRate", "%v is not between 0 and 1", c.Zipkin.SampleRate)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		complain("logFormat", "%q is neither text nor json", c.LogFormat)
	}
	if _, err := logLevel(c.LogLevel); err != nil {
		all = append(all, err)
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
	}{{"drainTimeout", n.DrainTimeout}, {"readHeaderTimeout", n.ReadHeaderTimeout}, {"readTimeout", n.ReadTimeout},
		{"writeTimeout", n.WriteTimeout}, {"idleTimeout", n.IdleTimeout}} {
		if d.d <= 0 {
			complain(d.key, "%v is not positive", d.d)
		}
	}
}

// keys returns the call-service keys; the error is a *ConfigError.
func (c Config) keys() (*auth.CallKeys, error) {
	current, err := config.Secret(c.CallServiceKey, c.CallServiceKeyFile, "callServiceKey")
	if err != nil {
		return nil, &ConfigError{Key: "callServiceKey", Msg: err.Error()}
	}
	if current == "" {
		return nil, &ConfigError{Key: "callServiceKey", Msg: "no call-service key: write callServiceKey or callServiceKeyFile in the configuration, " +
			"or set GOMS_CALL_SERVICE_KEY in the environment, to the same secret for gateways and services (make one with: openssl rand -hex 32)"}
	}
	all := []string{current}
	old, err := config.Secret(c.CallServiceKeyOld, c.CallServiceKeyOldFile, "callServiceKeyOld")
	if err != nil {
		return nil, &ConfigError{Key: "callServiceKeyOld", Msg: err.Error()}
	}
	if old != "" {
		all = append(all, old)
	}
	keys, err := auth.NewCallKeys(all...)
	if err != nil {
		return nil, &ConfigError{Key: "callServiceKey", Msg: err.Error()}
	}
	return keys, nil
}

// etcd returns the configuration of the registry in etcd.
func (c Config) etcd(log *slog.Logger) (etcd.Config, error) {
	password, err := config.Secret(c.Etcd.Password, c.Etcd.PasswordFile, "etcd.password")
	if err != nil {
		return etcd.Config{}, &ConfigError{Key: "etcd.password", Msg: err.Error()}
	}
	var secure *tls.Config
	if c.Etcd.TLS.Enabled() {
		if secure, err = c.Etcd.TLS.ClientConfig(); err != nil {
			return etcd.Config{}, &ConfigError{Key: "etcd.tls", Msg: err.Error()}
		}
	}
	return etcd.Config{Project: c.ProjectName, Addrs: c.EtcdAddr, Username: c.Etcd.Username, Password: password,
		TLS: secure, TTL: c.Etcd.TTL, Log: log}, nil
}

func logLevel(name string) (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return 0, &ConfigError{Key: "logLevel", Msg: strconv.Quote(name) + " is none of debug, info, warn, error"}
	}
	return level, nil
}
