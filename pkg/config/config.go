// Package config turns YAML files, environment variables and command-line
// flags into a struct that somebody else defined. It is strict: an unknown key,
// a duplicate, a value of the wrong type or an undefined ${VAR} is a complaint,
// all complaints are given at once, and each says where it comes from:
//
//	configs/services.yml:7: services.user.login.pth: unknown key (did you mean "path"?)
//
// A program fills a struct with its defaults and loads over it:
//
//	cfg := Config{Listen: ":8080", Timeout: 10 * time.Second}
//	err := config.Load("configs", &cfg, config.Options{EnvPrefix: "GOMS_"})
//
// # Struct tags
//
//   - yaml:"name" names the key. Without it the key is the field's name with
//     its leading capitals lowered (CAFile is caFile). yaml:"-" leaves the field
//     out. yaml:",inline", or an embedded struct without a name, puts the
//     struct's keys beside those of its parent.
//   - secret:"true" keeps the value out of every message and of Dump, for the
//     field and all below it.
//   - open:"true" ignores unknown keys in the field and all below it: a part
//     that another program reads. In a field of type any that is open, text is
//     kept as written and ${VAR} is not replaced.
//   - split:"addrs" on a []string splits each text with SplitAddrs.
//
// # Values
//
// A null leaves the default. Text takes any scalar as it is written; numbers
// are decimal and not quoted; a boolean is true or false; a time.Duration needs
// a unit ("10s"). A type with UnmarshalText is filled from a scalar; if it is a
// struct with fields it may be written as a mapping too. A list may be written
// as its only element. A list replaces the default, a map is merged into it.
// YAML aliases, merge keys, tags other than !!str and several documents in
// a file are refused.
//
// In scalar values (never in keys) ${VAR} is replaced by the environment's
// value and ${VAR:-text} by text when the variable is unset or empty; $$ is a
// dollar sign. It is done after parsing: a value cannot change the structure.
//
// # What it does not know
//
// It knows no key, default or flag of any program, watches no files and keeps
// no state. Only tests and programs give it a dst; a dst it cannot fill (not a
// pointer to a struct, a channel inside) is a bug of the caller and panics.
package config

import (
	"os"
	"reflect"
)

// Options says what is laid over the files. The zero value reads variables from
// the process's environment for ${VAR} only, and applies nothing.
type Options struct {
	// Env looks up an environment variable. Nil means os.LookupEnv.
	Env func(string) (string, bool)
	// EnvPrefix begins the names of the variables that override keys: with
	// "GOMS_", gateway.adminPort is read from GOMS_GATEWAY_ADMIN_PORT. Scalars
	// and lists (split at '|' and ',') can be overridden, maps cannot. A variable
	// that is set counts, even if it is empty. Empty means no overrides.
	EnvPrefix string
	// Apply runs once, after files and environment and before Validate: the
	// place for command-line flags. It is not called when a file could not be
	// read or parsed. Nil means none.
	Apply func()
}

// Load fills dst, a pointer to a struct that already holds the defaults, from
// path: a file, or a directory whose *.yml and *.yaml files are merged in the
// order of their names. An empty path means no file. In a directory the top-level
// keys are merged and, where a key's field is a map or any, the entries of that map;
// the same key twice is a complaint, in one file or in two.
//
// Then each value in the tree that has a Validate() error method is asked, the
// inner ones first and dst last, unless a file could not be parsed. Validate must
// only look: it may be called again for an embedded struct whose method is
// promoted. The parts of a joined error are complaints of their own. One that has
// a method ConfigKey() string, a dotted path relative to the value that was
// asked, is placed at that key or its nearest ancestor that a file mentions.
// What merely follows from a complaint about the same key is left out.
//
// Load returns nil or *Errors with all complaints. After an error the content of
// dst must not be used. Load may run concurrently with itself on different dsts,
// and never changes what the maps, slices and pointers in the defaults point to.
func Load(path string, dst any, o Options) error {
	root := target(dst)
	return fill(root, o, func(c *complaints) *tree {
		return readPath(path, c, func(key string) bool { return isMapField(root.Type(), key) })
	})
}

// LoadText is Load for the text of one file, which need not lie on a disk. Complaints call it name.
func LoadText(name string, text []byte, dst any, o Options) error {
	return fill(target(dst), o, func(c *complaints) *tree {
		if len(text) > maxFile {
			c.fatal(&Error{File: name, Msg: "is larger than " + Bytes(maxFile).String()})
			return nil
		}
		return parse(name, text, c)
	})
}

// fill is Load for what read returns.
func fill(root reflect.Value, o Options, read func(*complaints) *tree) error {
	checkTypes(root.Type())
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	d := &decoder{env: o.Env, places: map[string]place{}}
	tree := read(&d.complaints)
	if tree != nil {
		d.decode(tree, root, "", hints{})
	}
	if o.EnvPrefix != "" {
		d.override(root, o.EnvPrefix)
	}
	if !d.broken {
		d.apply(root, o.Apply)
		d.decoded = len(d.found)
		d.validate(root, "")
	}
	d.redact(root)
	return d.complaints.err()
}

// apply runs fn and forgets where the values that it changed came from.
func (d *decoder) apply(root reflect.Value, fn func()) {
	if fn == nil {
		return
	}
	before := leaves(root)
	fn()
	after := leaves(root)
	for path, v := range after {
		if old, ok := before[path]; !ok || !reflect.DeepEqual(old, v) {
			delete(d.places, path)
			d.applied = append(d.applied, path)
		}
	}
}

// target returns the struct that dst points to.
func target(dst any) reflect.Value {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic("BUG: config: dst must be a pointer to a struct")
	}
	return v.Elem()
}
