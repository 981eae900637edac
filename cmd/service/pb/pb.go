// Package pb is the gRPC interface of the demo services, generated from demo.proto:
//
//	client := pb.NewUserClient(s.Dial("user"))
//	reply, err := client.Login(ctx, &pb.EchoRequest{UrlParam: "?a=1", Body: "{}"})
//
// Generating needs protoc 3.21 or later, protoc-gen-go v1.36.12 and
// protoc-gen-go-grpc v1.6.2 on the PATH. The package holds no behaviour.
package pb

//go:generate protoc -I . --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative demo.proto
