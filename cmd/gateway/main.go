// Command gateway is the API gateway of a goms project.
//
//	gateway -http_port 8080 -rpc_port 8180 -etcd_addr 127.0.0.1:2379
//	gateway check -config configs      # prints OK or every complaint
//	gateway config -config configs     # prints the effective configuration, secrets masked
//	gateway healthcheck -http_port 8080
//	gateway node list                  # the nodes in etcd, and what is set for them
//	gateway node drain user 10.0.0.7:9180_10.0.0.7:9080   # also undrain, weight … 5, reset: for all gateways
//	gateway routes push configs/services.yml -m "why"     # into etcd; also pull, list, diff, rollback 3
//	gateway version
//
// Files: the directory configs, if it is there, or what -config names. Every key can be set by a
// variable, as GOMS_CALL_SERVICE_KEY; flags win over both. -h lists the flags. Without an address of
// etcd the gateway runs one of its own, by default on 127.0.0.1:2379 with its data in data/etcd.
// With one it keeps the nodes in data/{projectName}.nodes (gateway.snapshotFile), to start from while etcd is away.
// With gateway.routesFrom: etcd the routes are those that gateway routes has put into etcd, kept in data/{projectName}.routes.
//
// Ports: HTTP (8080) takes the clients' requests; gRPC (8180) wants the call-service key; the admin
// port (HTTP port + 200, loopback only) serves /metrics, /debug/pprof/, /log-level and /cluster.
//
// Signals: SIGHUP reads the configuration again, as a change of its files does: routes, call-service keys, the settings of the
// data plane and the log level change without a restart; what is wrong stays out and is said in the log. SIGUSR2 starts the binary
// that lies there now, hands over the sockets, drains and exits 0. SIGTERM and SIGINT drain and exit 0; a second one, half a second later or more, exits 1 at once. Exit codes: 0 done, 1 it
// could not start or broke, 2 wrong command line, 3 invalid configuration; those of
// gateway routes diff are 0 the same, 1 they differ, 2 or 3 an error.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/goms-io/goms/pkg/project"
)

// version is set by the build.
var version = "devel"

func main() {
	ctx := project.UntilSignal(context.Background())
	err := command(ctx, os.Args[1:], os.Stdout, newUpgrades)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(project.ExitCode(err))
}
