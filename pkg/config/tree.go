package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// What a file may hold: a configuration has five levels or so and some thousand
// values. The bounds keep the work for a hostile one small.
const (
	maxDepth  = 64
	maxValues = 100_000
	maxKey    = 256 // bytes
)

type kind uint8

const (
	nullKind kind = iota
	scalarKind
	listKind
	mapKind
)

func (k kind) String() string {
	return [...]string{"null", "text", "a list", "a mapping"}[k]
}

// tree is one YAML value and the place it was written at. It has no aliases,
// its keys are text and no key is there twice.
type tree struct {
	place
	kind    kind
	text    string // of a scalar
	plain   bool   // not quoted: may be a number
	literal bool   // no ${VAR} in it: it comes from the environment
	entries []entry
	items   []*tree
}

type entry struct {
	place // of the key
	key   string
	value *tree
}

// find returns the position of key, or -1.
func (t *tree) find(key string) int {
	for i := range t.entries {
		if t.entries[i].key == key {
			return i
		}
	}
	return -1
}

// parse turns the content of a file into a tree. Complaints about the syntax make
// it nil.
func parse(file string, data []byte, c *complaints) *tree {
	doc, err := parseYAML(file, data)
	if err != nil {
		c.fatal(err)
		return nil
	}
	b := builder{file: file, complaints: c}
	root := &tree{kind: mapKind, place: place{file: file}}
	if doc == nil {
		return root
	}
	t := b.build(doc, "", 0)
	if t == nil || t.kind == nullKind {
		return root
	}
	if t.kind != mapKind {
		c.fatal(t.at("", "the top of a file must be a mapping of keys, not "+t.describe()))
		return nil
	}
	t.line = 0 // a key that is missing is missing in the whole file
	return t
}

func (t *tree) describe() string {
	if t.kind == scalarKind {
		return "a single value"
	}
	return t.kind.String()
}

// parseYAML returns the top value of the only document in data, nil when there is
// none.
func parseYAML(file string, data []byte) (top *yaml.Node, problem *Error) {
	if line := badText(data); line > 0 {
		return nil, &Error{File: file, Line: line, Msg: "is not UTF-8 text"}
	}
	// The parser is no longer maintained and meant for trusted input; whatever it
	// trips over is a complaint about the file.
	defer func() {
		if recover() != nil {
			top, problem = nil, &Error{File: file, Msg: "cannot be parsed as YAML"}
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, syntaxError(file, data, err)
	}
	if err = dec.Decode(&second); err == nil {
		return nil, &Error{File: file, Line: second.Line, Msg: "a second YAML document begins here: only one a file is read"}
	}
	if !errors.Is(err, io.EOF) {
		return nil, syntaxError(file, data, err)
	}
	return doc.Content[0], nil
}

// badText returns the line of the first byte that is not UTF-8 or is NUL, else 0.
// The YAML parser does not say the line of these.
func badText(data []byte) int {
	if utf8.Valid(data) && bytes.IndexByte(data, 0) < 0 {
		return 0
	}
	line := 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == 0 || r == utf8.RuneError && n == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		data = data[n:]
	}
	return line
}

var lineOf = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntaxError keeps the parser's line and words. It does not keep the name of an
// unknown anchor: that is what an unquoted secret beginning with '*' looks like.
func syntaxError(file string, data []byte, err error) *Error {
	e := &Error{File: file, Msg: err.Error()}
	if m := lineOf.FindStringSubmatch(e.Msg); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Msg = m[2]
	}
	if strings.HasPrefix(e.Msg, "unknown anchor") {
		e.Msg = aliasRefused
	} else if e.Line == 0 {
		e.Line = 1 // the parser counts from 0 and leaves 0 out
	}
	lines := bytes.SplitN(data, []byte("\n"), e.Line+1)
	if e.Line > 0 && e.Line <= len(lines) {
		line := lines[e.Line-1]
		if indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]; bytes.IndexByte(indent, '\t') >= 0 {
			e.Msg += " (indent with spaces, not tabs)"
		}
	}
	return e
}

const aliasRefused = "YAML aliases are not supported (put quotes around text that begins with '*')"

// builder turns the parser's nodes into trees.
type builder struct {
	file   string
	values int
	*complaints
}

// build returns nil where it complained.
func (b *builder) build(n *yaml.Node, path string, depth int) *tree {
	t := &tree{place: place{file: b.file, line: n.Line}}
	refuse := func(msg string) *tree {
		b.add(t.at(path, msg), path)
		return nil
	}
	if b.values++; b.values > maxValues {
		if b.values == maxValues+1 {
			b.fatal(t.at("", fmt.Sprintf("has more than %d values", maxValues)))
		}
		return nil
	}
	if depth > maxDepth {
		return refuse(fmt.Sprintf("is nested more than %d levels deep", maxDepth))
	}
	if n.Kind == yaml.AliasNode {
		return refuse(aliasRefused)
	}
	if n.Style&yaml.TaggedStyle != 0 && (n.Kind != yaml.ScalarNode || n.Tag != "!!str") {
		return refuse("YAML tags are not supported (put quotes around text that begins with '!')")
	}
	switch n.Kind {
	case yaml.MappingNode:
		t.kind = mapKind
		b.mapping(t, n, path, depth)
	case yaml.SequenceNode:
		t.kind = listKind
		for i, item := range n.Content {
			if it := b.build(item, index(path, i), depth+1); it != nil {
				t.items = append(t.items, it)
			}
		}
	default:
		t.text, t.plain = n.Value, n.Style == 0
		if t.plain && n.Tag == "!!null" {
			return t
		}
		t.kind = scalarKind
	}
	return t
}

func (b *builder) mapping(t *tree, n *yaml.Node, path string, depth int) {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		at := place{file: b.file, line: k.Line}
		if msg := badKey(k); msg != "" {
			b.add(at.at(path, msg), path)
			continue
		}
		sub := join(path, k.Value)
		if first, ok := seen[k.Value]; ok {
			b.add(at.at(sub, duplicate(place{file: b.file, line: first})), sub)
			continue
		}
		seen[k.Value] = k.Line
		if v := b.build(n.Content[i+1], sub, depth+1); v != nil {
			v.place = at // the line of the key is where people look
			t.entries = append(t.entries, entry{place: at, key: k.Value, value: v})
		}
	}
}

func badKey(k *yaml.Node) string {
	switch {
	case k.Kind == yaml.AliasNode:
		return aliasRefused
	case k.Tag == "!!merge":
		return "YAML merge keys (<<) are not supported"
	case k.Kind != yaml.ScalarNode:
		return "a key must be text, not a list or a mapping (is a quote missing around a value with braces or brackets?)"
	case k.Tag != "!!str":
		return "a key must be text: put quotes around a number, date, true, false or null"
	case k.Style&yaml.TaggedStyle != 0:
		return "YAML tags are not supported"
	case k.Value == "":
		return "a key must not be empty"
	case len(k.Value) > maxKey:
		return fmt.Sprintf("a key must not be longer than %d bytes", maxKey)
	}
	return ""
}

func duplicate(first place) string { return "duplicate key (first at " + first.String() + ")" }

func join(path, key string) string {
	if path == "" {
		return key
	}
	if key == "" {
		return path
	}
	return path + "." + key
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// parent returns the path one level up; "" is the root.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// within says whether path is top or lies below it.
func within(path, top string) bool {
	if top == "" || path == top {
		return true
	}
	return strings.HasPrefix(path, top) && (path[len(top)] == '.' || path[len(top)] == '[')
}
