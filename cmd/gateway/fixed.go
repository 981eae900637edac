package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/goms-io/goms/pkg/config"
)

// fixedFiles returns the files that are read at the start and not again, by the keys that name them.
func (c *Config) fixedFiles() map[string]string {
	p := &c.Project
	files := map[string]string{
		"etcd.passwordFile":       p.Etcd.PasswordFile,
		"etcd.tls.caFile":         p.Etcd.TLS.CAFile,
		"nodeTLS.caFile":          p.NodeTLS.CAFile,
		"gateway.tls.acme.caFile": c.Gateway.TLS.ACME.CAFile,
	}
	maps.DeleteFunc(files, func(_, path string) bool { return path == "" })
	return files
}

// fixed notices when such files change, which does nothing until a restart: whoever replaces an authority should know.
type fixed struct {
	files             map[string]string
	start, seen, told map[string]string // digests by key: at the start, of the last look, and of what was told last
}

func newFixed(c *Config) *fixed {
	f := &fixed{files: c.fixedFiles()}
	f.start = f.digests()
	f.seen, f.told = f.start, maps.Clone(f.start)
	return f
}

func (f *fixed) digests() map[string]string {
	all := map[string]string{}
	for key, path := range f.files {
		d, err := config.Digest(path)
		if err != nil { // is a content too
			d = err.Error()
		}
		all[key] = d
	}
	return all
}

// look returns the keys of the files that have changed since something was told of them, sorted. Unless at once is set, two looks in a
// row must have seen the same.
func (f *fixed) look(atOnce bool) (changed []string) {
	now := f.digests()
	for key, d := range now {
		if d == f.told[key] || d != f.seen[key] && !atOnce {
			continue
		}
		f.told[key] = d
		if d != f.start[key] { // else somebody has put back what is in use
			changed = append(changed, key)
		}
	}
	f.seen = now
	slices.Sort(changed)
	return changed
}

// tellFixed logs what has changed and is not taken.
func (r *reloader) tellFixed(atOnce bool) {
	if keys := r.fixed.look(atOnce); len(keys) > 0 {
		r.p.log.Warn("these files have changed, which needs a restart", "keys", strings.Join(keys, " "))
	}
}

// http2Times are kept by net/http's server as they were when it was made.
var http2Times = []string{"gateway.bodyTimeout", "gateway.headTimeout", "gateway.idleTimeout"}

// tellHTTP2 logs which of the changes that were taken do not hold for HTTP/2, if that is spoken.
func (r *reloader) tellHTTP2(changed []string) {
	g := &r.config.Gateway
	spoken := g.TLS.enabled() || g.H2C || slices.ContainsFunc(g.Listeners, func(l Listener) bool { return l.H2C })
	changed = slices.DeleteFunc(slices.Clone(changed), func(key string) bool { return !slices.Contains(http2Times, key) })
	if spoken && len(changed) > 0 {
		r.p.log.Warn("these changes hold for HTTP/1.1, and need a restart for HTTP/2", "keys", strings.Join(changed, " "))
	}
}
