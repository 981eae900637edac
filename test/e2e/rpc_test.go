package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/test/process"
)

// TestRPCPorts asks both programs on their RPC ports, as any gRPC client would.
func TestRPCPorts(t *testing.T) {
	s := newSystem(t, setup{})
	gw := s.gateway()
	u := s.userNode()
	gw.sees("user", 1)
	for name, port := range map[string]int{gw.Name: gw.rpc, u.Name: u.rpc} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, err := grpc.NewClient(fmt.Sprintf("passthrough:///127.0.0.1:%d", port), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			health := grpc_health_v1.NewHealthClient(conn)
			keyed := metadata.AppendToOutgoingContext(ctx, "call-service-key", process.CallKey)
			resp, err := health.Check(keyed, &grpc_health_v1.HealthCheckRequest{})
			if err != nil || resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
				t.Errorf("health with the key = %v, %v, want SERVING", resp.GetStatus(), err)
			}
			for what, with := range map[string]context.Context{
				"no key":    ctx,
				"wrong key": metadata.AppendToOutgoingContext(ctx, "call-service-key", "wrong"),
			} {
				_, err := health.Check(with, &grpc_health_v1.HealthCheckRequest{})
				if code := status.Code(err); code != codes.PermissionDenied && code != codes.Unauthenticated {
					t.Errorf("health with %s: %v, want it denied", what, err)
				}
				process.CheckCanary(t, "the refusal", fmt.Sprint(err))
				if _, err := reflected(with, conn); err == nil {
					t.Errorf("reflection with %s is allowed", what)
				}
			}
			services, err := reflected(keyed, conn)
			if err != nil || !slices.Contains(services, "grpc.health.v1.Health") {
				t.Errorf("reflection = %v, %v, want the health service in it", services, err)
			}
		})
	}
}

// reflected lists the services that a server names.
func reflected(ctx context.Context, conn *grpc.ClientConn) ([]string, error) {
	stream, err := reflection.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}}); err != nil {
		return nil, err
	}
	resp, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	return names, stream.CloseSend()
}
