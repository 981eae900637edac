package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// decoder fills one destination. Its complaints are about values; places says
// where each path that was set comes from.
type decoder struct {
	complaints
	env       func(string) (string, bool)
	places    map[string]place
	applied   []string          // paths that Options.Apply changed
	decoded   int               // how many complaints there were before Validate was asked
	variables map[string]string // overriding variables and the paths they are for
}

func (d *decoder) complain(t *tree, path, msg string) { d.add(t.at(path, msg), path) }

// decode sets v, which holds the default, to what t says.
func (d *decoder) decode(t *tree, v reflect.Value, path string, h hints) {
	d.places[path] = t.place
	if t.kind == nullKind {
		return
	}
	typ := v.Type()
	switch {
	case typ.Kind() == reflect.Pointer:
		d.pointer(t, v, path, h)
	case isAny(typ):
		if got, ok := d.untyped(t, path, h); ok {
			v.Set(reflect.ValueOf(&got).Elem())
		}
	case t.kind == scalarKind && isScalar(typ):
		d.scalar(t, v, path, h)
	case typ.Kind() == reflect.Struct && t.kind == mapKind && len(fields(typ)) > 0:
		d.structure(t, v, path, h)
	case typ.Kind() == reflect.Map && t.kind == mapKind:
		d.mapping(t, v, path, h)
	case typ.Kind() == reflect.Slice && !isText(typ) && t.kind != mapKind:
		d.list(t, v, path, h)
	default:
		d.complain(t, path, wrongKind(t, typ, h))
	}
}

func wrongKind(t *tree, typ reflect.Type, h hints) string {
	got := t.kind.String()
	if t.kind == scalarKind && !h.secret {
		got = quote(t.text)
	}
	return "must be " + wanted(typ) + ", not " + got
}

func wanted(t reflect.Type) string {
	switch {
	case t == durationType:
		return `a duration like "10s"`
	case isText(t) && t.Kind() == reflect.Struct && len(fields(t)) > 0:
		return "text or a mapping"
	case isText(t), t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Map, t.Kind() == reflect.Struct:
		return "a mapping"
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// pointer sets v to a new value. What the default points to may belong to others.
func (d *decoder) pointer(t *tree, v reflect.Value, path string, h hints) {
	to := reflect.New(v.Type().Elem())
	if !v.IsNil() {
		to.Elem().Set(v.Elem())
	}
	d.decode(t, to.Elem(), path, h)
	v.Set(to)
}

func (d *decoder) structure(t *tree, v reflect.Value, path string, h hints) {
	typ := v.Type()
	for _, e := range t.entries {
		sub := join(path, e.key)
		f, ok := findField(typ, e.key)
		if ok {
			d.decode(e.value, v.FieldByIndex(f.index), sub, f.inherit(h))
		} else if !h.open {
			d.unknown(e, sub, typ)
		}
	}
}

func (d *decoder) unknown(e entry, path string, typ reflect.Type) {
	msg := "unknown key"
	if !d.full() {
		if s := Suggest(e.key, names(typ)); s != "" {
			msg += fmt.Sprintf(" (did you mean %q?)", s)
		}
	}
	d.put(complaint{Error: e.at(path, msg), path: path, unknown: true})
}

// mapping merges the entries into a copy of the default.
func (d *decoder) mapping(t *tree, v reflect.Value, path string, h hints) {
	typ := v.Type()
	m := reflect.MakeMapWithSize(typ, v.Len()+len(t.entries))
	for iter := v.MapRange(); iter.Next(); {
		m.SetMapIndex(iter.Key(), iter.Value())
	}
	for _, e := range t.entries {
		sub := join(path, e.key)
		key := reflect.ValueOf(e.key).Convert(typ.Key())
		value := reflect.New(typ.Elem()).Elem()
		if old := m.MapIndex(key); old.IsValid() {
			value.Set(old)
		} else if value.Kind() == reflect.Pointer {
			value.Set(reflect.New(typ.Elem().Elem())) // an entry without a value is no nil to trip over
		}
		d.decode(e.value, value, sub, hints{secret: h.secret, open: h.open})
		m.SetMapIndex(key, value)
	}
	v.Set(m)
}

// list replaces v. A scalar is a list of one.
func (d *decoder) list(t *tree, v reflect.Value, path string, h hints) {
	items := t.items
	if t.kind == scalarKind {
		items = []*tree{t}
	}
	typ := v.Type()
	split := h.split && typ.Elem().Kind() == reflect.String && !isText(typ.Elem())
	h.split = false
	out := reflect.MakeSlice(typ, 0, len(items))
	for i, item := range items {
		sub := index(path, i)
		if t.kind == scalarKind {
			sub = path
		}
		if item.kind == nullKind {
			d.complain(item, sub, "must not be empty")
			continue
		}
		value := reflect.New(typ.Elem()).Elem()
		d.decode(item, value, sub, h)
		if !split {
			out = reflect.Append(out, value)
			continue
		}
		for _, addr := range SplitAddrs(value.String()) {
			out = reflect.Append(out, reflect.ValueOf(addr).Convert(typ.Elem()))
		}
	}
	v.Set(out)
}

// untyped returns t as strings, numbers, booleans, []any and map[string]any.
func (d *decoder) untyped(t *tree, path string, h hints) (any, bool) {
	switch t.kind {
	case mapKind:
		m := make(map[string]any, len(t.entries))
		for _, e := range t.entries {
			if v, ok := d.untyped(e.value, join(path, e.key), h); ok {
				m[e.key] = v
			}
		}
		return m, true
	case listKind:
		list := make([]any, 0, len(t.items))
		for i, item := range t.items {
			if v, ok := d.untyped(item, index(path, i), h); ok {
				list = append(list, v)
			}
		}
		return list, true
	case scalarKind:
		if h.open {
			return guess(t.text, t.plain), true
		}
		text, expanded, ok := d.text(t, path, h)
		return guess(text, t.plain && !expanded), ok
	}
	return nil, true
}

// scalar sets v, whose type is text, a number or a boolean.
func (d *decoder) scalar(t *tree, v reflect.Value, path string, h hints) {
	text, expanded, ok := d.text(t, path, h)
	if !ok {
		return
	}
	if isText(v.Type()) {
		d.unmarshalText(t, text, v, path, h)
		return
	}
	if v.Kind() == reflect.String {
		v.SetString(text)
		return
	}
	msg := setNumber(v, text)
	if msg == "" && !t.plain && !expanded && v.Type() != durationType {
		msg = "must be " + wanted(v.Type()) + ", not text (remove the quotes)"
	} else if msg != "" && !h.secret {
		msg += ", not " + quote(text)
	}
	if msg != "" {
		d.complain(t, path, msg)
	}
}

func (d *decoder) unmarshalText(t *tree, text string, v reflect.Value, path string, h hints) {
	err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	switch {
	case err == nil:
	case h.secret:
		d.complain(t, path, "is not valid")
	default:
		d.complain(t, path, shorten(err.Error(), 300))
	}
}

// text returns the text of a scalar with its variables replaced, and whether there
// were any.
func (d *decoder) text(t *tree, path string, h hints) (text string, expanded, ok bool) {
	if t.literal {
		return t.text, true, true
	}
	text, expanded, msg := expand(t.text, d.env, h.secret)
	if msg != "" {
		d.complain(t, path, msg)
	}
	return text, expanded, msg == ""
}

// leaves returns the values in v that hold no others, by path.
func leaves(v reflect.Value) map[string]any {
	all := map[string]any{}
	eachLeaf(v, "", hints{}, func(path string, v reflect.Value, _ hints) { all[path] = v.Interface() })
	return all
}

// eachLeaf calls fn for the scalars, lists and untyped values in v.
func eachLeaf(v reflect.Value, path string, h hints, fn func(string, reflect.Value, hints)) {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		eachLeaf(v.Elem(), path, h, fn)
	case v.Kind() == reflect.Struct && len(fields(v.Type())) > 0:
		for _, f := range fields(v.Type()) {
			eachLeaf(v.FieldByIndex(f.index), join(path, f.name), f.inherit(h), fn)
		}
	case v.Kind() == reflect.Map && !isText(v.Type()):
		for _, k := range sortedKeys(v) {
			eachLeaf(v.MapIndex(reflect.ValueOf(k).Convert(v.Type().Key())), join(path, k), h, fn)
		}
	default:
		fn(path, v, h)
	}
}

// sortedKeys returns the keys of a map with string keys.
func sortedKeys(m reflect.Value) []string {
	keys := make(map[string]struct{}, m.Len())
	for _, k := range m.MapKeys() {
		keys[k.String()] = struct{}{}
	}
	return slices.Sorted(maps.Keys(keys))
}
