package registry

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Source is where [Members] learn of nodes and overrides: etcd.Registry, or a fake. WatchFrom and WatchOverrides run beside each
// other, and Status at any time. Both watches return when ctx is done, with its error, or when the source is closed, with
// [ErrClosed], and not because the store is away.
type Source interface {
	// WatchFrom is Watch, which may begin with seed, the nodes that were known before the store could be read: when the store
	// is away, fn is called with them first, and their absence from the store is then taken as deletes over a watch that was
	// interrupted. fn is called from the calling goroutine.
	WatchFrom(ctx context.Context, seed Snapshot, fn func(Snapshot)) error
	// WatchOverrides calls fn with all overrides, sorted by key, then again after each change, from the calling goroutine, until
	// ctx is done.
	WatchOverrides(ctx context.Context, fn func([]Override)) error
	// Status returns what is known of the link to the store.
	Status() Status
}

// Members is what a process believes of the nodes of its project: what the store says of them, less those that [Trust] refuses,
// with what operators have set laid over the rest. With a [File] it survives a start without the store. All methods are safe for
// concurrent use, but there is one Watch at a time.
type Members struct {
	c     MembersConfig
	log   *slog.Logger
	saved time.Time // the time of the file that Watch began with; set before anything runs

	fn      func(Snapshot)
	telling sync.Mutex // held while fn runs, so that it never runs beside itself; taken before mu

	mu        sync.Mutex // guards what follows
	nodes     Snapshot   // as the store says
	known     bool       // nodes were told
	overrides []Override
	ruled     bool                   // overrides were told
	rules     map[[2]string]Override // the same by service and ID
}

// MembersConfig is what [Members] are made of. Source is required.
type MembersConfig struct {
	Source Source
	Trust  *Trust       // nil believes every node
	File   *File        // nil keeps nothing on disk
	Log    *slog.Logger // gets what operators set, and what is the matter with the file; nil discards
}

// NewMembers returns Members that know nothing yet, and do no I/O before Watch.
func NewMembers(c MembersConfig) *Members {
	m := &Members{c: c, log: c.Log}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	return m
}

// Watch calls fn with the whole set of nodes, then again after each change, never twice at a time, until ctx is done, and returns
// its error, or that of the source. The first call is when the store was read, or, when it is away and there is a file, within
// about a second. Watch returns when all it started has ended, and the file holds the last set. One Watch at a time.
func (m *Members) Watch(ctx context.Context, fn func(Snapshot)) error {
	m.fn = fn
	seed := m.load()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if m.c.File != nil {
		wg.Go(func() { m.c.File.Run(ctx) })
	}
	wg.Go(func() {
		// Its only errors are the end that was asked for and a closed registry, which the other watch reports.
		_ = m.c.Source.WatchOverrides(ctx, m.rule)
	})
	err := m.c.Source.WatchFrom(ctx, seed, m.take)
	m.keep(m.c.Source.Status().LastContact)
	return err
}

// load reads the file.
func (m *Members) load() Snapshot {
	if m.c.File == nil {
		return Snapshot{}
	}
	s, err := m.c.File.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Snapshot{}
	case err != nil:
		m.log.Warn("saved nodes ignored", "err", err)
		return Snapshot{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saved = s.At
	m.setOverrides(s.Overrides)
	return s.Snapshot
}

// Status returns that of the source, with what was refused, and until when the nodes are as the file has them.
func (m *Members) Status() Status {
	s := m.c.Source.Status()
	m.mu.Lock()
	if s.Stale {
		s.StaleSince = m.saved
	}
	s.Overrides = slices.Clone(m.overrides)
	m.mu.Unlock()
	if m.c.Trust != nil {
		refused := m.c.Trust.Refused()
		maps.Copy(refused, s.Refused)
		s.Refused = refused
	}
	return s
}

// take takes nodes from the source.
func (m *Members) take(s Snapshot) {
	m.mu.Lock()
	m.nodes, m.known = s, true
	m.mu.Unlock()
	m.tell()
}

// rule takes overrides from the source.
func (m *Members) rule(list []Override) {
	m.mu.Lock()
	old := m.overrides
	same := m.ruled && slices.EqualFunc(old, list, sameOverride)
	m.mu.Unlock()
	if !same {
		m.audit(old, list) // who sees them in the status finds the lines
	}
	m.mu.Lock()
	m.ruled = true
	m.setOverrides(list)
	known := m.known
	m.mu.Unlock()
	if known && !same {
		m.tell()
	}
}

// setOverrides notes what operators have set. mu is held.
func (m *Members) setOverrides(list []Override) {
	m.overrides, m.rules = list, make(map[[2]string]Override, len(list))
	for _, o := range list {
		m.rules[[2]string{o.Service, o.ID}] = o
	}
}

// Takes reports whether requests are sent to n, a node as the store has it: whether it takes any after what operators have set, and is
// believed. It is safe for concurrent use, also while Watch runs.
func (m *Members) Takes(n Node) bool {
	m.mu.Lock()
	if len(m.rules) > 0 {
		if o, ok := m.rules[[2]string{n.Service, n.ID()}]; ok {
			n = o.over(n)
		}
	}
	m.mu.Unlock()
	return n.Takes() && (m.c.Trust == nil || m.c.Trust.Check(n) == nil)
}

// tell calls fn with what is known now, and has the file kept.
func (m *Members) tell() {
	m.telling.Lock()
	defer m.telling.Unlock()
	m.mu.Lock()
	s, overrides := m.nodes, m.overrides
	m.mu.Unlock()
	if m.c.Trust != nil {
		s = m.c.Trust.Filter(s)
	}
	m.fn(s.Override(overrides))
	m.keep(time.Now())
}

// keep has the file hold what is known and was true at a time, unless that came from the file.
func (m *Members) keep(at time.Time) {
	if m.c.File == nil || m.c.Source.Status().Stale {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known {
		m.c.File.Keep(Saved{Snapshot: m.nodes, Overrides: m.overrides, At: at})
	}
}

// audit logs what changed between two lists of overrides, which are sorted by key.
func (m *Members) audit(old, list []Override) {
	before := map[[2]string]Override{}
	for _, o := range old {
		before[[2]string{o.Service, o.ID}] = o
	}
	for _, o := range list {
		id := [2]string{o.Service, o.ID}
		if was, ok := before[id]; !ok || !sameOverride(was, o) {
			m.log.Info("is overridden", "service", o.Service, "node", o.ID, "override", o.String(), "by", o.By, "at", o.At.UTC().Format(time.RFC3339))
		}
		delete(before, id)
	}
	for _, o := range before {
		m.log.Info("is no longer overridden", "service", o.Service, "node", o.ID)
	}
}

func sameOverride(a, b Override) bool {
	return a.Service == b.Service && a.ID == b.ID && a.Weight == b.Weight && a.State == b.State && a.By == b.By && a.At.Equal(b.At)
}
