package project

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
	"github.com/goms-io/goms/pkg/trace"
)

// EnvPrefix begins the names of the environment variables that override keys of the configuration.
const EnvPrefix = "GOMS_"

// ConfigDir is where programs look for a configuration when none is named.
const ConfigDir = "configs"

// Config is the shared part of the configuration. Default returns the defaults.
type Config struct {
	// ProjectName is the name of the project all services belong to: "goms". It holds no '_'.
	ProjectName string `yaml:"projectName"`

	// CallServiceKey is what gateways and services show one another. One is required, here or in
	// CallServiceKeyFile. The Old pair is a second key that nodes accept while keys are being changed.
	CallServiceKey        string `yaml:"callServiceKey" secret:"true"`
	CallServiceKeyFile    string `yaml:"callServiceKeyFile"`
	CallServiceKeyOld     string `yaml:"callServiceKeyOld" secret:"true"`
	CallServiceKeyOldFile string `yaml:"callServiceKeyOldFile"`

	// EtcdAddr are etcd's client addresses, host:port. Without any, a gateway runs an etcd of its own,
	// and a service looks for one at embedded.DefaultAddr.
	EtcdAddr []string `yaml:"etcdAddr" split:"addrs"`
	// Etcd is the rest of what is needed to talk to etcd.
	Etcd Etcd `yaml:"etcd"`

	// NodeTLS is how gateways and services speak to nodes that publish TLS, over HTTP and gRPC. CAFile is the
	// authority of the nodes' certificates, the system's ones when it is empty; CertFile and KeyFile are shown to
	// nodes that want a certificate; ServerName is the name in every node's certificate, the host of its
	// published address when it is empty. There is no way not to check.
	NodeTLS config.TLS `yaml:"nodeTLS"`

	// NodeNetworks are the networks that nodes live in; a node elsewhere is not believed. Private and loopback ones.
	NodeNetworks []netip.Prefix `yaml:"nodeNetworks"`

	// ZipkinAddr is the URL spans are posted to, as in http://127.0.0.1:9411/api/v2/spans; "" is nowhere.
	ZipkinAddr string `yaml:"zipkinAddr"`
	// Zipkin holds the settings of tracing.
	Zipkin Zipkin `yaml:"zipkin"`

	// RedisAddr, EsAddr and AmqpAddr are for services' own use. They may hold credentials.
	RedisAddr string `yaml:"redisAddr" secret:"true"`
	EsAddr    string `yaml:"esAddr" secret:"true"`
	AmqpAddr  string `yaml:"amqpAddr" secret:"true"`

	// AdvertiseHost is the host under which others reach this process; "" is the address of the
	// interface that routes to etcd.
	AdvertiseHost string `yaml:"advertiseHost"`
	// LogFormat is "text" or "json"; LogLevel "debug", "info", "warn" or "error".
	LogFormat string `yaml:"logFormat"`
	LogLevel  string `yaml:"logLevel"`
}

// Etcd is how to talk to etcd, and how a gateway runs one of its own.
type Etcd struct {
	Username     string        `yaml:"username"`
	Password     string        `yaml:"password" secret:"true"`
	PasswordFile string        `yaml:"passwordFile"`
	TLS          config.TLS    `yaml:"tls"`
	TTL          time.Duration `yaml:"ttl"` // of a registration: 10s
	Embedded     Embedded      `yaml:"embedded"`
}

// Embedded is the etcd that a gateway runs when etcdAddr is absent.
type Embedded struct {
	Addr string `yaml:"addr"` // what it listens on: 127.0.0.1:2379
	Dir  string `yaml:"dir"`  // where its data lies: data/etcd
}

// Zipkin holds the settings of tracing.
type Zipkin struct {
	SampleRate float64 `yaml:"sampleRate"` // share of the traces begun here that are kept, 0 to 1: 1
}

// Default returns the defaults. They lack the call-service key, without which nothing runs.
func Default() Config {
	return Config{
		ProjectName: "goms",
		Etcd:        Etcd{TTL: 10 * time.Second, Embedded: Embedded{Addr: "127.0.0.1:2379", Dir: "data/etcd"}},
		Zipkin:      Zipkin{SampleRate: 1},

		NodeNetworks: registry.DefaultNodeNetworks(),

		LogFormat: "text",
		LogLevel:  "info",
	}
}

// ConfigError is a complaint about one key of the configuration.
type ConfigError struct {
	Key string // dotted path; "" is none in particular
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
	if _, err := c.Keys(); err != nil {
		all = append(all, err)
	}
	c.Etcd.complain(c.EtcdAddr, complain)
	if c.AdvertiseHost != "" {
		if err := registry.CheckHost(c.AdvertiseHost); err != nil {
			complain("advertiseHost", "%v", err)
		}
	}
	if _, err := c.NodeClientTLS(nil); err != nil && c.NodeTLS.Validate() == nil { // that complains for itself
		all = append(all, err)
	}
	if len(c.NodeNetworks) == 0 {
		complain("nodeNetworks", "no network, so no node could be called; 0.0.0.0/0 and ::/0 are all")
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
	if _, err := c.Level(); err != nil {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// The least and the longest time to live of a registration.
const (
	minTTL = time.Second
	maxTTL = time.Hour
)

// complain names what cannot be used of e and of the addresses of etcd.
func (e Etcd) complain(addrs []string, complain func(key, format string, args ...any)) {
	for _, addr := range addrs {
		if err := etcd.CheckAddr(addr, e.TLS.Enabled()); err != nil {
			complain("etcdAddr", "%v", err)
		}
	}
	if (e.Username == "") != (e.Password == "" && e.PasswordFile == "") {
		complain("etcd.username", "it and etcd.password or etcd.passwordFile go together")
	}
	if e.TTL < minTTL || e.TTL > maxTTL {
		complain("etcd.ttl", "%v is not between %v and %v", e.TTL, minTTL, maxTTL)
	}
	if _, _, err := net.SplitHostPort(e.Embedded.Addr); err != nil {
		complain("etcd.embedded.addr", "address %q: want host:port", e.Embedded.Addr)
	}
	if e.Embedded.Dir == "" {
		complain("etcd.embedded.dir", "no directory")
	}
}

// Keys returns the call-service keys. The error is a *ConfigError.
func (c Config) Keys() (*auth.CallKeys, error) {
	current, err := config.Secret(c.CallServiceKey, c.CallServiceKeyFile, "callServiceKey")
	if err != nil {
		return nil, &ConfigError{Key: "callServiceKey", Msg: err.Error()}
	}
	if current == "" {
		return nil, &ConfigError{Key: "callServiceKey", Msg: "no call-service key: write callServiceKeyFile or callServiceKey in the configuration, " +
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

// EtcdConfig returns how to open the registry in the etcd at addrs. The error is a *ConfigError.
func (c Config) EtcdConfig(addrs []string, log *slog.Logger) (etcd.Config, error) {
	password, err := config.Secret(c.Etcd.Password, c.Etcd.PasswordFile, "etcd.password")
	if err != nil {
		return etcd.Config{}, &ConfigError{Key: "etcd.password", Msg: err.Error()}
	}
	var secure *tls.Config
	if c.Etcd.TLS.Enabled() {
		if secure, err = c.Etcd.TLS.ClientConfig(log); err != nil {
			return etcd.Config{}, &ConfigError{Key: "etcd.tls", Msg: err.Error()}
		}
	}
	return etcd.Config{
		Project: c.ProjectName, Addrs: addrs, Username: c.Etcd.Username, Password: password,
		TLS: secure, TTL: c.Etcd.TTL, Log: log,
	}, nil
}

// NodeClientTLS returns how to speak to nodes that publish TLS, never nil. It reads the files; log is told when those of the
// certificate change later, or cannot be used; nil discards. The error is a *ConfigError.
func (c Config) NodeClientTLS(log *slog.Logger) (*tls.Config, error) {
	if !c.NodeTLS.Enabled() {
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	secure, err := c.NodeTLS.ClientConfig(log)
	if err != nil {
		return nil, &ConfigError{Key: "nodeTLS", Msg: err.Error()}
	}
	return secure, nil
}

// Reporter returns the reporter of spans, nil when they go nowhere.
func (c Config) Reporter(log *slog.Logger) (*trace.Reporter, error) {
	if c.ZipkinAddr == "" {
		return nil, nil
	}
	r, err := trace.NewReporter(trace.ReporterConfig{URL: c.ZipkinAddr, Log: log})
	if err != nil {
		return nil, &ConfigError{Key: "zipkinAddr", Msg: err.Error()}
	}
	return r, nil
}

// Level returns the log level. The error is a *ConfigError.
func (c Config) Level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return 0, &ConfigError{Key: "logLevel", Msg: strconv.Quote(c.LogLevel) + " is none of debug, info, warn, error"}
	}
	return level, nil
}
