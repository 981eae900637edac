package main

import (
	"strings"
	"testing"
)

// TestIdlePolicies has a policy of a service that no route leads to: it is told, and no error, for a route may have gone.
func TestIdlePolicies(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", strings.Repeat("key", 20))
	const line = `gateway.policies.usr: no route leads to a service of that name (did you mean "user"?)`
	f := func(from, want string) string {
		t.Helper()
		text := "etcdAddr: ['127.0.0.1:1']\nservices: {user: {login: /login}}\ngateway:\n  routesFrom: " + from +
			"\n  drainDelay: 0s\n  snapshotFile: ''\n  routesFile: ''\n  policies: {default: {balance: random}, user: {balance: p2c}, usr: {balance: p2c}}\n"
		path := write(t, "c.yml", text)
		if out, err := runFor(t, "check", "-config", path); err != nil || out != want {
			t.Errorf("check = %q, %v, want %q", out, err, want)
		}
		return path
	}
	f("etcd", "OK\n")
	g := startFrom(t, f("file", "warning: "+line+"\nOK\n"))
	if log := g.out.String(); strings.Count(log, "a policy does nothing") != 1 || !strings.Contains(log, "gateway.policies.usr") {
		t.Errorf("the log lacks the policy that does nothing:\n%s", log)
	}
}
