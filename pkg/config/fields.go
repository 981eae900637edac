package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode"
)

// hints are the tags that hold for a value. secret and open are inherited.
type hints struct{ secret, open, split bool }

// field is one key of a struct, also of one that is inlined in it.
type field struct {
	name  string
	index []int
	hints hints
}

var (
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	durationType = reflect.TypeFor[time.Duration]()
	fieldsCache  sync.Map // reflect.Type to []field
)

// fields returns the keys of a struct type in the order of its declaration.
func fields(t reflect.Type) []field {
	if known, ok := fieldsCache.Load(t); ok {
		return known.([]field)
	}
	list := collect(t, nil, hints{})
	seen := map[string]bool{}
	for _, f := range list {
		if seen[f.name] {
			panic(fmt.Sprintf("BUG: config: two fields of %s have the key %q", t, f.name))
		}
		seen[f.name] = true
	}
	fieldsCache.Store(t, list)
	return list
}

func collect(t reflect.Type, index []int, inherited hints) []field {
	var list []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, option, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		at := append(index[:len(index):len(index)], i)
		h := hints{
			secret: inherited.secret || sf.Tag.Get("secret") == "true",
			open:   inherited.open || sf.Tag.Get("open") == "true",
			split:  sf.Tag.Get("split") == "addrs",
		}
		inline := option == "inline" || sf.Anonymous && name == "" && sf.Type.Kind() == reflect.Struct && !isText(sf.Type)
		if inline {
			if sf.Type.Kind() != reflect.Struct {
				panic(fmt.Sprintf("BUG: config: field %s of %s is inline but no struct", sf.Name, t))
			}
			if sf.IsExported() || sf.Anonymous {
				list = append(list, collect(sf.Type, at, h)...)
			}
			continue
		}
		if !sf.IsExported() {
			continue
		}
		if name == "" {
			name = lowerCamel(sf.Name)
		}
		list = append(list, field{name: name, index: at, hints: h})
	}
	return list
}

func (f field) inherit(h hints) hints {
	return hints{secret: h.secret || f.hints.secret, open: h.open || f.hints.open, split: f.hints.split}
}

func findField(t reflect.Type, name string) (field, bool) {
	for _, f := range fields(t) {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func names(t reflect.Type) []string {
	list := make([]string, 0, len(fields(t)))
	for _, f := range fields(t) {
		list = append(list, f.name)
	}
	return list
}

// isText says whether a scalar of this type is read by UnmarshalText.
func isText(t reflect.Type) bool {
	return t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && reflect.PointerTo(t).Implements(textType)
}

func isAny(t reflect.Type) bool { return t.Kind() == reflect.Interface && t.NumMethod() == 0 }

// isMapField says whether the top-level key is a map, or may be one for the program
// that reads it, so that several files may each hold some of its entries.
func isMapField(t reflect.Type, key string) bool {
	f, ok := findField(t, key)
	if !ok {
		return false
	}
	ft := t.FieldByIndex(f.index).Type
	for ft.Kind() == reflect.Pointer {
		ft = ft.Elem()
	}
	return ft.Kind() == reflect.Map || isAny(ft)
}

// isScalar says whether a value of this type is written as one scalar.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		return true
	}
	return isText(t)
}

// checkTypes panics when a type in the tree of t cannot be decoded, so that the
// first test finds it and not the first operator.
func checkTypes(t reflect.Type) {
	seen := map[reflect.Type]bool{}
	var check func(t reflect.Type, path string)
	check = func(t reflect.Type, path string) {
		if seen[t] {
			return
		}
		seen[t] = true
		switch {
		case t.Kind() == reflect.Struct:
			for _, f := range fields(t) {
				check(t.FieldByIndex(f.index).Type, join(path, f.name))
			}
		case isScalar(t), isAny(t):
		case t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice:
			check(t.Elem(), path)
		case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
			check(t.Elem(), path)
		default:
			panic(fmt.Sprintf("BUG: config: key %q has type %s, which cannot be configured", path, t))
		}
	}
	check(t, "")
}

// lowerCamel turns the name of a field into a key: CAFile into caFile.
func lowerCamel(name string) string {
	r := []rune(name)
	for i := range r {
		if !unicode.IsUpper(r[i]) || i > 0 && i+1 < len(r) && unicode.IsLower(r[i+1]) {
			break
		}
		r[i] = unicode.ToLower(r[i])
	}
	return string(r)
}
