package main

import (
	"context"
	"crypto/tls"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/rpc"
)

// checkGRPC returns the check of nodes by the gRPC health protocol: one connection and one call with the
// call-service key each time, so that a node's listener is checked too.
func checkGRPC(keys func() *auth.CallKeys) func(ctx context.Context, addr, service string, secure *tls.Config) error {
	return func(ctx context.Context, addr, service string, secure *tls.Config) error {
		creds := insecure.NewCredentials()
		if secure != nil {
			creds = credentials.NewTLS(secure)
		}
		cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
		if err != nil {
			return fmt.Errorf("check %s: %w", addr, err)
		}
		defer cc.Close() //nolint:errcheck // fails only when called twice
		ctx = metadata.AppendToOutgoingContext(ctx, rpc.KeyMetadata, keys().Current())
		answer, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			return fmt.Errorf("check %s: %w", addr, err)
		}
		if answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			return fmt.Errorf("check %s: %s", addr, answer.GetStatus())
		}
		return nil
	}
}
