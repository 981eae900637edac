// Package embedded runs one etcd server within this process: for a first try on a bare machine, for small installations with one
// gateway, and for tests.
//
//	srv, err := embedded.Start(ctx, embedded.Config{Addr: "127.0.0.1:2379", Dir: "data/etcd"})
//	...
//	defer srv.Close()
//	select {
//	case err := <-srv.Err(): // it broke
//	case <-ctx.Done():
//	}
//
// It opens the client port and no other: there is no peer port, and no second member can join. Its state outlives the process in
// Dir. A directory that is locked, damaged or not writable, and a port in use, are errors of Start.
//
// The package refuses to know what is stored, and authentication and TLS: an address off loopback is open to whoever reaches it,
// and a warning says so.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// Sizes that suit a registry of some thousand nodes.
const (
	walSegment = 4 << 20
	quota      = 64 << 20
)

// Config says where the server listens and keeps its state. Both are required.
type Config struct {
	// Addr is the "host:port" for clients; port 0 takes a free one.
	Addr string
	// Dir is the data directory, made when it is not there. One server at a time uses it.
	Dir string
	// Log gets what a person should look at. Nil discards.
	Log *slog.Logger
	// UnsafeNoSync does not wait for the disk: much faster, and a crash of the machine loses data. For tests.
	UnsafeNoSync bool
}

// Server is a running etcd. Its methods are safe for concurrent use.
type Server struct {
	etcd  *core
	addr  string
	lock  *os.File
	log   *bridge
	errc  chan error    // sent to by watch alone, which closes it
	stopc chan struct{} // closed by Close

	watching sync.WaitGroup
	closing  sync.Once
	closeErr error
}

// The size of log files is a global of etcd's, which any server of the process reads.
func init() { wal.SegmentSizeBytes = walSegment }

// Start starts a server and returns when it serves. When ctx ends first, Start stops it and returns the error of ctx. ctx has no
// part in the server's life after that.
func Start(ctx context.Context, c Config) (*Server, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start embedded etcd: %w", err)
	}
	addr, err := listenAddr(c.Addr)
	if err != nil {
		return nil, err
	}
	log := newBridge(c.Log)
	if !addr.Addr().IsLoopback() {
		log.out.Warn("embedded etcd is open to all who reach its address: it has neither TLS nor passwords", "addr", addr.String())
	}
	lock, err := claimDir(c.Dir)
	if err != nil {
		return nil, err
	}
	e, err := boot(ctx, c, addr, log)
	if err != nil {
		lock.Close()
		return nil, explain(c, err)
	}
	s := &Server{
		etcd:  e,
		addr:  e.Clients[0].Addr().String(),
		lock:  lock,
		log:   log,
		errc:  make(chan error, 1),
		stopc: make(chan struct{}),
	}
	s.watching.Add(1)
	go s.watch()
	return s, nil
}

// Addr returns the "host:port" on which the server listens.
func (s *Server) Addr() string { return s.addr }

// Err returns a channel that gets the reason when the server breaks, once, and is closed by Close. A broken server still has to
// be closed.
func (s *Server) Err() <-chan error { return s.errc }

// Close stops the server and ends the connections of its clients; what it acknowledged is on disk.
// Closing again waits for the first Close and returns the same.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.log.hush()
		close(s.stopc)
		s.closeErr = errors.Join(shut(s.etcd), s.lock.Close())
		s.watching.Wait()
	})
	return s.closeErr
}

// watch sends the first thing that goes wrong.
func (s *Server) watch() {
	defer s.watching.Done()
	defer close(s.errc)
	var err error
	select {
	case err = <-s.etcd.Err():
	case err = <-s.log.fatal:
	case <-s.etcd.Server.StopNotify():
		err = errors.New("it stopped by itself")
	case <-s.stopc:
		return
	}
	select {
	case <-s.stopc:
	default:
		s.errc <- fmt.Errorf("run embedded etcd on %s: %w", s.addr, err)
	}
	<-s.stopc
}

func etcdConfig(c Config, addr netip.AddrPort, log *bridge) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Dir = c.Dir
	listen := url.URL{Scheme: "http", Host: addr.String()}
	// Clients are given their addresses; nobody asks for this one, but it must be dialable to be valid.
	advertise := listen
	if addr.Addr().IsUnspecified() {
		advertise.Host = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port()).String()
	}
	cfg.ListenClientUrls = []url.URL{listen}
	cfg.AdvertiseClientUrls = []url.URL{advertise}
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 50, 500
	cfg.QuotaBackendBytes = quota
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 1000, 500
	cfg.MaxSnapFiles, cfg.MaxWalFiles = 1, 1
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", "10m"
	cfg.EnableGRPCGateway = false
	cfg.UnsafeNoFsync = c.UnsafeNoSync
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log.zap())
	return cfg
}

// listenAddr resolves an address to the IP that etcd wants.
func listenAddr(addr string) (netip.AddrPort, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil || addr == "" {
		return netip.AddrPort{}, fmt.Errorf("listen on embedded etcd address %q: want host:port, like 127.0.0.1:2379: %w", addr, err)
	}
	if len(tcp.IP) == 0 {
		tcp.IP = net.IPv4zero
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// explain adds what to do.
func explain(c Config, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on embedded etcd address %s: %w; stop the program that has the port, or choose another address", c.Addr, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES) && isListen(err):
		return fmt.Errorf("listen on embedded etcd address %s: %w; choose an address of this machine and a port above 1023", c.Addr, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("start embedded etcd on %s in %q: not ready: %w", c.Addr, c.Dir, err)
	}
	return fmt.Errorf("start embedded etcd in %q: %w; if the directory is damaged, move it away and start anew: nodes register again by themselves", c.Dir, err)
}

func isListen(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "listen"
}
