package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/route"
)

// lookInterval is how often the configuration's files are looked at. A change is taken when two looks in a row saw the
// same, because a file may be seen half written.
const lookInterval = time.Second

// errNoRouteLeft refuses a change that is hardly ever meant: a file that was lost, or is being written anew.
var errNoRouteLeft = &project.ConfigError{Key: "services", Msg: "no route is left, which would take all away (if that is meant, restart)"}

// live compiles what the gateway works by and may be given anew.
func (c *Config) live() (gateway.Live, error) {
	keys, err := c.Project.Keys()
	if err != nil {
		return gateway.Live{}, err
	}
	routes, err := route.New(c.Gateway.Prefix, c.Services)
	if err != nil {
		return gateway.Live{}, err
	}
	return gateway.Live{Routes: routes, Keys: keys, Settings: c.Gateway.Settings}, nil
}

// takeLive takes from next what may change while the gateway runs.
func (c *Config) takeLive(next *Config) {
	c.Services = next.Services
	c.Gateway.Prefix, c.Gateway.Settings = next.Gateway.Prefix, next.Gateway.Settings
	p, n := &c.Project, &next.Project
	p.CallServiceKey, p.CallServiceKeyFile = n.CallServiceKey, n.CallServiceKeyFile
	p.CallServiceKeyOld, p.CallServiceKeyOldFile = n.CallServiceKeyOld, n.CallServiceKeyOldFile
	p.LogLevel = n.LogLevel
}

// reloader follows the configuration: its files, and SIGHUP.
type reloader struct {
	p      *process
	load   func() (*Config, error) // anew, from the same command line
	path   string                  // of the configuration; "" is none
	config *Config                 // what is in use
	asked  chan os.Signal

	served, seen string // digests: of what is in use or was refused, and of what the last look saw
	fixed        *fixed // files that are not read again
	refused      error  // why the files that were read last are not in use; nil when they are
}

// listen takes SIGHUP over from now on: one that comes while the gateway starts must not end it.
func (r *reloader) listen() {
	r.asked = make(chan os.Signal, 1)
	signal.Notify(r.asked, syscall.SIGHUP)
}

// run looks for changes until ctx is done, but waits a little until the gateway has told of itself, so that it tells of what has
// changed after that.
func (r *reloader) run(ctx context.Context, published <-chan struct{}) {
	r.served = r.digest()
	r.seen, r.fixed = r.served, newFixed(r.config)
	r.p.await(ctx, published)
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.asked:
			r.served = r.digest()
			r.reload(ctx)
			r.tellFixed(true)
		case news := <-r.p.stored.changed():
			r.takeStored(ctx, news)
		case <-look.C:
			r.p.stored.save()
			r.tellFixed(false)
			if now := r.digest(); now != r.seen {
				r.seen = now
			} else if now != r.served {
				r.served = now
				r.reload(ctx)
			}
		}
	}
}

// digest tells one content of all files from another. What cannot be read has a digest too: its error.
func (r *reloader) digest() string {
	p := &r.config.Project
	var all strings.Builder
	for _, path := range []string{r.path, p.CallServiceKeyFile, p.CallServiceKeyOldFile} {
		d, err := config.Digest(path)
		fmt.Fprintln(&all, d, err)
	}
	return all.String()
}

// reload takes in the configuration, or says why it cannot and stays with the one before.
func (r *reloader) reload(ctx context.Context) {
	next, err := r.load()
	if err == nil {
		err = r.take(ctx, next)
	}
	if err = brief(err); err != nil {
		r.p.log.Error("the configuration cannot be used, the one before stays", "err", err)
	}
	r.refused = err
	r.report()
}

func (r *reloader) take(ctx context.Context, next *Config) error {
	now := *r.config
	now.takeLive(next)
	if fixed := config.Changed(&now, next); len(fixed) > 0 {
		r.p.log.Warn("these changes of the configuration need a restart", "keys", strings.Join(fixed, " "))
	}
	r.p.stored.over(&now)
	if countRoutes(now.Services) == 0 && countRoutes(r.config.Services) > 0 {
		return errNoRouteLeft
	}
	l, err := now.live()
	if err != nil {
		return err
	}
	changed := config.Changed(r.config, &now)
	if len(changed) == 0 && l.Keys.Equal(r.p.keys.Load()) {
		r.p.log.Info("configuration read again, nothing in it has changed")
		return nil
	}
	level, err := now.Project.Level()
	if err != nil {
		return err
	}
	if err := r.p.gateway.Reload(l); err != nil {
		return err
	}
	if now.Project.LogLevel != r.config.Project.LogLevel { // else what an operator has set by /log-level stays
		r.p.level.Set(level)
	}
	r.config = &now
	r.p.keys.Store(l.Keys)
	r.publish(ctx, l)
	r.tellHTTP2(changed)
	r.config.tellIdle(r.p.log)
	r.p.log.Info("configuration reloaded", "changed", summary(changed), "routes", l.Routes.Digest())
	return nil
}

// maxTold is how many complaints about a configuration are told in one line of the log.
const maxTold = 10

// brief returns err with its first complaints only: those about a file of another kind would fill the log.
func brief(err error) error {
	all, ok := errors.AsType[*config.Errors](err)
	if !ok || len(*all) <= maxTold {
		return err
	}
	first := (*all)[:maxTold]
	return fmt.Errorf("%w\nand %d more complaints (gateway check shows them)", &first, len(*all)-maxTold)
}

// publish tells the others which routes are served.
func (r *reloader) publish(ctx context.Context, l gateway.Live) {
	node := r.p.node
	node.Routes = l.Routes.Digest()
	ctx, cancel := context.WithTimeout(ctx, time.Second) // when etcd is away it stays wanted
	defer cancel()
	r.p.publish(ctx, node)
}

// summary names the first few keys.
func summary(keys []string) string {
	const most = 8
	if len(keys) == 0 {
		return "callServiceKey"
	}
	if len(keys) <= most {
		return strings.Join(keys, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(keys[:most], " "), len(keys)-most)
}
