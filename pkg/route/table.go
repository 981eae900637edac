// Package route says which rule a request belongs to: an immutable table of the paths
// that services serve, one canonical form of a path, and the checks of both.
//
//	table, err := route.New(route.DefaultPrefix, route.Services{
//		"user": {"login": {Path: "/login", Methods: []string{"POST"}}},
//	})
//
//	path, err := route.Canonical(buf[:0], []byte("/api/%75ser/login"))
//	rule, err := table.Match([]byte("POST"), path)
//	// rule.Service is "user", rule.Path is "/login", rule.Name is "/api/user/login"
//
// The path that is matched is the one that Canonical returns, and a rule's Path is the
// one to send: nothing else of a client's spelling gets past this package.
//
// The package does no I/O. It does not know nodes, headers, queries, configuration
// files, or which status an error becomes.
package route

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// DefaultPrefix is the prefix of all routes when the configuration names no other.
const DefaultPrefix = "/api"

// The errors of Match, besides *MethodError.
var (
	// ErrNoService says that the path names a service that is not in the table.
	ErrNoService = errors.New("no such service")
	// ErrNoRoute says that the service has no such action, or that the path is not
	// below the table's prefix.
	ErrNoRoute = errors.New("no such route")
)

// Table is a compiled set of routes. It is immutable; all methods may run together.
type Table struct {
	prefix   string
	digest   string
	services map[string]map[string]*Rule
	rules    []*Rule
}

// New compiles services, which it validates first, below prefix: a request for
// prefix/service/action belongs to services[service][action]. The prefix "" or "/" is
// none; a trailing slash is dropped. The table does not share memory with services.
func New(prefix string, services Services) (*Table, error) {
	prefix, err := checkPrefix(prefix)
	if err != nil {
		return nil, err
	}
	if err := services.Validate(); err != nil {
		return nil, fmt.Errorf("check routes: %w", err)
	}
	t := &Table{prefix: prefix, digest: digest(prefix, services), services: make(map[string]map[string]*Rule, len(services))}
	for service, routes := range services {
		actions := make(map[string]*Rule, len(routes))
		for action, r := range routes {
			rule := newRule(prefix, service, action, r)
			actions[action] = rule
			t.rules = append(t.rules, rule)
		}
		t.services[service] = actions
	}
	slices.SortFunc(t.rules, func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Action, b.Action))
	})
	return t, nil
}

// Match returns the rule for a request, given its method and its path in the form that
// Canonical returns, without a query. The error is ErrNoService or ErrNoRoute with a
// nil rule, or a *MethodError with the rule that refuses the method, so that the
// refusal can be recorded under the rule's name. Match allocates nothing and keeps
// neither argument.
func (t *Table) Match(method, path []byte) (*Rule, error) {
	if len(path) <= len(t.prefix) || string(path[:len(t.prefix)]) != t.prefix || path[len(t.prefix)] != '/' {
		return nil, ErrNoRoute
	}
	service, action := path[len(t.prefix)+1:], []byte(nil)
	if i := bytes.IndexByte(service, '/'); i >= 0 {
		service, action = service[:i], service[i+1:]
	}
	actions, ok := t.services[string(service)]
	if !ok {
		return nil, ErrNoService
	}
	rule, ok := actions[string(action)]
	if !ok {
		return nil, ErrNoRoute
	}
	if !rule.serves(method) {
		return rule, rule.refusal
	}
	return rule, nil
}

// Prefix returns the normalised prefix: "" or a path without a trailing slash.
func (t *Table) Prefix() string { return t.prefix }

// Rules returns all rules, sorted by service and action. The slice is shared: do not
// modify it.
func (t *Table) Rules() []*Rule { return t.rules }

// checkPrefix returns prefix in its normal form.
func checkPrefix(prefix string) (string, error) {
	if prefix == "" || prefix == "/" {
		return "", nil
	}
	normal := strings.TrimSuffix(prefix, "/")
	rest, rooted := strings.CutPrefix(normal, "/")
	if !rooted {
		return "", fmt.Errorf("check prefix %q: it must begin with \"/\"", prefix)
	}
	if err := checkSegments(rest); err != nil {
		return "", fmt.Errorf("check prefix %q: %w", prefix, err)
	}
	return normal, nil
}
