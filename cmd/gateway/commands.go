package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/project"
)

// run is main without the process around it: it carries out the command line and returns when it is
// done, a gateway when ctx is.
func run(ctx context.Context, args []string, stdout, _ io.Writer) error {
	return command(ctx, args, stdout, nil)
}

// command is run for a process that another can replace, if replace is not nil.
func command(ctx context.Context, args []string, stdout io.Writer, replace func() (*upgrades, error)) error {
	name := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	f := newFlags()
	var err error
	switch name {
	case "serve":
		err = serve(ctx, f, args, stdout, replace)
	case "check":
		err = check(f, args, stdout)
	case "config":
		err = printConfig(f, args, stdout)
	case "node":
		err = nodeCommand(ctx, f, args, stdout)
	case "routes":
		err = routesCommands(ctx, f, args, stdout)
	case "healthcheck":
		err = healthcheck(ctx, f, args)
	case "version":
		fmt.Fprintln(stdout, "gateway", version)
	default:
		err = &config.UsageError{Err: fmt.Errorf("unknown command %q%s", name, suggestion(name))}
	}
	if errors.Is(err, pflag.ErrHelp) {
		usage(stdout, f)
		return nil
	}
	if _, ok := errors.AsType[*config.UsageError](err); ok {
		help := "gateway"
		if name == "node" || name == "routes" {
			help += " " + name
		}
		return fmt.Errorf("%w (%s -h lists what there is)", err, help)
	}
	return err
}

// commandNames are the commands there are.
var commandNames = []string{"serve", "check", "config", "healthcheck", "node", "routes", "version"}

func suggestion(command string) string {
	if near := config.Suggest(command, commandNames); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}

func usage(w io.Writer, f *flags) {
	fmt.Fprintf(w, `Usage: gateway [serve|check|config|healthcheck|node|routes|version] [flags]

  serve        run the gateway (when no command is given)
  check        check the configuration: OK or every complaint, exit code 0 or 3
  config       print the effective configuration, secrets masked
  healthcheck  ask the gateway on this host's HTTP port whether it lives, exit code 0 or 1
  node         list the nodes in etcd, or drain, undrain, weigh or reset one for all gateways
  routes       push, pull, list, diff or rollback the route table in etcd (gateway routes -h); diff has exit code 1 when there is a difference, 2 or 3 after an error
  version      print the version

Flags (one dash or two, _ or -):
%s`, f.set.FlagUsages())
}

// check says whether the configuration could be run.
func check(f *flags, args []string, stdout io.Writer) error {
	c, err := load(f, args)
	if err != nil {
		return err
	}
	if keys, err := c.Project.Keys(); err == nil && keys.Weak() != "" {
		fmt.Fprintln(stdout, "warning: callServiceKey: "+keys.Weak())
	}
	for _, text := range c.idlePolicies() {
		fmt.Fprintln(stdout, "warning: "+text)
	}
	fmt.Fprintln(stdout, "OK")
	return nil
}

// printConfig prints what the files, the environment and the flags come to.
func printConfig(f *flags, args []string, stdout io.Writer) error {
	c, err := load(f, args)
	if err != nil {
		return err
	}
	return config.Dump(stdout, c)
}

// healthcheck is for containers without a shell.
func healthcheck(ctx context.Context, f *flags, args []string) error {
	if err := config.ParseFlags(f.set, args); err != nil {
		return err
	}
	return project.Healthcheck(ctx, f.httpPort, nil)
}
