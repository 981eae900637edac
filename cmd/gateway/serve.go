package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/certs"
	"github.com/goms-io/goms/pkg/console"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
	"github.com/goms-io/goms/pkg/registry/etcd/embedded"
	"github.com/goms-io/goms/pkg/rpc"
	"github.com/goms-io/goms/pkg/trace"
)

// serviceName is the name under which gateways register.
const serviceName = "gateway"

// serve runs a gateway until ctx is done, then drains it.
func serve(ctx context.Context, f *flags, args []string, stdout io.Writer, replace func() (*upgrades, error)) error {
	c, err := load(f, args)
	if err != nil {
		return err
	}
	var u *upgrades
	if replace != nil {
		project.OutliveLog()
		if u, err = replace(); err != nil {
			return err
		}
	}
	r := &reloader{path: f.config, config: c, load: func() (*Config, error) {
		again := newFlags()
		again.found = f.config
		return load(again, args)
	}}
	r.listen()
	defer signal.Stop(r.asked)
	out := console.NewQueue(stdout)
	defer out.Close(time.Second)
	p, err := prepare(ctx, c, u, out, droppedLines(out))
	if err != nil {
		return err
	}
	r.p, p.reloader = p, r
	return p.run(ctx)
}

// process is everything that runs in a gateway's process.
type process struct {
	config    *Config
	log       *slog.Logger
	http      net.Listener // the first of fronts
	rpc       net.Listener
	admin     net.Listener
	fronts    []front          // all listeners for clients
	plain     net.Listener     // redirects to HTTPS; nil without
	httpsPort string           // "" without TLS
	certs     *certs.Store     // nil without TLS
	etcd      *embedded.Server // nil when etcd is elsewhere
	registry  *etcd.Registry
	members   *registry.Members
	reporter  *trace.Reporter // nil when spans go nowhere
	node      registry.Node
	gateway   *gateway.Gateway
	grpc      *grpc.Server
	ops       *http.Server
	redirect  *http.Server                  // nil without a redirect listener
	keys      atomic.Pointer[auth.CallKeys] // as the configuration has them now
	level     *slog.LevelVar                // of log
	reloader  *reloader
	stored    *stored                // the routes of etcd; nil when they come from the configuration
	upgrades  *upgrades              // nil: it cannot be replaced
	figures   []prometheus.Collector // of what is not the gateway's
}

// prepare listens first, so that a port in use is found before anybody is told of this gateway, and
// then makes the parts. It starts nothing but the embedded etcd.
func prepare(ctx context.Context, c *Config, u *upgrades, stdout io.Writer, figures ...prometheus.Collector) (_ *process, err error) {
	p := &process{config: c, upgrades: u, figures: figures, level: new(slog.LevelVar)}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	l, err := c.Project.Level()
	if err != nil {
		return nil, err
	}
	p.level.Set(l)
	if p.log, err = console.New(stdout, c.Project.LogFormat, serviceName, p.level); err != nil {
		return nil, err
	}
	if err := p.listen(); err != nil {
		return nil, err
	}
	addrs, err := p.startEtcd(ctx)
	if err != nil {
		return nil, err
	}
	host := c.Project.AdvertiseHost
	if host == "" {
		if host, err = registry.AdvertiseHost(addrs); err != nil {
			return nil, err
		}
	}
	p.node = registry.NewNode(serviceName, net.JoinHostPort(host, port(p.rpc)), net.JoinHostPort(host, port(p.http)))
	return p, p.assemble(addrs)
}

// server returns an HTTP server for what is not the gateway's traffic.
func (p *process) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// droppedLines is the figure of what the log lost.
func droppedLines(out *console.Queue) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "goms_log_dropped_total", Help: "Lines of the log that were dropped, because the output was not read or could not be written.",
	}, func() float64 { return float64(out.Dropped()) })
}

// startEtcd returns etcd's addresses; without any it starts the embedded one.
func (p *process) startEtcd(ctx context.Context) ([]string, error) {
	c := &p.config.Project
	if len(c.EtcdAddr) > 0 {
		return c.EtcdAddr, nil
	}
	server, err := embedded.Start(ctx, embedded.Config{Addr: c.Etcd.Embedded.Addr, Dir: c.Etcd.Embedded.Dir, Log: p.log})
	if err != nil {
		return nil, fmt.Errorf("%w (-etcd_addr names an etcd that already runs)", err)
	}
	p.etcd = server
	p.log.Info("embedded etcd started", "addr", server.Addr(), "dir", c.Etcd.Embedded.Dir)
	return []string{server.Addr()}, nil
}

// assemble makes the parts that hold no port.
func (p *process) assemble(addrs []string) error {
	c := p.config
	p.stored = c.openStored(p.etcd != nil, p.log)
	live, err := c.live()
	if err != nil {
		return err
	}
	p.keys.Store(live.Keys)
	if weak := live.Keys.Weak(); weak != "" {
		p.log.Warn("the call-service key is weak", "err", weak)
	}
	c.tellIdle(p.log)
	p.node.Routes = live.Routes.Digest()
	if p.reporter, err = c.Project.Reporter(p.log); err != nil {
		return err
	}
	rc, err := c.Project.EtcdConfig(addrs, p.log)
	if err != nil {
		return err
	}
	var trust *registry.Trust // set, as p.members, before the registry is watched
	rc.Dead = func(n registry.Node) bool { return p.gateway.Ejected(n.Service, n.ID()) || trust.Dead(n) }
	rc.Takes = func(n registry.Node) bool { return p.members.Takes(n) }
	rc.Believed = func(n registry.Node) bool { return trust.Check(n) == nil }
	if p.registry, err = etcd.Open(rc); err != nil {
		return err
	}
	if err := p.openCerts(); err != nil {
		return err
	}
	more := p.figures
	if p.certs != nil {
		more = append(more, certMetrics{p.certs})
	}
	nodeTLS, err := c.Project.NodeClientTLS(p.log)
	if err != nil {
		return err
	}
	trust = p.believe()
	local, _ := netip.ParseAddrPort(p.node.HTTPAddr) // a host name has no address to report
	p.gateway, err = gateway.New(gateway.Config{
		Routes: live.Routes, Keys: live.Keys, Settings: live.Settings, Discovery: p.members, Control: trust.Control, Self: p.node, Log: p.log, Level: p.level, Reporter: p.reporter, Collectors: more, NodeTLS: nodeTLS,
		CheckGRPC: checkGRPC(p.keys.Load),
		Tracer:    trace.NewTracer(trace.Options{Service: serviceName, LocalAddr: local, SampleRate: c.Project.Zipkin.SampleRate, Reporter: p.reporter}),
	})
	if err != nil {
		return err
	}
	tracer, err := trace.NewZipkinTracer(serviceName, local, c.Project.Zipkin.SampleRate, p.reporter)
	if err != nil {
		return err
	}
	p.grpc = rpc.NewServer(auth.Follow(p.keys.Load), tracer, p.log)
	p.ops = p.server(p.gateway.AdminHandler())
	return nil
}

// run runs all parts until ctx is done or one of them fails, then stops them in order: whoever sends
// requests is told, requests in flight finish, and only then what they need goes away.
func (p *process) run(ctx context.Context) error {
	defer p.close()
	background, stopBackground := context.WithCancel(context.Background())
	defer stopBackground()
	back, background := errgroup.WithContext(background)
	back.Go(func() error { return p.gateway.Run(background) })
	back.Go(func() error { return ended(background, p.registry.Run(background)) })
	back.Go(func() error { return ended(background, p.members.Watch(background, p.gateway.Apply)) })
	if p.stored != nil {
		back.Go(func() error { return ended(background, p.stored.follow(background, p.registry.Routes())) })
	}
	if p.upgrades != nil {
		back.Go(func() error { return p.upgrades.run(background, p.log, p.etcd != nil) })
	}
	if p.reporter != nil {
		back.Go(func() error { return p.reporter.Run(background) })
	}
	if p.etcd != nil {
		back.Go(func() error { return p.watchEtcd(background) })
	}

	front, stopping := errgroup.WithContext(ctx)
	for _, f := range p.fronts {
		front.Go(func() error {
			p.awaitNodes(stopping)
			return p.serve(f)
		})
		p.announce(f)
	}
	if p.certs != nil {
		back.Go(func() error { return p.certs.Run(background) })
	}
	if p.plain != nil {
		front.Go(func() error { return served(p.redirect.Serve(p.plain)) })
		p.log.Info("Redirect Listen on port: " + port(p.plain))
	}
	front.Go(func() error { return p.grpc.Serve(p.rpc) })
	front.Go(func() error { return served(p.ops.Serve(p.admin)) })
	front.Go(func() error {
		select { // a part in the background failed, or another process serves: stop
		case <-background.Done():
			return context.Cause(background)
		case <-p.upgrades.replaced():
			return errReplaced
		case <-stopping.Done():
			return nil
		}
	})
	p.log.Info("Rpc Listen on port: " + port(p.rpc))
	p.log.Info("Admin Listen on: " + p.admin.Addr().String())
	published := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		defer close(published)
		p.publish(stopping, p.node)
	})
	publishing.Go(func() { p.reloader.run(stopping, published) })
	front.Go(func() error {
		p.awaitNodes(stopping)
		p.await(stopping, published) // the process before leaves the key to this one
		p.upgrades.ready(p.log)
		return nil
	})

	<-stopping.Done()
	publishing.Wait()
	replaced := errors.Is(context.Cause(stopping), errReplaced)
	p.log.Info("stopping")
	stopErr := p.stop(replaced)
	err := front.Wait()
	if errors.Is(err, errReplaced) {
		err = nil
	}
	stopBackground()
	if backErr := back.Wait(); err == nil {
		err = backErr
	}
	if err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = stopErr
	}
	if err == nil {
		p.log.Info("stopped")
	}
	return err
}

// ended turns the end that was asked for into none.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// watchEtcd ends the gateway when the etcd inside it fails.
func (p *process) watchEtcd(ctx context.Context) error {
	select {
	case err := <-p.etcd.Err():
		return fmt.Errorf("embedded etcd: %w", err)
	case <-ctx.Done():
		return nil
	}
}

// firstNodes is how long clients wait in the backlog for the gateway to learn of nodes, and of the routes in etcd, before it
// begins to answer that it knows none.
const firstNodes = 2 * time.Second

func (p *process) awaitNodes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstNodes)
	defer cancel()
	p.await(ctx, p.gateway.Known())
	p.await(ctx, p.stored.known())
}

// await waits for done, but not for ever: etcd may be away.
func (p *process) await(ctx context.Context, done <-chan struct{}) {
	t := time.NewTimer(firstNodes)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
	}
}

// publish registers the gateway. When etcd is away it stays wanted and is made up for by Run.
func (p *process) publish(ctx context.Context, node registry.Node) {
	if err := p.registry.Publish(ctx, node); err != nil && ctx.Err() == nil {
		p.log.Error("publish gateway", "node", node.ID(), "err", err)
	}
}

// stop stops what serves others. The error is that of requests that had to be cut off. When the process was replaced, its
// sockets and its key are another's by now: it lets go of them at once.
func (p *process) stop(replaced bool) error {
	if replaced {
		p.gateway.CloseListeners()
		p.stopServers()
	}
	p.gateway.Drain()
	if !replaced {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		leaving := p.node // said before it is done: it is not a lease that ended
		leaving.State = registry.Draining
		p.publish(ctx, leaving)
		if err := p.registry.Withdraw(ctx, p.node); err != nil {
			p.log.Warn("the gateway's key stays in etcd until its lease ends", "err", err)
		}
		cancel()
	}
	err := p.gateway.Shutdown(context.Background())
	p.stopServers()
	return err
}

// stopServers stops what serves others than clients. It may be called twice.
func (p *process) stopServers() {
	p.grpc.Stop() // health and reflection only: nothing to wait for
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, s := range []*http.Server{p.ops, p.redirect} {
		if s != nil && s.Shutdown(ctx) != nil {
			s.Close() //nolint:errcheck // what is still open is cut off
		}
	}
}

var errReplaced = errors.New("another process has taken over")

// close gives back what prepare took. The parts that were started have ended.
func (p *process) close() {
	for _, f := range p.fronts {
		f.Close()
	}
	for _, ln := range []net.Listener{p.rpc, p.admin, p.plain} {
		if ln != nil {
			ln.Close()
		}
	}
	if p.reporter != nil {
		p.reporter.Close() //nolint:errcheck // always nil
	}
	if p.registry != nil {
		p.registry.Close() //nolint:errcheck // nothing is pending: the node was withdrawn
	}
	if p.etcd != nil {
		if err := p.etcd.Close(); err != nil {
			p.log.Error("close embedded etcd", "err", err)
		}
	}
}
