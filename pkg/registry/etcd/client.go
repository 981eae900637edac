package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"

	"github.com/goms-io/goms/pkg/registry"
)

// errLost is the trouble of a watch whose connection broke.
var errLost = errors.New("connection lost")

// watchMethod is the gRPC name of etcd's watch.
const watchMethod = "/etcdserverpb.Watch/Watch"

// connect returns the one client of r. Creating it does no I/O unless there is a password, which the client sends at once.
func (r *Registry) connect(ctx context.Context) (*clientv3.Client, error) {
	select {
	case r.dial <- struct{}{}:
		defer func() { <-r.dial }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.isClosed() {
		return nil, registry.ErrClosed
	}
	if r.client != nil {
		return r.client, nil
	}
	// The client outlives ctx, which only bounds its creation.
	base, cancel := context.WithCancel(context.Background())
	release := context.AfterFunc(ctx, cancel)
	client, err := clientv3.New(r.clientConfig(base))
	if !release() {
		if err == nil {
			client.Close()
		}
		return nil, ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("connect to etcd: %w", err)
	}
	r.client = client
	return client, nil
}

func (r *Registry) clientConfig(base context.Context) clientv3.Config {
	dialer := &net.Dialer{
		Timeout: r.cfg.DialTimeout,
		// gRPC does not ping more often than every 10 s, so the kernel has to notice a peer that vanished.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 3 * time.Second, Interval: time.Second, Count: 3},
	}
	return clientv3.Config{
		Context:     base,
		Endpoints:   r.cfg.Addrs,
		Username:    r.cfg.Username,
		Password:    r.cfg.Password,
		TLS:         r.cfg.TLS,
		DialTimeout: r.cfg.DialTimeout,
		// gRPC raises the time to 10 s, and takes the timeout also for data that is not acknowledged (TCP_USER_TIMEOUT).
		// Without streams there are no pings: etcd ends connections that send any.
		DialKeepAliveTime:    3 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		PermitWithoutStream:  false,
		// Our own loops wait between tries; the client's retries are for a token that expired.
		MaxUnaryRetries: 3,
		Logger:          zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           grpcbackoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: 2 * time.Second,
			}),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				return dialer.DialContext(ctx, "tcp", addr)
			}),
			grpc.WithChainUnaryInterceptor(failFast),
			grpc.WithChainStreamInterceptor(r.countStreams),
		},
	}
}

// failFast has a request fail when the connection does, with the reason. etcd's client would wait until the request times out,
// and then say no more than that.
func failFast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.WaitForReady(false))...)
}

// countStreams counts watch streams as they open. The client opens a new one without a word when the old one broke; a watch
// that compares the count before it reads an answer knows whether it was interrupted.
func (r *Registry) countStreams(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err == nil && method == watchMethod {
		r.streams.Add(1)
	}
	return s, err
}

// timeout bounds one request: long enough for a slow store, short enough to try twice within a TTL.
func (r *Registry) timeout() time.Duration {
	return min(max(r.ttl/2, time.Second), 5*time.Second)
}

// list reads all entries of the project from a quorum.
func (r *Registry) list(ctx context.Context, client *clientv3.Client) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	resp, err := client.Get(ctx, registry.Prefix(r.cfg.Project), clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return resp, nil
}

// retry spaces tries: 100 ms at first, then doubling to at most a second, with jitter.
type retry struct{ last time.Duration }

func (b *retry) reset() { b.last = 0 }

// next returns how long to wait before the next try.
func (b *retry) next() time.Duration {
	b.last = min(max(2*b.last, 100*time.Millisecond), time.Second)
	return b.last/2 + rand.N(b.last/2)
}

// wait waits before the next try, or until ctx is done.
func (b *retry) wait(ctx context.Context) {
	t := time.NewTimer(b.next())
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
