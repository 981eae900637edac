package main

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/route"
)

// projectKeys are the keys that all programs share, none of them required.
type projectKeys project.Config

// routesFile is a file or directory that routes are pushed from. It may hold the rest of a configuration too.
type routesFile struct {
	Project  projectKeys    `yaml:",inline"`
	Services route.Services `yaml:"services"`
	Gateway  any            `yaml:"gateway" open:"true"`
	Service  any            `yaml:"service" open:"true"`
}

// routesDoc is a route table as it is stored: nothing but routes.
type routesDoc struct {
	Services route.Services `yaml:"services"`
}

// readRoutes reads the routes of a file or directory. Variables are replaced here, so that all gateways get the same.
func readRoutes(path string) (route.Services, error) {
	var f routesFile
	if err := config.Load(path, &f, config.Options{}); err != nil {
		return nil, err
	}
	return f.Services, nil
}

// parseRoutes reads a stored table. Complaints call it name. Whoever may write to etcd is told nothing of the environment.
func parseRoutes(name string, text []byte) (route.Services, error) {
	var doc routesDoc
	if err := config.LoadText(name, text, &doc, config.Options{Env: func(string) (string, bool) { return "", false }}); err != nil {
		return nil, err
	}
	return doc.Services, nil
}

// formatRoutes returns the text that is stored: the same for the same routes. Services without routes are left out.
func formatRoutes(services route.Services) ([]byte, error) {
	var doc struct {
		Services map[string]map[string]any `yaml:"services"`
	}
	doc.Services = map[string]map[string]any{}
	for service, actions := range services {
		for action, r := range actions {
			if doc.Services[service] == nil {
				doc.Services[service] = map[string]any{}
			}
			doc.Services[service][action] = formatRoute(r)
		}
	}
	var b bytes.Buffer
	if err := config.Dump(&b, doc); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// formatRoute returns the short form of r where that says all.
func formatRoute(r route.Route) any {
	said := map[string]any{}
	for _, f := range routeFields(r) {
		if f.set {
			said[f.name] = f.value
		}
	}
	if len(said) == 1 {
		return r.Path
	}
	return said
}

// routeField is what a route says under one key.
type routeField struct {
	name  string
	value any
	set   bool
}

func (f routeField) String() string {
	if !f.set {
		return "-"
	}
	return strings.ReplaceAll(fmt.Sprint(f.value), " ", ",")
}

// routeFields returns all keys of a route, in the order in which they are written in the type.
func routeFields(r route.Route) []routeField {
	v := reflect.ValueOf(r)
	list := make([]routeField, v.NumField())
	for i := range list {
		f := v.Field(i)
		list[i] = routeField{name: v.Type().Field(i).Tag.Get("yaml"), set: !f.IsZero() && !(f.Kind() == reflect.Slice && f.Len() == 0)}
		if list[i].set {
			list[i].value = reflect.Indirect(f).Interface()
		}
	}
	return list
}

// changes are how one set of routes differs from another.
type changes struct {
	lines                   []string // one a route, sorted by its path
	added, removed, changed int
}

func (c changes) none() bool { return len(c.lines) == 0 }

func (c changes) String() string {
	return fmt.Sprintf("%d added, %d removed, %d changed", c.added, c.removed, c.changed)
}

// diffRoutes says how to come from one set of routes to another. Routes are named by the paths of clients, below prefix.
func diffRoutes(prefix string, from, to route.Services) changes {
	before, after := flatRoutes(prefix, from), flatRoutes(prefix, to)
	all := maps.Clone(before)
	maps.Copy(all, after)
	var c changes
	for _, name := range slices.Sorted(maps.Keys(all)) {
		a, was := before[name]
		b, is := after[name]
		switch {
		case !was:
			c.added++
			c.lines = append(c.lines, "+ "+name+describeRoute(b))
		case !is:
			c.removed++
			c.lines = append(c.lines, "- "+name+describeRoute(a))
		default:
			if text := describeChange(a, b); text != "" {
				c.changed++
				c.lines = append(c.lines, "~ "+name+text)
			}
		}
	}
	return c
}

func flatRoutes(prefix string, services route.Services) map[string]route.Route {
	flat := map[string]route.Route{}
	for service, actions := range services {
		for action, r := range actions {
			flat[strings.TrimSuffix(prefix, "/")+"/"+service+"/"+action] = r
		}
	}
	return flat
}

func describeRoute(r route.Route) string {
	var b strings.Builder
	for _, f := range routeFields(r) {
		if f.set {
			fmt.Fprintf(&b, " %s=%s", f.name, f)
		}
	}
	return b.String()
}

func describeChange(a, b route.Route) string {
	var text strings.Builder
	after := routeFields(b)
	for i, f := range routeFields(a) {
		if g := after[i]; f.set != g.set || !reflect.DeepEqual(f.value, g.value) {
			fmt.Fprintf(&text, " %s=%s→%s", f.name, f, g)
		}
	}
	return text.String()
}

// shortTime is t for a list.
func shortTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// digestOf is the digest that a gateway publishes when it serves a stored table below prefix.
func digestOf(prefix string, text []byte) (string, error) {
	services, err := parseRoutes("the stored routes", text)
	if err != nil {
		return "", err
	}
	table, err := route.New(prefix, services)
	if err != nil {
		return "", err
	}
	return table.Digest(), nil
}

// countRoutes is how many routes there are.
func countRoutes(services route.Services) int {
	n := 0
	for _, actions := range services {
		n += len(actions)
	}
	return n
}
