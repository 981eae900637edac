package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/console"
	"github.com/goms-io/goms/pkg/project"
)

// Main is a node's whole main function: it runs the service with the command line,
// the environment and the configuration found in the directory configs, until
// SIGTERM or SIGINT, drains, and exits. A second signal, half a second later or more,
// exits at once with code 1. Main does not return.
func Main(name string, setup Setup) {
	ctx := project.UntilSignal(context.Background())
	err := Run(ctx, Options{Name: name, Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr}, setup)
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
		return project.Healthcheck(ctx, o.Config.Service.HTTPPort)
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
