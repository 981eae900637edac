package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
	"github.com/goms-io/goms/pkg/route"
)

// The values of gateway.routesFrom.
const (
	routesFromFile = "file"
	routesFromEtcd = "etcd"
)

// maxRoutesFile bounds the file of routes, in bytes: the largest table, and what is said of it.
const maxRoutesFile = etcd.MaxRoutes + 64<<10

// stored is the route table of etcd, as this gateway knows it, and the file it is kept in for a start without etcd. The nil
// *stored is of a gateway whose routes come from its configuration.
type stored struct {
	project, path string // path "" is no file
	log           *slog.Logger

	news chan told     // holds what etcd said last
	read chan struct{} // closed when the gateway serves what etcd had to say first
	once sync.Once

	// What follows belongs to prepare, then to the reloader.
	doc      etcd.RouteDoc // what is served; version 0 is nothing that was stored
	services route.Services
	refused  error // why what etcd said last is not served
	unsaved  bool
	failing  bool // the last write failed, which was logged
}

// told is one answer of etcd: a table, none (version 0), or why there is none to use.
type told struct {
	doc etcd.RouteDoc
	err error
}

// openStored returns what the configuration asks for, with the table of the file.
func (c *Config) openStored(embedded bool, log *slog.Logger) *stored {
	if c.Gateway.RoutesFrom != routesFromEtcd {
		return nil
	}
	s := &stored{project: c.Project.ProjectName, log: log, news: make(chan told, 1), read: make(chan struct{})}
	if !embedded {
		s.path = strings.ReplaceAll(c.Gateway.RoutesFile, "{projectName}", s.project)
	}
	if s.path == "" {
		return s
	}
	err := s.load()
	switch {
	case err == nil:
		c.Services = s.services
		log.Info("routes of the last run taken, until etcd is read", "version", s.doc.Version, "path", s.path)
	case !errors.Is(err, fs.ErrNotExist):
		log.Error("saved routes ignored", "err", err)
	}
	return s
}

// head is the first line of the file, before the table as it lies in etcd.
func (s *stored) head() string { return "goms routes 1 " + s.project + "\n" }

// load reads the file. One that cannot be used is moved aside.
func (s *stored) load() error {
	b, err := registry.ReadFile(s.path, maxRoutesFile)
	if err == nil {
		err = s.decode(string(b))
	} else if !errors.Is(err, registry.ErrTooLarge) {
		return err
	}
	if err != nil {
		return registry.SetAside(s.path, err)
	}
	return nil
}

// decode takes what the file says.
func (s *stored) decode(text string) error {
	rest, ok := strings.CutPrefix(text, s.head())
	if !ok {
		return fmt.Errorf("its first line is not %q", strings.TrimSpace(s.head()))
	}
	var doc etcd.RouteDoc
	if err := doc.UnmarshalText([]byte(rest)); err != nil {
		return err
	}
	services, err := parseRoutes(s.path, doc.YAML)
	if err != nil {
		return err
	}
	s.doc, s.services = doc, services
	return nil
}

// follow tells the reloader what etcd says, until ctx is done.
func (s *stored) follow(ctx context.Context, routes *etcd.Routes) error {
	return routes.Watch(ctx, func(doc etcd.RouteDoc, err error) {
		select { // the newest counts
		case <-s.news:
		default:
		}
		s.news <- told{doc, err}
	})
}

// changed is what a reloader waits for.
func (s *stored) changed() <-chan told {
	if s == nil {
		return nil
	}
	return s.news
}

// known is closed once etcd was heard, and its table is served.
func (s *stored) known() <-chan struct{} {
	if s == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return s.read
}

// over puts the routes of etcd over those of the configuration.
func (s *stored) over(c *Config) {
	if s != nil && s.doc.Version > 0 {
		c.Services = s.services
	}
}

// complaint is why what etcd said last is not served; nil when it is.
func (s *stored) complaint() error {
	if s == nil {
		return nil
	}
	return s.refused
}

// took notes that a table is served, and has it kept.
func (s *stored) took(doc etcd.RouteDoc, services route.Services) {
	s.unsaved = s.unsaved || doc.Version != s.doc.Version || doc.Digest != s.doc.Digest
	s.doc, s.services = doc, services
	s.save()
}

// save writes the file, if there is something to write. Trouble is logged when it begins and when it ends; the reloader tries
// again with each look.
func (s *stored) save() {
	if s == nil || s.path == "" || !s.unsaved {
		return
	}
	text, err := s.doc.MarshalText()
	if err == nil {
		err = registry.ReplaceFile(s.path, append([]byte(s.head()), text...))
	}
	switch {
	case err != nil && !s.failing:
		s.log.Error("the routes cannot be saved, the last file stays", "err", err)
	case err == nil && s.failing:
		s.log.Info("the routes are saved again", "path", s.path)
	}
	s.failing, s.unsaved = err != nil, err != nil
}

// takeStored takes in what etcd says of the routes, or says why it cannot and stays with what there is.
func (r *reloader) takeStored(ctx context.Context, news told) {
	s := r.p.stored
	defer s.once.Do(func() { close(s.read) })
	var services route.Services
	err := news.err
	if err == nil && news.doc.Version > 0 {
		services, err = parseRoutes(versionName(news.doc.Version), news.doc.YAML)
	}
	if err == nil && news.doc.Version > 0 {
		err = r.takeRoutes(ctx, news.doc, services)
	}
	s.refused = nil
	if err = brief(err); err != nil {
		s.refused = fmt.Errorf("the routes of etcd cannot be used: %w", err)
		r.p.log.Error("the routes of etcd cannot be used, the ones before stay", "err", err)
	} else if news.doc.Version == 0 && s.doc.Version > 0 {
		r.p.log.Warn("etcd has no routes any more, the ones before stay", "version", s.doc.Version)
	}
	r.report()
}

// takeRoutes serves a table of etcd.
func (r *reloader) takeRoutes(ctx context.Context, doc etcd.RouteDoc, services route.Services) error {
	now := *r.config
	now.Services = services
	table, err := route.New(now.Gateway.Prefix, services)
	if err != nil {
		return err
	}
	// Key files that have changed are not this change's.
	l := gateway.Live{Routes: table, Keys: r.p.keys.Load(), Settings: now.Gateway.Settings}
	was := diffRoutes(now.Gateway.Prefix, r.config.Services, services)
	facts := []any{"version", doc.Version, "routes", l.Routes.Digest(), "by", doc.Author, "changes", was.String()}
	if was.none() {
		r.p.stored.took(doc, services)
		r.p.log.Info("routes of etcd read, nothing in them has changed", facts...)
		return nil
	}
	if err := r.p.gateway.Reload(l); err != nil {
		return err
	}
	r.config = &now
	r.p.log.Info("routes of etcd taken", facts...)
	r.publish(ctx, l)
	r.p.stored.took(doc, services)
	return nil
}

// report tells the gateway which source of its configuration cannot be used now, if one cannot.
func (r *reloader) report() {
	if err := errors.Join(r.refused, r.p.stored.complaint()); err != nil {
		r.p.gateway.ReloadFailed(err)
		return
	}
	r.p.gateway.ReloadPassed()
}
