package config

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// mask stands for a secret.
const mask = "***"

// Dump writes src, a struct or a pointer to one, as the YAML that Load would read
// it from: keys in the order of the fields, maps sorted, durations like "10s",
// types with MarshalText by that. Fields tagged secret:"true" are "***" when they
// are set. Parts that other programs read (open:"true" of type any) are left out:
// what is secret there is not known. Nothing is written when it fails.
func Dump(w io.Writer, src any) error {
	v := reflect.ValueOf(src)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		panic("BUG: config: src must be a struct")
	}
	root, err := dump(v, "", hints{})
	if err != nil {
		return err
	}
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(root), enc.Close()); err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	if _, err = io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// dump returns v as a YAML node. path is for errors.
func dump(v reflect.Value, path string, h hints) (*yaml.Node, error) {
	if h.secret && isSet(v) {
		return textNode(mask), nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return plainNode("null"), nil
		}
		return dump(v.Elem(), path, h)
	}
	if m, ok := marshaler(v); ok {
		text, err := m.MarshalText()
		if err != nil {
			return nil, fmt.Errorf("dump %s: %w", path, err)
		}
		if h.secret && len(text) > 0 {
			return textNode(mask), nil
		}
		return textNode(string(text)), nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return dumpStruct(v, path, h)
	case reflect.Map:
		return dumpMap(v, path, h)
	case reflect.Slice:
		return dumpList(v, path, h)
	}
	return dumpScalar(v), nil
}

// isSet says whether v as a whole is a secret to hide. Structs and maps are not:
// they are looked into.
func isSet(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Struct:
		return len(fields(v.Type())) == 0 && !v.IsZero()
	case reflect.Map:
		return false
	case reflect.Slice:
		return v.Len() > 0
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && isSet(v.Elem())
	}
	return !v.IsZero()
}

func marshaler(v reflect.Value) (encoding.TextMarshaler, bool) {
	if !v.CanInterface() {
		return nil, false
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		return m, true
	}
	p := reflect.New(v.Type()) // v may not be addressable
	p.Elem().Set(v)
	m, ok := p.Interface().(encoding.TextMarshaler)
	return m, ok
}

func dumpStruct(v reflect.Value, path string, h hints) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, f := range fields(v.Type()) {
		fv, fh := v.FieldByIndex(f.index), f.inherit(h)
		if fh.open && isAny(fv.Type()) {
			continue
		}
		sub, err := dump(fv, join(path, f.name), fh)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, keyNode(f.name), sub)
	}
	return n, nil
}

func dumpMap(v reflect.Value, path string, h hints) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, k := range sortedKeys(v) {
		sub, err := dump(v.MapIndex(reflect.ValueOf(k).Convert(v.Type().Key())), join(path, k), h)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, keyNode(k), sub)
	}
	return n, nil
}

func dumpList(v reflect.Value, path string, h hints) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for i := range v.Len() {
		sub, err := dump(v.Index(i), index(path, i), h)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, sub)
	}
	return n, nil
}

func dumpScalar(v reflect.Value) *yaml.Node {
	switch {
	case v.Type() == durationType:
		return textNode(time.Duration(v.Int()).String())
	case v.Kind() == reflect.Bool:
		return plainNode(strconv.FormatBool(v.Bool()))
	case v.CanInt():
		return plainNode(strconv.FormatInt(v.Int(), 10))
	case v.CanUint():
		return plainNode(strconv.FormatUint(v.Uint(), 10))
	case v.CanFloat():
		return plainNode(strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits()))
	}
	return textNode(v.String())
}

func plainNode(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: value}
}

// keyNode returns a key; what is no valid text is made so.
func keyNode(key string) *yaml.Node {
	return quoted(&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.ToValidUTF8(key, "\uFFFD")})
}

// textNode returns text so that it is read back as the same: a dollar sign that
// could begin a variable is doubled.
func textNode(s string) *yaml.Node {
	n := keyNode(s)
	n.Value = strings.NewReplacer("$$", "$$$$", "${", "$${").Replace(n.Value)
	return n
}

// quoted puts text in quotes, if the encoder's own choice is not safe.
func quoted(n *yaml.Node) *yaml.Node {
	odd := func(r rune) bool {
		return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\uFEFF' || r == utf8.RuneError
	}
	if strings.ContainsFunc(n.Value, odd) || slices.Contains([]string{"<<", "=", "y", "n", "Y", "N"}, n.Value) {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}
