package config

import (
	"cmp"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

type validator interface{ Validate() error }

// keyed is an error that knows the key it is about.
type keyed interface {
	error
	ConfigKey() string
}

// validate asks what is in v, then v itself. v is addressable.
func (d *decoder) validate(v reflect.Value, path string) {
	if v.Kind() == reflect.Pointer {
		if !v.IsNil() {
			d.validate(v.Elem(), path)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range fields(v.Type()) {
			d.validate(v.FieldByIndex(f.index), join(path, f.name))
		}
		d.validateEmbedded(v, path)
	case reflect.Slice:
		for i := range v.Len() {
			d.validate(v.Index(i), index(path, i))
		}
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			break // inside a type that reads itself from text
		}
		for _, k := range sortedKeys(v) {
			entry := reflect.New(v.Type().Elem()).Elem()
			entry.Set(v.MapIndex(reflect.ValueOf(k).Convert(v.Type().Key())))
			d.validate(entry, join(path, k))
		}
	}
	if v.CanInterface() {
		if val, ok := v.Addr().Interface().(validator); ok {
			d.report(val.Validate(), path)
		}
	}
}

// validateEmbedded asks the structs whose keys are those of v. Their own fields
// are asked with the fields of v.
func (d *decoder) validateEmbedded(v reflect.Value, path string) {
	asked := map[string]bool{}
	for _, f := range fields(v.Type()) {
		for n := len(f.index) - 1; n > 0; n-- {
			inner := v.FieldByIndex(f.index[:n])
			id := indexID(f.index[:n])
			if asked[id] || !inner.CanInterface() {
				continue
			}
			asked[id] = true
			if val, ok := inner.Addr().Interface().(validator); ok {
				d.report(val.Validate(), path)
			}
		}
	}
}

func indexID(index []int) string {
	var b strings.Builder
	for _, i := range index {
		b.WriteString(strconv.Itoa(i))
		b.WriteByte('.')
	}
	return b.String()
}

// report places what Validate of the value at path returned.
func (d *decoder) report(err error, path string) {
	for _, e := range unjoin(err) {
		if d.full() {
			d.dropped++
			continue
		}
		key, msg := path, e.Error()
		if k, ok := errors.AsType[keyed](e); ok && k.ConfigKey() != "" {
			key = join(path, k.ConfigKey())
			msg = strings.TrimPrefix(msg, k.ConfigKey()+": ")
		}
		if !d.follows(key, key == path) {
			d.add(d.nearest(key).at(key, shorten(msg, 500)), key)
		}
	}
}

// unjoin returns the parts of errors.Join and of Errors. Other errors with several
// causes say something of their own and stay whole.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	parts := joined.Unwrap()
	texts := make([]string, 0, len(parts))
	for _, p := range parts {
		texts = append(texts, p.Error())
	}
	if strings.Join(texts, "\n") != err.Error() {
		return []error{err}
	}
	var all []error
	for _, p := range parts {
		all = append(all, unjoin(p)...)
	}
	return all
}

// follows says whether a complaint of Validate about key is a mere consequence of
// one about a value: the same key could not be read, or it is missing where
// an unknown key stands.
func (d *decoder) follows(key string, whole bool) bool {
	_, set := d.places[key]
	for _, c := range d.found[:d.decoded] {
		if c.path == "" {
			continue
		}
		if within(c.path, key) || within(key, c.path) {
			return true
		}
		if c.unknown && !set && !whole && parent(c.path) == parent(key) {
			return true
		}
	}
	return false
}

// nearest returns the place of path or of what is around it.
func (d *decoder) nearest(path string) place {
	for _, a := range d.applied {
		if within(path, a) {
			return place{}
		}
	}
	for at := path; ; at = parent(at) {
		if p, ok := d.places[at]; ok || at == "" {
			return p
		}
	}
}

// redact takes the values of secrets out of what Validate and UnmarshalText said.
func (d *decoder) redact(root reflect.Value) {
	var secrets []string
	eachLeaf(root, "", hints{}, func(_ string, v reflect.Value, h hints) {
		if h.secret {
			secrets = appendTexts(secrets, v)
		}
	})
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, s := range secrets {
		quoted := strconv.Quote(s)
		for _, c := range d.found {
			c.Msg = strings.ReplaceAll(c.Msg, s, mask)
			c.Msg = strings.ReplaceAll(c.Msg, quoted[1:len(quoted)-1], mask)
		}
	}
}

// appendTexts appends the strings in v that are long enough to be told from
// ordinary words.
func appendTexts(list []string, v reflect.Value) []string {
	switch v.Kind() {
	case reflect.String:
		if v.Len() >= 4 {
			list = append(list, v.String())
		}
	case reflect.Slice:
		for i := range v.Len() {
			list = appendTexts(list, v.Index(i))
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			list = appendTexts(list, v.Elem())
		}
	}
	return list
}
