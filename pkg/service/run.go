package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

const (
	publishWait    = 3 * time.Second // until it is said that the registry does not answer
	publishPause   = time.Second     // between attempts that failed at once
	sayGoodbye     = 2 * time.Second // for one last word to the registry
	maxHeaderBytes = 64 << 10
)

// Run runs the node in the calling goroutine until ctx is done: it listens on both
// ports, registers (trying for as long as it takes), serves, and then leaves: it says
// so in the registry, keeps serving for DrainDelay, lets requests in flight finish
// for DrainTimeout, and takes its entry back. It returns nil after a clean stop, and
// only when everything it started has ended. A Service runs once.
func (s *Service) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errRunning
	}
	defer s.closeAll()
	reg, closeRegistry, err := s.openRegistry()
	if err != nil {
		return err
	}
	defer closeRegistry()
	if err := s.listen(ctx); err != nil {
		return err
	}
	s.warnOfWeakKeys()
	return s.run(ctx, reg)
}

// run is Run with both ports open.
func (s *Service) run(ctx context.Context, reg Registry) error {
	// What the node needs to leave in order outlives the wish that it leave.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, broken := errgroup.WithContext(life)
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(broken, cancel)()

	server := s.newServer()
	g.Go(func() error { return unless(http.ErrServerClosed, server.Serve(s.secured(s.http)), "serve http") })
	g.Go(func() error { return unless(grpc.ErrServerStopped, s.rpc.Serve(s.grpc), "serve rpc") })
	g.Go(func() error { return unlessDone(life, reg.Run(life), "run registry") })
	g.Go(func() error { return unlessDone(life, s.watch(life, reg), "watch registry") })
	if s.certs != nil {
		g.Go(func() error { return unlessDone(life, s.certs.Run(life), "follow certificates") })
	}
	if s.reporter != nil {
		g.Go(func() error { return unlessDone(life, s.reporter.Run(life), "report spans") })
	}
	g.Go(func() error { s.followKeys(life); return nil })
	g.Go(func() error {
		defer end()
		node := s.Node()
		known := s.register(stop, reg, node)
		<-stop.Done()
		s.withdraw(life, reg, node, known, server)
		return nil
	})
	return g.Wait()
}

// openRegistry returns the registry and how to close it, which is nothing for one
// that was handed in.
func (s *Service) openRegistry() (Registry, func(), error) {
	if s.registry != nil {
		s.follow(s.registry)
		return s.registry, func() {}, nil
	}
	c, err := s.config.EtcdConfig(s.config.EtcdAddr, s.log)
	if err != nil {
		return nil, nil, err
	}
	c.Dead = s.nodes.dead
	c.Takes = func(n registry.Node) bool { return s.members.Takes(n) }
	c.Believed = func(n registry.Node) bool { return s.nodes.trust.Check(n) == nil }
	reg, err := etcd.Open(c)
	if err != nil {
		return nil, nil, err
	}
	s.follow(reg)
	return reg, func() {
		if err := reg.Close(); err != nil {
			s.log.Warn("registry not closed", "err", err)
		}
	}, nil
}

// follow has what operators set for nodes laid over what the registry says of them, if it knows that.
func (s *Service) follow(reg Registry) {
	if source, ok := reg.(registry.Source); ok {
		s.members = registry.NewMembers(registry.MembersConfig{Source: source, Trust: s.nodes.trust, Log: s.log})
	}
}

// watch tells the pools of the nodes that are believed.
func (s *Service) watch(ctx context.Context, reg Registry) error {
	if s.members != nil {
		return s.members.Watch(ctx, s.nodes.apply)
	}
	return reg.Watch(ctx, func(all registry.Snapshot) { s.nodes.apply(s.nodes.trust.Filter(all)) })
}

// listen opens both ports and says so.
func (s *Service) listen(ctx context.Context) error {
	var lc net.ListenConfig
	c := s.config.Service
	httpListener, err := lc.Listen(ctx, "tcp", net.JoinHostPort(c.ListenHost, strconv.Itoa(c.HTTPPort)))
	if err != nil {
		return fmt.Errorf("listen on http port %d: %w", c.HTTPPort, err)
	}
	rpcListener, err := lc.Listen(ctx, "tcp", net.JoinHostPort(c.ListenHost, strconv.Itoa(c.RPCPort)))
	if err != nil {
		httpListener.Close()
		return fmt.Errorf("listen on rpc port %d: %w", c.RPCPort, err)
	}
	node := s.node(portOf(httpListener), portOf(rpcListener))
	s.mu.Lock()
	s.http, s.grpc, s.started = httpListener, rpcListener, node
	s.mu.Unlock()
	s.nodes.setSelf(node)
	if err := s.nodes.trust.Check(node); err != nil {
		s.log.Warn("gateways and services with the same configuration will not call this node", "err", err)
	}
	s.log.Info(fmt.Sprintf("Http Listen on port: %d", portOf(httpListener)))
	s.log.Debug("rpc listens", "addr", rpcListener.Addr().String())
	return nil
}

func portOf(l net.Listener) int {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		panic("BUG: a TCP listener without a TCP address")
	}
	return addr.Port
}

// node is this node with the given ports, as it is published.
func (s *Service) node(httpPort, rpcPort int) registry.Node {
	c := s.config.Service
	return registry.Node{
		Service:  s.name,
		RPCAddr:  net.JoinHostPort(s.host, strconv.Itoa(rpcPort)),
		HTTPAddr: net.JoinHostPort(s.host, strconv.Itoa(httpPort)),
		Weight:   c.Weight, Version: c.Version, Zone: c.Zone, State: registry.Up, Backup: c.Backup,
		TLS: c.TLS.enabled(), Idle: published(c.IdleTimeout),
	}
}

// published is an idle limit as the registry tells it: 0 for the one that everybody
// knows, else in whole milliseconds and not above what can be said.
func published(idle time.Duration) time.Duration {
	if idle == registry.DefaultIdle {
		return 0
	}
	return min(max(idle.Truncate(time.Millisecond), time.Millisecond), registry.MaxIdle)
}

// secured puts TLS on a listener if the node has certificates.
func (s *Service) secured(l net.Listener) net.Listener {
	if s.certs == nil {
		return l
	}
	return tls.NewListener(l, s.certs.ServerConfig())
}

// newServer returns the HTTP server. It has no ReadTimeout: that would cut, or
// cancel, requests that are long but alive. Each read of a body has a limit instead.
// WriteTimeout is where each pause in an answer begins to count; see answer.
func (s *Service) newServer() *http.Server {
	c := s.config.Service
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: c.ReadHeaderTimeout,
		WriteTimeout:      c.WriteTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		// net/http would answer OPTIONS * itself, to anybody.
		DisableGeneralOptionsHandler: true,
	}
}

// register publishes the node and reports whether it ever succeeded before the node
// had to stop.
func (s *Service) register(stop context.Context, reg Registry, node registry.Node) bool {
	said := false
	for stop.Err() == nil {
		ctx, cancel := context.WithTimeout(stop, publishWait)
		err := reg.Publish(ctx, node)
		cancel()
		if err == nil {
			s.published.Store(true)
			close(s.ready)
			if said {
				s.log.Info("registered", "addr", node.ID())
			}
			return true
		}
		if stop.Err() != nil {
			break
		}
		if !said { // why is for the registry to say; that it ends is said above
			said = true
			s.log.Info("not registered yet", "err", err)
		}
		pause(stop, publishPause)
	}
	return false
}

// withdraw takes the node out of service without losing a request.
func (s *Service) withdraw(ctx context.Context, reg Registry, node registry.Node, known bool, server *http.Server) {
	close(s.draining)
	s.health.Shutdown()
	s.log.Info("leaving")
	if known {
		node.State = registry.Draining
		if err := within(ctx, sayGoodbye, func(ctx context.Context) error { return reg.Publish(ctx, node) }); err != nil {
			s.log.Warn("registry was not told that the node is leaving", "err", err)
		}
		// Gateways and nodes move away; what they still send is served. Only then are
		// idle connections closed: closing one races with a request on its way.
		// What still comes when half of the time is over comes from somebody who has not
		// heard: who can ask another node is told to, and hears of it that way.
		delay := s.config.Service.DrainDelay
		pause(ctx, delay/2)
		s.closing.Store(true)
		pause(ctx, delay-delay/2)
	}
	s.closing.Store(true)
	s.finishRequests(ctx, server)
	if err := within(ctx, sayGoodbye, func(ctx context.Context) error { return reg.Withdraw(ctx, node) }); err != nil {
		s.log.Warn("registry entry is left to expire", "err", err)
	}
	s.log.Info("left")
}

// finishRequests closes both ports and waits for what is in flight.
func (s *Service) finishRequests(ctx context.Context, server *http.Server) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Service.DrainTimeout)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error {
		if err := server.Shutdown(ctx); err != nil {
			s.log.Warn("http requests were cut", "err", err)
			return server.Close()
		}
		return nil
	})
	g.Go(func() error {
		// Stop also ends a GracefulStop that is under way.
		defer context.AfterFunc(ctx, s.rpc.Stop)()
		s.rpc.GracefulStop()
		if ctx.Err() != nil {
			s.log.Warn("rpc calls were cut", "err", ctx.Err())
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		s.log.Warn("http server not closed", "err", err)
	}
}

// closeAll runs when everything has ended, however far Run came.
func (s *Service) closeAll() {
	s.mu.Lock()
	hooks := s.onStop
	s.mu.Unlock()
	for _, f := range slices.Backward(hooks) {
		f()
	}
	s.nodes.close()
	s.rpc.Stop()
	if s.reporter != nil {
		// Run has flushed it; a second word about it is not needed.
		_ = s.reporter.Close()
	}
}

func within(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func unless(expected, err error, what string) error {
	if err == nil || errors.Is(err, expected) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// unlessDone returns err unless the end of ctx explains it.
func unlessDone(ctx context.Context, err error, what string) error {
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
