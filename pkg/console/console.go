// Package console writes a program's log for people at a terminal, or as JSON
// lines for machines, behind the standard library's slog.
//
//	log, err := console.New(os.Stdout, "text", "gateway", slog.LevelInfo)
//	log.Info("join", "service", "user", "node", "a:1_a:2")
//	// 2021/08/10 11:08:14 [user] node [a:1_a:2] join
//
// In the text format the attribute service stands in the brackets, node stands
// before the message, and all others follow it as key=value. The level is shown from
// WARN up. What could break the line or the terminal is escaped, so that a value
// that a stranger chose cannot look like a line of its own.
//
// The package opens no files, rotates nothing and sets no global logger.
package console

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
)

// The two attributes that have a place of their own.
const (
	serviceKey = "service"
	nodeKey    = "node"
)

// New returns a logger that writes to w in the format "text" or "json"; another
// format is an error. service is what stands for the attribute service where
// a record has none. A nil level means Info. Each record is one line and one
// Write; Writes do not overlap, whichever goroutine or derived logger they come
// from. w must not be nil; the caller closes it.
func New(w io.Writer, format, service string, level slog.Leveler) (*slog.Logger, error) {
	if w == nil {
		panic("BUG: console: w must not be nil")
	}
	if level == nil {
		level = slog.LevelInfo
	}
	switch format {
	case "text":
		return slog.New(newText(w, service, level)), nil
	case "json":
		return slog.New(newJSON(w, service, level)), nil
	}
	return nil, fmt.Errorf("make log: format %q is neither text nor json", format)
}

// jsonHandler is slog.JSONHandler with one service in each record: the record's
// own, else the last given to With, else the default.
type jsonHandler struct {
	bare    slog.Handler // without service
	full    slog.Handler // with it
	root    slog.Handler // what both are made from
	service slog.Attr
	steps   []func(slog.Handler) slog.Handler // from root to bare
	grouped bool                              // in a group, where service is an attribute like others
}

func newJSON(w io.Writer, service string, level slog.Leveler) *jsonHandler {
	h := &jsonHandler{service: slog.String(serviceKey, service)}
	h.root = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	h.build()
	return h
}

// build makes the two handlers. They share root's lock.
func (h *jsonHandler) build() {
	h.bare = h.root
	h.full = h.root.WithAttrs([]slog.Attr{h.service})
	for _, step := range h.steps {
		h.bare, h.full = step(h.bare), step(h.full)
	}
}

// Enabled says whether records of this level are written.
func (h *jsonHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.root.Enabled(ctx, level)
}

// Handle writes a record.
func (h *jsonHandler) Handle(ctx context.Context, r slog.Record) error {
	own := false
	if !h.grouped {
		r.Attrs(func(a slog.Attr) bool {
			own = holdsService(a)
			return !own
		})
	}
	if own {
		return h.bare.Handle(ctx, r)
	}
	return h.full.Handle(ctx, r)
}

// WithAttrs returns a handler that adds attrs to each record.
func (h *jsonHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	h2 := *h
	if !h.grouped {
		attrs = slices.Clone(flatten(attrs))
		attrs = slices.DeleteFunc(attrs, func(a slog.Attr) bool {
			if a.Key == serviceKey {
				h2.service = a
			}
			return a.Key == serviceKey
		})
	}
	return h2.then(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

// WithGroup returns a handler that puts what follows into a group.
func (h *jsonHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	h2 := *h
	h2.grouped = true
	return h2.then(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h jsonHandler) then(step func(slog.Handler) slog.Handler) slog.Handler {
	h.steps = append(h.steps[:len(h.steps):len(h.steps)], step)
	h.build()
	return &h
}

func holdsService(a slog.Attr) bool {
	return slices.ContainsFunc(flatten([]slog.Attr{a}), func(a slog.Attr) bool { return a.Key == serviceKey })
}

// flatten takes the attributes out of groups without a name: slog's rule is that
// they belong to what is around them.
func flatten(attrs []slog.Attr) []slog.Attr {
	if !slices.ContainsFunc(attrs, unnamedGroup) {
		return attrs
	}
	var flat []slog.Attr
	for _, a := range attrs {
		if unnamedGroup(a) {
			flat = append(flat, flatten(a.Value.Resolve().Group())...)
		} else {
			flat = append(flat, a)
		}
	}
	return flat
}

func unnamedGroup(a slog.Attr) bool {
	return a.Key == "" && a.Value.Resolve().Kind() == slog.KindGroup
}
