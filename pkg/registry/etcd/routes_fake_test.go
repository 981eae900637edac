package etcd_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/registry/etcd"
)

// flaky is an etcd that says which version is the newest, but fails at first when it is asked for that.
type flaky struct {
	fake
	failures atomic.Int32
	value    []byte
}

func (f *flaky) Range(_ context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	value := f.value
	if strings.HasSuffix(string(req.Key), "/head") {
		value = []byte("1")
	} else if f.failures.Add(-1) >= 0 {
		return nil, status.Error(codes.Internal, "not now")
	}
	kv := &mvccpb.KeyValue{Key: req.Key, Value: value, ModRevision: 1}
	return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 10}, Kvs: []*mvccpb.KeyValue{kv}}, nil
}

// TestRoutesAreReadAgain has etcd fail between the two reads that a version takes.
func TestRoutesAreReadAgain(t *testing.T) {
	t.Parallel()
	doc := etcd.RouteDoc{Version: 1, YAML: []byte("a: 1\n"), Digest: "37b128c59f1f5097f73f82691cb519f1f568667faab5ced1b4ab979d36837eae"}
	text, err := doc.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{value: text}
	f.failures.Store(2)
	r := open(t, serveFake(t, f), etcd.Config{CheckInterval: 50 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got etcd.RouteDoc
	_ = r.Routes().Watch(ctx, func(doc etcd.RouteDoc, err error) {
		if err != nil {
			t.Errorf("Watch() told %v of an etcd that was away", err)
		}
		got = doc
		cancel()
	})
	if string(got.YAML) != "a: 1\n" || got.Version != 1 {
		t.Errorf("Watch() told %+v, want version 1", got)
	}
}
