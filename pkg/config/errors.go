package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is one complaint about a configuration.
type Error struct {
	File string // as given to Load, or "environment"; "" when the value came from neither
	Line int    // from 1; 0 when not known
	Key  string // dotted path, or the variable's name when File is "environment"; "" for a whole file
	Msg  string // never contains the value of a secret
}

// Error returns "file:line: key: msg" in one line; parts that are absent are
// left out.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(printable(e.File))
		if e.Line > 0 {
			b.WriteByte(':')
			b.WriteString(strconv.Itoa(e.Line))
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(printable(shorten(e.Key, 256)))
		b.WriteString(": ")
	}
	b.WriteString(printable(e.Msg))
	return b.String()
}

// Errors is all complaints about a configuration, sorted by file and line.
type Errors []*Error

// Error returns the complaints, one a line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the complaints for errors.Is and errors.As.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// place is where a value was written.
type place struct {
	file string
	line int
	env  string // the variable's name when file is environment
}

const environment = "environment"

// at returns a complaint about path at this place.
func (p place) at(path, msg string) *Error {
	if p.env != "" {
		path = p.env
	}
	return &Error{File: p.file, Line: p.line, Key: path, Msg: msg}
}

func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return p.file + ":" + strconv.Itoa(p.line)
}

// maxComplaints bounds what one Load reports. Nobody reads further.
const maxComplaints = 1000

type complaint struct {
	*Error
	path    string // in dst, even when Key is a variable's name
	unknown bool   // an unknown key: a key beside it may be missing because of it
}

type complaints struct {
	found   []complaint
	dropped int
	broken  bool // a file is missing as a whole
}

func (c *complaints) add(e *Error, path string) { c.put(complaint{Error: e, path: path}) }

// fatal is add for a file that could not be read or parsed.
func (c *complaints) fatal(e *Error) {
	c.broken = true
	c.add(e, "")
}

func (c *complaints) full() bool { return len(c.found) >= maxComplaints }

func (c *complaints) put(one complaint) {
	if c.full() {
		c.dropped++
		return
	}
	c.found = append(c.found, one)
}

// err returns the complaints sorted and without doubles, or nil.
func (c *complaints) err() error {
	if len(c.found) == 0 {
		return nil
	}
	es := make(Errors, 0, len(c.found))
	for _, one := range c.found {
		es = append(es, one.Error)
	}
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.Msg, b.Msg))
	})
	es = slices.CompactFunc(es, func(a, b *Error) bool { return *a == *b })
	if c.dropped > 0 {
		es = append(es, &Error{Msg: fmt.Sprintf("%d more complaints are not shown", c.dropped)})
	}
	return &es
}

// quote returns s in quotes, shortened to what fits a message.
func quote(s string) string { return strconv.Quote(shorten(s, 60)) }

func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// printable escapes what could break a line or a terminal.
func printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range strings.ReplaceAll(s, "\n", "; ") {
		if r != utf8.RuneError && unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRune(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}
