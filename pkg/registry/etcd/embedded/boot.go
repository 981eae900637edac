package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
)

// Bounds of what may hang.
const (
	bootWait  = 30 * time.Second
	bootGrace = 2 * time.Second // after the caller lost patience
	closeWait = 10 * time.Second
)

// core is a started etcd and the gRPC server within it, which etcd does not show.
type core struct {
	*embed.Etcd
	front *front
}

// front catches the gRPC server when etcd makes it.
type front struct {
	mu  sync.Mutex // guards what follows
	srv *grpc.Server
}

func (f *front) set(srv *grpc.Server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.srv = srv
}

// stop ends the connections of all clients. Left alone, etcd waits six seconds for those that keep a lease alive.
func (f *front) stop() {
	f.mu.Lock()
	srv := f.srv
	f.mu.Unlock()
	if srv != nil {
		srv.Stop()
	}
}

// boot starts a server and waits until it serves. etcd ends its goroutine, or panics, where it would have ended the process.
func boot(ctx context.Context, c Config, addr netip.AddrPort, log *bridge) (*core, error) {
	type result struct {
		etcd *core
		err  error
	}
	cfg, f := etcdConfig(c, addr, log), new(front)
	cfg.ServiceRegister = f.set
	ctx, cancel := context.WithTimeout(ctx, bootWait)
	defer cancel()
	started := make(chan result, 1)
	go func() {
		r := result{err: errors.New("it gave up")}
		defer func() {
			if p := recover(); p != nil {
				r = result{err: fmt.Errorf("%v", p)}
			}
			select {
			case err := <-log.fatal:
				r.err = err
			default:
			}
			started <- r
		}()
		e, err := embed.StartEtcd(cfg)
		r = result{&core{e, f}, err}
	}()
	r, up := result{}, false
	select {
	case r, up = <-started:
	case <-ctx.Done():
		select {
		case r, up = <-started:
		case <-time.After(bootGrace):
		}
	}
	if !up {
		// It is stuck, most likely on the disk. Should it come up after all, it goes down at once.
		go func() {
			if late := <-started; late.err == nil {
				shut(late.etcd) //nolint:errcheck // nobody waits for it any more
			}
		}()
		return nil, ctx.Err()
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := ready(ctx, r.etcd, log); err != nil {
		log.hush()
		shut(r.etcd) //nolint:errcheck // what kept it from being ready says more
		return nil, err
	}
	return r.etcd, nil
}

// ready waits until a started server serves.
func ready(ctx context.Context, e *core, log *bridge) error {
	select {
	case <-e.Server.ReadyNotify():
		return nil
	case err := <-e.Err():
		return err
	case err := <-log.fatal:
		return err
	case <-e.Server.StopNotify():
		return errors.New("it stopped before it was ready")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// shut stops a server, ready or not. Stopping raft first makes the rest quick and, before it is ready, possible at all.
func shut(e *core) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Server.Stop()
		e.front.stop()
		e.Close()
	}()
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-t.C:
		return fmt.Errorf("close embedded etcd: not done after %v", closeWait)
	}
}
