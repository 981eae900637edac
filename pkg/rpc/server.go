// Package rpc is what the gateway and the SDK share of gRPC: a server that only
// holders of the call-service key may use, and a client connection that spreads
// calls over the live nodes of a service.
//
// A server, with health and reflection already registered:
//
//	srv := rpc.NewServer(keys, tracer, log)
//	pb.RegisterUserServer(srv, users)
//	go srv.Serve(lis)
//
// A client, told about the live nodes by whoever watches the registry:
//
//	conn, err := rpc.Dial(rpc.DialConfig{Service: "user", Keys: keys, Tracer: tracer})
//	conn.Update([]rpc.Target{{Addr: "10.0.0.1:9180", Weight: 1}})
//	reply, err := pb.NewUserClient(conn).Login(ctx, request)
//
// The package knows nothing of registries, HTTP routes or configuration.
package rpc

import (
	"context"
	"log/slog"
	"time"

	"github.com/openzipkin/zipkin-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/goms-io/goms/pkg/auth"
)

// KeyMetadata is the metadata name under which the call-service key travels.
const KeyMetadata = "call-service-key"

// MaxMessage is the largest message in bytes that server and client send or receive.
const MaxMessage = 4 << 20

const (
	maxStreams      = 1000             // concurrent calls on one connection
	maxHeaderList   = 64 << 10         // bytes of metadata in one call
	handshakeLimit  = 10 * time.Second // until a new connection has said hello
	serverPingAfter = 30 * time.Second // silence after which a connection is probed
	serverPingWait  = 10 * time.Second
	clientPingAfter = 10 * time.Second // grpc-go's floor
	clientPingWait  = 3 * time.Second
	clientPingFloor = 5 * time.Second // a client that pings more often is sent away
)

// NewServer returns a gRPC server with the health service (SERVING) and
// reflection registered. Every call, theirs included, must carry the
// call-service key in the metadata KeyMetadata; anything else ends with
// codes.PermissionDenied before its message is read. A panic in a handler ends
// that call with codes.Internal. Handlers and interceptors given in opts see the
// metadata without the key, and the server span in their context
// (zipkin.SpanFromContext). A handler's context ends with the caller's deadline, and
// passes it on to the calls made with it. Interceptors in opts must use the Chain forms.
//
// A nil tracer traces nothing, a nil log discards. The server is not started.
func NewServer(keys *auth.CallKeys, tracer *zipkin.Tracer, log *slog.Logger, opts ...grpc.ServerOption) *grpc.Server {
	srv, _ := NewServerHealth(ServerConfig{Keys: keys, Tracer: tracer, Log: log}, opts...)
	return srv
}

// ServerConfig is what a server is made of. Keys are required: without any it refuses
// every call.
type ServerConfig struct {
	Keys   *auth.CallKeys
	Tracer *zipkin.Tracer // nil traces nothing
	Log    *slog.Logger   // nil discards
	// Node is asked before each handler, and says in the trailer of each answer how it
	// is, for a Conn to heed. A call that it refuses ends with codes.Unavailable, or
	// codes.DeadlineExceeded when its time was over, and with the proof that it was, if
	// its caller named the attempt. Nil refuses no call and says nothing.
	Node Node
}

// NewServerHealth is NewServer that also returns the health service, for a
// program that reports itself as leaving before it stops.
func NewServerHealth(c ServerConfig, opts ...grpc.ServerOption) (*grpc.Server, *health.Server) {
	g := &guard{keys: c.Keys, tracer: c.Tracer, log: c.Log, node: c.Node}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	base := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.ConnectionTimeout(handshakeLimit),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: serverPingAfter, Timeout: serverPingWait}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: clientPingFloor, PermitWithoutStream: true}),
		// The tap turns a stranger away before his message takes memory. The
		// interceptors check again: grpc's ServeHTTP transport has no tap.
		grpc.InTapHandle(g.tap),
		// Not the Chain forms: these come first, whatever opts hold, so nobody
		// else is shown the key.
		grpc.UnaryInterceptor(g.unary),
		grpc.StreamInterceptor(g.stream),
		// Unknown methods go through the interceptors like known ones.
		grpc.UnknownServiceHandler(unknownMethod),
	}
	srv := grpc.NewServer(append(base, opts...)...)
	h := health.NewServer()
	healthpb.RegisterHealthServer(srv, h)
	reflection.Register(srv)
	return srv, h
}

func unknownMethod(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return status.Errorf(codes.Unimplemented, "unknown method %s", method)
}

func (g *guard) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if g.admits(info.Header) {
		return ctx, nil
	}
	g.refused(ctx, info.FullMethodName)
	return ctx, errRefused
}
