package service

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"github.com/goms-io/goms/pkg/registry"
)

// Setup registers routes, gRPC services and whatever else a node does. An error
// keeps the node from starting.
type Setup func(*Service) error

// Registry is where a node registers and learns of others. etcd.Registry and
// registry.Memory are two; registry/registrytest holds them to one contract. All methods
// run beside one another. A store that is away is no error: they wait for it until the
// context is done, and return its error then. One that is a registry.Source too, as etcd's
// is, is watched as that: calls heed what operators have set for single nodes.
type Registry interface {
	// Publish makes the node known, or changes what is known of it; it returns when the
	// store holds that. When the context ends first, the node stays wanted.
	Publish(context.Context, registry.Node) error
	// Withdraw takes the node back; it returns when the store has forgotten it.
	Withdraw(context.Context, registry.Node) error
	// Watch calls the function with the whole set of nodes, then after each change, from
	// the calling goroutine.
	Watch(context.Context, func(registry.Snapshot)) error
	// Run keeps alive what was published, until the context is done.
	Run(context.Context) error
}

// Options make a node. Name is required; everything else has a default.
type Options struct {
	Name string // of the service

	// Config is the configuration; nil = DefaultConfig(). For Run it holds the
	// defaults that files, environment and flags then override. It is not modified.
	Config *Config
	// Log is the logger; nil = discard for New, and the console format on Stdout
	// for Run.
	Log *slog.Logger
	// Registry is where to register; nil = etcd at Config.EtcdAddr. The node calls
	// its Run; whoever made it closes it.
	Registry Registry

	// What follows matters to Run only.

	// Args is the command line without the program's name.
	Args []string
	// Stdout gets the console's lines, Stderr the usage errors; nil = discard.
	Stdout, Stderr io.Writer
	// Env looks up a variable of the environment; nil = the process's environment.
	Env func(string) (string, bool)
	// Flags adds a program's own flags; nil = none. They are parsed when setup is
	// called. No name may begin with the letter h alone, nor repeat one of the SDK's.
	Flags func(*pflag.FlagSet)

	asked <-chan os.Signal // SIGHUP, of Main
}
