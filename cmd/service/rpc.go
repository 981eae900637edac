package main

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/goms-io/goms/cmd/service/pb"
)

// userRPC is user over gRPC.
type userRPC struct{ pb.UnimplementedUserServer }

// Register answers with what it was asked.
func (userRPC) Register(ctx context.Context, r *pb.EchoRequest) (*pb.EchoReply, error) {
	return echoRPC(ctx, r), nil
}

// Login answers with what it was asked.
func (userRPC) Login(ctx context.Context, r *pb.EchoRequest) (*pb.EchoReply, error) {
	return echoRPC(ctx, r), nil
}

// orderRPC is order over gRPC.
type orderRPC struct {
	pb.UnimplementedOrderServer
	users pb.UserClient
}

// Submit calls user's Login with the same request and shows both.
func (o orderRPC) Submit(ctx context.Context, r *pb.EchoRequest) (*pb.SubmitReply, error) {
	login, err := o.users.Login(ctx, r)
	if err != nil {
		return nil, err // a status already
	}
	return &pb.SubmitReply{Order: echoRPC(ctx, r), Login: login}, nil
}

func echoRPC(ctx context.Context, r *pb.EchoRequest) *pb.EchoReply {
	reply := &pb.EchoReply{UrlParam: r.GetUrlParam(), Body: r.GetBody(), Headers: map[string]string{}}
	reply.Method, _ = grpc.Method(ctx)
	md, _ := metadata.FromIncomingContext(ctx)
	for name, values := range md {
		if len(values) > 0 {
			reply.Headers[name] = strings.ToValidUTF8(values[0], "?") // binary metadata is not text
		}
	}
	return reply
}
