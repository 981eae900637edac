package console

import (
	"context"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// stamp is the layout of the time at the beginning of a line.
const stamp = "2006/01/02 15:04:05 "

// output is what all handlers made from one New write to.
type output struct {
	mu sync.Mutex // held for each Write to w
	w  io.Writer
}

// textHandler writes lines for people. It is immutable.
type textHandler struct {
	out     *output
	level   slog.Leveler
	service string
	node    string
	hasNode bool
	attrs   []byte // " key=value" of With, as written
	prefix  string // of keys: the groups that are open, "a.b."
}

func newText(w io.Writer, service string, level slog.Leveler) *textHandler {
	return &textHandler{out: &output{w: w}, level: level, service: service}
}

// Enabled says whether records of this level are written.
func (h *textHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// WithAttrs returns a handler that adds attrs to each record.
func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	l := h.line()
	for _, a := range attrs {
		l.add(a, h.prefix)
	}
	h2 := *h
	h2.service, h2.node, h2.hasNode, h2.attrs = l.service, l.node, l.hasNode, l.attrs
	return &h2
}

// WithGroup returns a handler that puts name and a dot before the keys that follow.
func (h *textHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	h2 := *h
	h2.prefix += name + "."
	return &h2
}

// Handle writes a record as one line.
func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	l := h.line()
	r.Attrs(func(a slog.Attr) bool {
		l.add(a, h.prefix)
		return true
	})
	b := make([]byte, 0, len(stamp)+len(l.service)+len(l.node)+len(r.Message)+len(l.attrs)+32)
	if !r.Time.IsZero() {
		b = r.Time.Round(0).AppendFormat(b, stamp)
	}
	b = append(b, '[')
	b = appendWord(b, l.service)
	b = append(b, ']')
	if r.Level >= slog.LevelWarn {
		b = append(b, ' ')
		b = append(b, r.Level.String()...)
	}
	if l.hasNode {
		b = append(b, " node ["...)
		b = appendWord(b, l.node)
		b = append(b, ']')
	}
	if r.Message != "" {
		b = append(b, ' ')
		b = appendEscaped(b, r.Message)
	}
	b = append(b, l.attrs...)
	b = append(b, '\n')

	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := h.out.w.Write(b)
	return err
}

// line is what is known of a record's attributes. The last service and the last
// node count.
type line struct {
	service string
	node    string
	hasNode bool
	attrs   []byte
}

func (h *textHandler) line() *line {
	return &line{service: h.service, node: h.node, hasNode: h.hasNode, attrs: h.attrs[:len(h.attrs):len(h.attrs)]}
}

// add takes in an attribute whose key is after prefix.
func (l *line) add(a slog.Attr, prefix string) {
	v := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, sub := range v.Group() {
			l.add(sub, prefix)
		}
	case prefix == "" && a.Key == serviceKey:
		l.service = render(v)
	case prefix == "" && a.Key == nodeKey:
		l.node, l.hasNode = render(v), true
	default:
		l.attrs = append(l.attrs, ' ')
		l.attrs = appendWord(l.attrs, prefix+a.Key)
		l.attrs = append(l.attrs, '=')
		l.attrs = appendValue(l.attrs, render(v))
	}
}

// render returns the text of a value that is no group.
func render(v slog.Value) (text string) {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format(time.RFC3339Nano)
	case slog.KindAny:
		return renderAny(v.Any())
	}
	return v.String()
}

// renderAny calls methods of a stranger's type: a log line must not be what brings
// a program down.
func renderAny(x any) (text string) {
	defer func() {
		if p := recover(); p != nil {
			if v := reflect.ValueOf(x); v.Kind() == reflect.Pointer && v.IsNil() {
				text = "<nil>"
				return
			}
			text = fmt.Sprintf("!PANIC: %v", p)
		}
	}()
	switch x := x.(type) {
	case error:
		return x.Error()
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		if err != nil {
			return "!ERROR: " + err.Error()
		}
		return string(b)
	case []byte:
		return string(x)
	}
	return fmt.Sprintf("%+v", x)
}

// appendValue appends s, in quotes where it would not be told from its
// surroundings.
func appendValue(b []byte, s string) []byte {
	if s == "" || strings.ContainsAny(s, `="`) {
		return strconv.AppendQuote(b, s)
	}
	return appendWord(b, s)
}

// appendWord appends s, in quotes when it has blanks, quotes or anything that does
// not print.
func appendWord(b []byte, s string) []byte {
	if strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || r == '"' || unprintable(r) }) {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

// appendEscaped appends s with what does not print escaped.
func appendEscaped(b []byte, s string) []byte {
	for len(s) > 0 {
		i := strings.IndexFunc(s, unprintable)
		if i < 0 {
			return append(b, s...)
		}
		b = append(b, s[:i]...)
		_, n := utf8.DecodeRuneInString(s[i:])
		q := strconv.Quote(s[i : i+n])
		b = append(b, q[1:len(q)-1]...)
		s = s[i+n:]
	}
	return b
}

// unprintable includes line ends, terminal escapes, marks that turn the direction
// of writing, and bytes that are not UTF-8.
func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
