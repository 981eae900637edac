package config

import (
	"maps"
	"reflect"
	"slices"
)

// Changed returns the keys, as dotted paths, whose values differ between a and b, sorted. Both are structs of one type, or
// pointers to one, as for Load; neither is changed. A nil pointer is a key that nobody has set, as one that is not there. Values, and with
// them secrets, are not returned.
func Changed(a, b any) []string {
	va, vb := reflect.Indirect(reflect.ValueOf(a)), reflect.Indirect(reflect.ValueOf(b))
	if va.Kind() != reflect.Struct || va.Type() != vb.Type() {
		panic("BUG: config: a and b must be structs of one type")
	}
	before, after := leaves(va), leaves(vb)
	for _, all := range []map[string]any{before, after} {
		maps.DeleteFunc(all, func(_ string, v any) bool {
			p := reflect.ValueOf(v)
			return p.Kind() == reflect.Pointer && p.IsNil()
		})
	}
	keys := map[string]struct{}{}
	for path, v := range before {
		if w, ok := after[path]; !ok || !reflect.DeepEqual(v, w) {
			keys[path] = struct{}{}
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			keys[path] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}
