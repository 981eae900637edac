package main

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/goms-io/goms/pkg/config"
)

// policyForAll is the name under gateway.policies that is no service's.
const policyForAll = "default"

// idlePolicies says of each policy of a service that no route leads to that it does nothing: mostly a name that was mistyped. Where routes
// come from etcd it may be ahead of them.
func (c *Config) idlePolicies() []string {
	if c.Gateway.RoutesFrom == routesFromEtcd {
		return nil
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.Gateway.Policies)) {
		if name == policyForAll || len(c.Services[name]) > 0 {
			continue
		}
		meant := ""
		if near := config.Suggest(name, slices.Sorted(maps.Keys(c.Services))); near != "" {
			meant = fmt.Sprintf(" (did you mean %q?)", near)
		}
		all = append(all, fmt.Sprintf("gateway.policies.%s: no route leads to a service of that name%s", name, meant))
	}
	return all
}

// tellIdle logs what the configuration says for nothing.
func (c *Config) tellIdle(log *slog.Logger) {
	for _, text := range c.idlePolicies() {
		log.Warn("a policy does nothing", "err", text)
	}
}
