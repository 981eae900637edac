package config

import (
	"maps"
	"reflect"
	"slices"
)

// Changed returns the keys, as dotted paths, whose values differ between a and b, sorted. Both are structs of one type, or
// pointers to one, as for Load; neither is changed. A nil pointer is a key that nobody has set, as one that is not there. Of an entry that
// only one of them has, as of a map, the key of the whole is returned and not those within. Values, and with them secrets, are not returned.
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
	inBefore, inAfter := parents(before), parents(after)
	for path, v := range before {
		w, ok := after[path]
		switch {
		case !ok:
			keys[missing(path, inAfter)] = struct{}{}
		case !reflect.DeepEqual(v, w):
			keys[path] = struct{}{}
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			keys[missing(path, inBefore)] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

// parents returns all keys above those of leaves.
func parents(leaves map[string]any) map[string]struct{} {
	all := map[string]struct{}{}
	for path := range leaves {
		for i := range len(path) {
			if path[i] == '.' {
				all[path[:i]] = struct{}{}
			}
		}
	}
	return all
}

// missing returns path, or the first key above it that is none of parents.
func missing(path string, parents map[string]struct{}) string {
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		if _, there := parents[path[:i]]; !there {
			return path[:i]
		}
	}
	return path
}
