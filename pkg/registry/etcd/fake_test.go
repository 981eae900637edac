package etcd_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// fake is an etcd whose listings are scripted and whose watch is silent.
type fake struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer

	mu       sync.Mutex // guards what follows
	revision int64
	nodes    []registry.Node
	err      error
	listings int
	watches  int
}

func newFake(t *testing.T, nodes ...registry.Node) (f *fake, addr string) {
	t.Helper()
	f = &fake{revision: 10, nodes: nodes}
	return f, serveFake(t, f)
}

// serveFake serves what plays etcd until the test ends, and returns its address.
func serveFake(t *testing.T, f interface {
	pb.KVServer
	pb.WatchServer
},
) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	pb.RegisterKVServer(srv, f)
	pb.RegisterWatchServer(srv, f)
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-done
	})
	return l.Addr().String()
}

func (f *fake) set(revision int64, err error, nodes ...registry.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision, f.err, f.nodes = revision, err, nodes
}

func (f *fake) counts() (listings, watches int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listings, f.watches
}

func (f *fake) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listings++
	if f.err != nil {
		return nil, f.err
	}
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: f.revision}}
	for i, n := range f.nodes {
		resp.Kvs = append(resp.Kvs, &mvccpb.KeyValue{Key: []byte(n.Key(project)), Value: []byte(n.Value()), ModRevision: int64(i + 1)})
	}
	return resp, nil
}

func (f *fake) Watch(s pb.Watch_WatchServer) error {
	f.mu.Lock()
	f.watches++
	rev := f.revision
	f.mu.Unlock()
	if _, err := s.Recv(); err != nil {
		return err
	}
	if err := s.Send(&pb.WatchResponse{Header: &pb.ResponseHeader{Revision: rev}, Created: true}); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func TestSilentWatchIsNoticed(t *testing.T) {
	t.Parallel()
	f, addr := newFake(t, node(0), node(1))
	w := watch(t, addr, etcd.Config{CheckInterval: 50 * time.Millisecond})
	f.set(12, nil, node(0), node(2))
	w.await(patience, node(0), node(1), node(2)) // what is missing is held
	w.await(patience, node(0), node(2))
	if got := w.Status().Resyncs; got["stale"] != 1 || len(got) != 1 {
		t.Errorf("Resyncs = %v, want one, stale", got)
	}
}

func TestRevisionThatGoesBackIsNoticed(t *testing.T) {
	t.Parallel()
	f, addr := newFake(t, node(0))
	w := watch(t, addr, etcd.Config{CheckInterval: 50 * time.Millisecond})
	f.set(3, nil, node(0))
	eventually(t, "resync", patience, func() bool { return w.Status().Resyncs["revision"] == 1 })
	eventually(t, "old revision forgotten", patience, func() bool { return w.Status().Revision == 3 })
	w.noLeaves(0)
	if _, calls := w.told(); calls != 1 {
		t.Errorf("%d calls for a set that did not change, want 1", calls)
	}
}

func TestQuietStoreIsLeftAlone(t *testing.T) {
	t.Parallel()
	f, addr := newFake(t, node(0))
	w := watch(t, addr, etcd.Config{CheckInterval: 20 * time.Millisecond})
	before, _ := f.counts()
	eventually(t, "checks", patience, func() bool { n, _ := f.counts(); return n > before+10 })
	if _, watches := f.counts(); watches != 1 || len(w.Status().Resyncs) != 0 {
		t.Errorf("%d watches and resyncs %v, want the one watch and none", watches, w.Status().Resyncs)
	}
	if _, calls := w.told(); calls != 1 {
		t.Errorf("%d calls for a set that did not change, want 1", calls)
	}
}

func TestErrorsNeverEmptyTheSet(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.Unavailable, codes.ResourceExhausted, codes.PermissionDenied, codes.Internal, codes.DeadlineExceeded} {
		t.Run(code.String(), func(t *testing.T) {
			f, addr := newFake(t, node(0))
			w := watch(t, addr, etcd.Config{CheckInterval: 20 * time.Millisecond})
			f.set(20, status.Error(code, "on purpose"))
			w.awaitLink(false, patience)
			before, _ := f.counts()
			eventually(t, "more tries", patience, func() bool { n, _ := f.counts(); return n > before+2 })
			if s, _ := w.told(); len(s.Nodes) != 1 {
				t.Fatalf("nodes while the store fails = %v, want the last good set", s.Nodes)
			}
			eventually(t, "log of the outage", patience, func() bool { return w.log.count("registry unavailable") > 0 })
			if n := w.log.count("registry unavailable"); n != 1 {
				t.Errorf("outage logged %d times, want once:\n%s", n, w.log)
			}
			f.set(20, nil, node(0))
			w.awaitLink(true, patience)
			w.noLeaves(0)
		})
	}
}
