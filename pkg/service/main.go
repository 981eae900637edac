package service

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/console"
	"github.com/goms-io/goms/pkg/project"
)

// Main is a node's whole main function: it runs the service with the command line,
// the environment and the configuration found in the directory configs, until
// SIGTERM or SIGINT, drains, and exits. A second signal, half a second later or more,
// exits at once with code 1. SIGHUP has the files of the call-service keys read again,
// and nothing else: all other settings need a restart. Main does not return.
func Main(name string, setup Setup) {
	ctx := project.UntilSignal(context.Background())
	project.OutliveLog()
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	err := Run(ctx, Options{Name: name, Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, asked: asked}, setup)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(project.ExitCode(err))
}

// Run is Main for tests and for programs with a main of their own: it runs a node
// in the calling goroutine until ctx is done and the node has drained. It writes
// nothing but to o.Stdout and o.Stderr, exits nothing, and installs no signal
// handlers. It returns nil after a clean stop, and for -h. When the first argument is
// healthcheck, it asks the node that runs on -http_port whether it lives instead.
func Run(ctx context.Context, o Options, setup Setup) error {
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	check := len(o.Args) > 0 && o.Args[0] == "healthcheck"
	if check {
		o.Args = o.Args[1:]
	}
	o, err := o.parsed()
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if check {
		secure, err := healthTLS(*o.Config)
		if err != nil {
			return err
		}
		return project.Healthcheck(ctx, o.Config.Service.HTTPPort, secure)
	}
	if o.Log == nil {
		level, err := o.Config.Level()
		if err != nil {
			return err
		}
		out := console.NewQueue(o.Stdout)
		defer out.Close(time.Second)
		o.Log, err = console.New(out, o.Config.LogFormat, o.Name, level)
		if err != nil {
			return &project.ConfigError{Key: "logFormat", Msg: err.Error()}
		}
	}
	s, err := New(o)
	if err != nil {
		return err
	}
	if setup != nil {
		if err := setup(s); err != nil {
			return fmt.Errorf("set up service %q: %w", o.Name, err)
		}
	}
	return s.Run(ctx)
}

// healthTLS is how the node on this host is asked whether it lives; nil is plain. The
// certificate to expect is its own, signed by the authority of all nodes or, where that
// is not named, known by its file.
func healthTLS(c Config) (*tls.Config, error) {
	own := c.Service.TLS
	if !own.enabled() {
		return nil, nil
	}
	t := config.TLS{CAFile: cmp.Or(c.NodeTLS.CAFile, own.CertFile), CertFile: own.CertFile, KeyFile: own.KeyFile}
	secure, err := t.ClientConfig(nil)
	if err != nil {
		return nil, &project.ConfigError{Key: "service.tls", Msg: err.Error()}
	}
	secure.GetClientCertificate = nil // this is asked once
	switch leaf := secure.Certificates[0].Leaf; {
	case len(leaf.DNSNames) > 0:
		secure.ServerName = strings.Replace(leaf.DNSNames[0], "*", "any", 1)
	case len(leaf.IPAddresses) > 0:
		secure.ServerName = leaf.IPAddresses[0].String()
	default:
		return nil, &project.ConfigError{Key: "service.tls", Msg: fmt.Sprintf("certFile %q: the certificate names neither a host nor an address", own.CertFile)}
	}
	if c.NodeTLS.CertFile != "" { // what is shown to other nodes serves here too
		if secure.Certificates[0], err = tls.LoadX509KeyPair(c.NodeTLS.CertFile, c.NodeTLS.KeyFile); err != nil {
			return nil, &project.ConfigError{Key: "nodeTLS", Msg: err.Error()}
		}
	}
	return secure, nil
}

// parsed reads flags, file and environment into o.Config and o.Name.
func (o Options) parsed() (Options, error) {
	c := DefaultConfig()
	if o.Config != nil {
		c = *o.Config
	}
	o.Config = &c
	f := newFlags(o.Name)
	if o.Flags != nil {
		o.Flags(f.set)
	}
	f.set.Usage = func() { fmt.Fprint(o.Stdout, f.usage()) }
	if err := config.ParseFlags(f.set, o.Args); err != nil {
		return o, err
	}
	if words := f.set.Args(); len(words) > 0 {
		return o, &config.UsageError{Err: fmt.Errorf("unexpected argument %q", words[0])}
	}
	o.Name = f.name
	path := f.config
	if !f.set.Changed("config") {
		if info, err := os.Stat(project.ConfigDir); err == nil && info.IsDir() {
			path = project.ConfigDir
		}
	}
	err := config.Load(path, &c, config.Options{Env: o.Env, EnvPrefix: project.EnvPrefix, Apply: func() { f.apply(&c) }})
	return o, err
}
