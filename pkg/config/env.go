package config

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// override sets the values that have a variable of their own in the environment.
func (d *decoder) override(root reflect.Value, prefix string) {
	d.variables = map[string]string{}
	d.overrideStruct(root, prefix, "", hints{}, nil)
}

// overrideStruct returns whether it set anything. above are the types around v: a
// type that holds itself is not followed for ever.
func (d *decoder) overrideStruct(v reflect.Value, prefix, path string, h hints, above []reflect.Type) bool {
	typ := v.Type()
	for _, t := range above {
		if t == typ {
			return false
		}
	}
	above = append(above[:len(above):len(above)], typ)
	set := false
	for _, f := range fields(typ) {
		name, sub := prefix+upperSnake(f.name), join(path, f.name)
		if d.overrideValue(v.FieldByIndex(f.index), name, sub, f.inherit(h), above) {
			set = true
		}
	}
	return set
}

func (d *decoder) overrideValue(v reflect.Value, name, path string, h hints, above []reflect.Type) bool {
	if v.Kind() == reflect.Pointer {
		to := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			to.Elem().Set(v.Elem())
		}
		set := d.overrideValue(to.Elem(), name, path, h, above)
		if set {
			v.Set(to)
		}
		return set
	}
	typ, set := v.Type(), false
	list := typ.Kind() == reflect.Slice && !isText(typ) && isScalar(elem(typ.Elem()))
	if isScalar(typ) || list {
		set = d.overrideLeaf(v, name, path, h, list)
	}
	if typ.Kind() == reflect.Struct {
		set = d.overrideStruct(v, name+"_", path, h, above) || set
	}
	return set
}

func (d *decoder) overrideLeaf(v reflect.Value, name, path string, h hints, list bool) bool {
	if other, ok := d.variables[name]; ok {
		panic(fmt.Sprintf("BUG: config: keys %q and %q have the same variable %s", other, path, name))
	}
	d.variables[name] = path
	text, ok := d.env(name)
	if !ok {
		return false
	}
	t := scalarFrom(text, name)
	if list {
		t.kind = listKind
		for _, item := range SplitAddrs(text) {
			t.items = append(t.items, scalarFrom(item, name))
		}
	}
	d.decode(t, v, path, h)
	return true
}

func scalarFrom(text, variable string) *tree {
	return &tree{kind: scalarKind, text: text, literal: true, place: place{file: environment, env: variable}}
}

func elem(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// upperSnake turns a key into a part of a variable's name: adminPort into
// ADMIN_PORT, requestID into REQUEST_ID.
func upperSnake(key string) string {
	r := []rune(key)
	var b strings.Builder
	for i, c := range r {
		word := i > 0 && unicode.IsUpper(c) &&
			(!unicode.IsUpper(r[i-1]) && r[i-1] != '_' && r[i-1] != '-' || i+1 < len(r) && unicode.IsLower(r[i+1]) && unicode.IsUpper(r[i-1]))
		if word {
			b.WriteByte('_')
		}
		if c == '-' || c == '.' {
			c = '_'
		}
		b.WriteRune(unicode.ToUpper(c))
	}
	return b.String()
}
