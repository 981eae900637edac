// Package etcd keeps a project's nodes in etcd: a registry as package registry describes it, whose store may be away for as long
// as it likes.
//
//	reg, err := etcd.Open(etcd.Config{Project: "goms", Addrs: []string{"127.0.0.1:2379"}, Log: log})
//	...
//	defer reg.Close()
//	go reg.Run(ctx)         // keeps what is published alive
//	go reg.Watch(ctx, show) // tells the whole set, then each change
//	err = reg.Publish(ctx, registry.NewNode("user", rpcAddr, httpAddr))
//
// Registration is an endless loop over one lease: whatever happens to the lease, the key or the store, the key is put again
// under the same name, so that a store which comes back sees no delete of a node that lives. A watch never tells an empty or a
// partial set because the store is away: the last good set stands. Deletes within two TTLs after the watch was interrupted are
// held that long, because they may be lost leases of nodes that live; a node that had said it was draining leaves at once.
// A delete over a healthy watch is told at once, and so is a held one when the node fails its callers too (Config.Dead). A lease that
// ends without a goodbye is no proof of death either: where somebody can say whether the node is dead it stays for two TTLs if it
// lives, and longer while most nodes of its service are in the same case, because then it is not they who failed.
//
// The package refuses to know what nodes are for, and whether they answer.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
)

// Defaults of a [Config].
const (
	defaultTTL   = 10 * time.Second
	defaultDial  = 3 * time.Second
	defaultCheck = 10 * time.Second
)

// Config says which nodes, in which etcd. Project and Addrs are required; the rest may be zero.
type Config struct {
	// Project is the project whose nodes are watched and published.
	Project string
	// Addrs are etcd's client addresses, "host:port" or URLs.
	Addrs []string
	// Username and Password are for an etcd with authentication; both or neither.
	Username, Password string
	// TLS is for an etcd with TLS; nil is plain text. It is used as it is, and must not change any more.
	TLS *tls.Config
	// TTL is how long a node stays registered when nothing is heard of it: whole seconds, rounded up. Zero is 10 s.
	TTL time.Duration
	// DialTimeout bounds a TCP connect, and the log-in with Username and Password. Zero is 3 s.
	DialTimeout time.Duration
	// CheckInterval is how often a watch compares itself with a full listing, to notice a store that was restored or a watch
	// that went silent. Zero is 10 s; below it is for tests.
	CheckInterval time.Duration
	// Dead says whether a node fails for those who send it requests, or can be seen to have ended. It is asked about nodes whose
	// deletes are held, at once and then up to twice a second, and those that are dead leave. It is called from several
	// goroutines at once, without locks, and may take some time, as in half a second for trying a port. Nil knows of none, and
	// then every lease that ends over a healthy watch is believed.
	Dead func(registry.Node) bool
	// Takes says whether requests are sent to a node: not when somebody has set that none are, or it is not believed. Nodes that take
	// none do not count where it is asked whether enough are registered. It is called from the goroutine of Watch, without locks, and
	// does not block. Nil is [registry.Node.Takes].
	Takes func(registry.Node) bool
	// Believed says whether a node may be where it says it is, the same for a node each time. Of several with one HTTP address the one that
	// was put last is told; one that is not believed does not count there, so that it takes nobody's place, and is told like any other:
	// whoever believes it not says why. It is called from the goroutine of Watch or Nodes, without locks, and does not
	// block. Nil believes all.
	Believed func(registry.Node) bool
	// Log gets the beginning and the end of outages, and what was ignored. Nil discards.
	Log *slog.Logger
}

// String returns the configuration without its password.
func (c Config) String() string {
	return fmt.Sprintf("{Project:%s Addrs:%v Username:%s TLS:%t TTL:%v}", c.Project, c.Addrs, c.Username, c.TLS != nil, c.TTL)
}

// GoString returns the configuration without its password.
func (c Config) GoString() string { return c.String() }

// LogValue returns the configuration without its password.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Validate reports why c cannot be used, nil when it can.
func (c Config) Validate() error {
	errs := []error{registry.CheckProject(c.Project)}
	if len(c.Addrs) == 0 {
		errs = append(errs, errors.New("check etcd addresses: there is none"))
	}
	for _, addr := range c.Addrs {
		errs = append(errs, CheckAddr(addr, c.TLS != nil))
	}
	if (c.Username == "") != (c.Password == "") {
		errs = append(errs, errors.New("check etcd log-in: username and password go together"))
	}
	if c.TTL < 0 || c.DialTimeout < 0 || c.CheckInterval < 0 {
		errs = append(errs, errors.New("check etcd times: they may not be negative"))
	}
	return errors.Join(errs...)
}

// CheckAddr reports why addr cannot be one of Config.Addrs, with Config.TLS or without, nil when it can. It refuses what etcd's client would
// take but read in another way than it looks.
func CheckAddr(addr string, secure bool) error {
	hostPort := addr
	if scheme, _, ok := strings.Cut(addr, "://"); ok {
		u, err := url.Parse(addr)
		if err != nil || u.Path != "" && u.Path != "/" || u.User != nil {
			return fmt.Errorf("check etcd address %q: want host:port or http://host:port", addr)
		}
		switch {
		case scheme == "http" && secure:
			return fmt.Errorf("check etcd address %q: http would go around the TLS that is configured", addr)
		case scheme != "http" && scheme != "https":
			return fmt.Errorf("check etcd address %q: scheme %q is not known", addr, scheme)
		}
		hostPort = u.Host
	}
	if host, port, err := net.SplitHostPort(hostPort); err != nil || host == "" || port == "" {
		return fmt.Errorf("check etcd address %q: want host:port", addr)
	}
	return nil
}

// Registry is a handle on the nodes of one project in etcd. All methods are safe for concurrent use.
type Registry struct {
	cfg     Config
	ttl     time.Duration
	log     *slog.Logger
	health  health
	unread  *complaints   // of entries that cannot be read
	untold  *complaints   // of nodes that can be, and are not told
	streams atomic.Int64  // watch streams opened so far
	watches atomic.Int64  // calls of Watch so far
	kick    chan struct{} // holds one item when the claims want a look
	closed  chan struct{} // closed by Close
	closing sync.Once

	dial   chan struct{} // holds one item while somebody reads or sets client
	client *clientv3.Client

	mu       sync.Mutex // guards what follows
	claims   map[string]*claim
	leases   map[clientv3.LeaseID]struct{} // granted to this process, not long ago
	verify   bool                          // the store may not hold what it held
	running  bool
	revision int64
	resyncs  map[string]int64
	ignored  int64
	refused  map[string]int64
	stale    bool // a watch has told its seed and not read the store
}

// Open returns a handle. It does no I/O: Run and Watch connect, and keep trying. The caller closes it, after Run and Watch ended.
func Open(c Config) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	c.Addrs = slices.Clone(c.Addrs)
	if c.TTL == 0 {
		c.TTL = defaultTTL
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = defaultDial
	}
	if c.CheckInterval == 0 {
		c.CheckInterval = defaultCheck
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		cfg:     c,
		ttl:     (c.TTL + time.Second - 1).Truncate(time.Second),
		log:     log,
		kick:    make(chan struct{}, 1),
		closed:  make(chan struct{}),
		dial:    make(chan struct{}, 1),
		claims:  map[string]*claim{},
		leases:  map[clientv3.LeaseID]struct{}{},
		resyncs: map[string]int64{},
		refused: map[string]int64{},
		unread:  newComplaints(log, "malformed"),
		untold:  newComplaints(log, "refused"),
	}
	r.health = health{log: log, addrs: c.Addrs, failing: map[string]error{}}
	return r, nil
}

// Status returns what is known of the link to etcd.
func (r *Registry) Status() registry.Status {
	s := registry.Status{}
	s.Connected, s.LastContact = r.health.read()
	if r.isClosed() {
		s.Connected = false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Revision, s.Ignored, s.Resyncs = r.revision, r.ignored, maps.Clone(r.resyncs)
	s.Refused, s.Stale = maps.Clone(r.refused), r.stale
	return s
}

// Close ends what is still running with [registry.ErrClosed] and closes the connection. It deletes nothing: what was published
// and not withdrawn stays until its TTL has passed. Closing twice is no error.
func (r *Registry) Close() error {
	var err error
	r.closing.Do(func() {
		close(r.closed)
		r.dial <- struct{}{}
		defer func() { <-r.dial }()
		if r.client == nil {
			return
		}
		if cerr := r.client.Close(); cerr != nil && !errors.Is(cerr, context.Canceled) {
			err = fmt.Errorf("close registry: %w", cerr)
		}
	})
	return err
}

func (r *Registry) isClosed() bool {
	select {
	case <-r.closed:
		return true
	default:
		return false
	}
}

// bind returns a context that also ends when r is closed. The caller calls stop.
func (r *Registry) bind(ctx context.Context) (bound context.Context, stop func()) {
	bound, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-r.closed:
			cancel()
		case <-bound.Done():
		}
	})
	return bound, func() { cancel(); wg.Wait() }
}

// over returns why a call with ctx has to end: ErrClosed, or the error of ctx; nil when it has not.
func (r *Registry) over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.isClosed() {
		return registry.ErrClosed
	}
	return nil
}

// saw notes a revision of the store.
func (r *Registry) saw(revision int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision = revision
}
