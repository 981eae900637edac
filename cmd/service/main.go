// Command service is one node of a demo service, made with the SDK (pkg/service).
//
// As user, the default, it serves /register and /login, which answer with what they
// were sent. As order (-name order) it serves /order/submit, which calls user's login
// on the way and shows both. Both do the same over gRPC (pb/demo.proto). Under any
// other name it echoes at the paths that the configuration gives that service.
//
//	service -http_port 9080 -rpc_port 9180 -etcd_addr 127.0.0.1:2379
//	service -name order -http_port 9090 -rpc_port 9190
//
// Files: the directory configs, if it is there, or what -config names. Every key can
// be set by a variable, as GOMS_CALL_SERVICE_KEY; flags win over both. -h lists the
// flags.
//
// Ports: HTTP (9080) and gRPC (9180); all of both wants the call-service key, but for
// /livez and /readyz.
//
// Signals: SIGTERM and SIGINT drain and exit 0; a second one exits 1 at once. Exit
// codes: 1 it could not start, 2 wrong command line, 3 invalid configuration.
package main

import "github.com/goms-io/goms/pkg/service"

func main() { service.Main("user", setup) }
