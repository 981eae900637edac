package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/goms-io/goms/pkg/registry/etcd/embedded"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// start starts a server in dir on a free port.
func start(t *testing.T, dir string, log *slog.Logger) *embedded.Server {
	t.Helper()
	srv, err := embedded.Start(t.Context(), embedded.Config{Addr: "127.0.0.1:0", Dir: dir, Log: log, UnsafeNoSync: true})
	if err != nil {
		t.Fatalf("Start() = %v", err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return srv
}

// with runs do with a client of srv.
func with(t *testing.T, addr string, do func(ctx context.Context, c *clientv3.Client)) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	do(ctx, c)
}

func put(t *testing.T, addr, key, value string) {
	t.Helper()
	with(t, addr, func(ctx context.Context, c *clientv3.Client) {
		if _, err := c.Put(ctx, key, value); err != nil {
			t.Fatalf("put %s: %v", key, err)
		}
	})
}

func TestStartServesAndKeepsItsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	srv := start(t, dir, nil)
	put(t, srv.Addr(), "k", "v")
	if err := srv.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	if err := srv.Close(); err != nil {
		t.Fatalf("second Close() = %v", err)
	}
	if err, open := <-srv.Err(); open || err != nil {
		t.Fatalf("Err() after Close = %v, %v, want a closed channel", err, open)
	}
	again := start(t, dir, nil)
	with(t, again.Addr(), func(ctx context.Context, c *clientv3.Client) {
		got, err := c.Get(ctx, "k")
		if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
			t.Fatalf("Get(k) after restart = %v, %v, want v", got, err)
		}
	})
}

func TestCloseIsQuickAndQuiet(t *testing.T) {
	var log lines
	srv := start(t, t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	// A client of another process, which does not go away because this one does.
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{srv.Addr()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	watch := c.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	<-watch
	lease, err := c.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := c.KeepAlive(t.Context(), lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	<-alive
	began := time.Now()
	if err := srv.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	if d := time.Since(began); d > 5*time.Second { // left alone, etcd takes six
		t.Errorf("Close() with a client took %v", d)
	}
	if got := log.String(); got != "" {
		t.Errorf("log of an ordinary life:\n%s", got)
	}
}

func TestCloseWithoutClientsTakesNoTime(t *testing.T) {
	srv := start(t, t.TempDir(), nil)
	put(t, srv.Addr(), "k", "v")
	began := time.Now()
	if err := srv.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	if d := time.Since(began); d > 5*time.Second { // as above
		t.Errorf("Close() took %v", d)
	}
}

func TestNoPeerPort(t *testing.T) {
	// Two servers at a time would fight for 2380.
	a, b := start(t, t.TempDir(), nil), start(t, t.TempDir(), nil)
	put(t, a.Addr(), "k", "a")
	put(t, b.Addr(), "k", "b")
}

func TestStartRefuses(t *testing.T) {
	busyPort, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busyPort.Close()
	used := t.TempDir()
	start(t, used, nil)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	f := func(name string, c embedded.Config, want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			began := time.Now()
			srv, err := embedded.Start(t.Context(), c)
			if err == nil {
				srv.Close()
				t.Fatal("Start() = nil, want an error")
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("Start() = %v, want %q in it", err, w)
				}
			}
			if d := time.Since(began); d > 15*time.Second { // a start that hangs is given 30
				t.Errorf("Start() took %v to fail", d)
			}
		})
	}
	const any = "127.0.0.1:0"
	f("port in use", embedded.Config{Addr: busyPort.Addr().String(), Dir: t.TempDir()}, busyPort.Addr().String(), "address already in use", "choose another")
	f("address of another machine", embedded.Config{Addr: "192.0.2.1:2379", Dir: t.TempDir()}, "192.0.2.1:2379", "address of this machine")
	f("no address", embedded.Config{Dir: t.TempDir()}, "127.0.0.1:2379")
	f("no port", embedded.Config{Addr: "127.0.0.1", Dir: t.TempDir()}, `"127.0.0.1"`)
	f("no directory", embedded.Config{Addr: any}, "data directory")
	f("a file for a directory", embedded.Config{Addr: any, Dir: file}, file, "choose a directory")
	f("directory in use by one of ours", embedded.Config{Addr: any, Dir: used}, used, "another process")
	f("directory in use by another etcd", embedded.Config{Addr: any, Dir: lockedByOther(t)}, "another process")
	f("database is garbage", embedded.Config{Addr: any, Dir: damaged(t, "member/snap/db")}, "open database", "move it away")
	f("write-ahead log is garbage", embedded.Config{Addr: any, Dir: damaged(t, "member/wal/*.wal")}, "write-ahead log", "move it away")
}

// lockedByOther returns a data directory whose database a program that knows nothing of our lock has open.
func lockedByOther(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "member", "snap", "db")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return dir
}

// damaged returns the data directory of a server that ran, with the middle of the first 16 KiB of a file overwritten.
func damaged(t *testing.T, pattern string) string {
	t.Helper()
	dir := t.TempDir()
	srv := start(t, dir, nil)
	for range 50 {
		put(t, srv.Addr(), "k", strings.Repeat("v", 100))
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no file %s in %s: %v", pattern, dir, err)
	}
	f, err := os.OpenFile(paths[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := int64(600)
	if strings.HasSuffix(pattern, "db") {
		at = 0
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte("x"), 8<<10), at); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	srv, err := embedded.Start(ctx, embedded.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), UnsafeNoSync: true})
	if err == nil {
		srv.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Start() with a done context = %v, want %v", err, context.Canceled)
	}
}

// TestStartGivesUpInTime ends the context at many moments of a start.
func TestStartGivesUpInTime(t *testing.T) {
	for d := time.Millisecond; d < 400*time.Millisecond; d *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		began := time.Now()
		srv, err := embedded.Start(ctx, embedded.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), UnsafeNoSync: true})
		switch {
		case err == nil:
			srv.Close()
		case !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("Start() within %v = %v, want %v", d, err, context.DeadlineExceeded)
		}
		if took := time.Since(began); took > d+8*time.Second { // of which two are for a start that is stuck
			t.Errorf("Start() within %v took %v", d, took)
		}
		cancel()
	}
}

// TestFatalEndsOneGoroutine does what etcd does on a damaged log: it would end the process of the test.
func TestFatalEndsOneGoroutine(t *testing.T) {
	f := func(name string, log func(l *zap.Logger)) {
		t.Run(name, func(t *testing.T) {
			var out lines
			l, fatal := embedded.LoggerForTest(slog.New(slog.NewTextHandler(&out, nil)))
			done := make(chan bool, 1)
			go func() {
				defer close(done)
				log(l)
				done <- true
			}()
			if beyond := <-done; beyond {
				t.Error("the code after the record ran")
			}
			if err := <-fatal; !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "failed to read WAL") {
				t.Errorf("reason = %v, want message and cause", err)
			}
			if !strings.Contains(out.String(), "level=ERROR") {
				t.Errorf("log = %q, want an error", out.String())
			}
		})
	}
	f("fatal", func(l *zap.Logger) { l.Fatal("failed to read WAL", zap.Error(fs.ErrInvalid)) })
	f("panic", func(l *zap.Logger) { l.With(zap.Int("n", 1)).Panic("failed to read WAL", zap.Error(fs.ErrInvalid)) })
}

func TestDataDirectoryStaysSmall(t *testing.T) {
	dir := t.TempDir()
	srv := start(t, dir, nil)
	put(t, srv.Addr(), "k", "v")
	srv.Close()
	var size int64
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			size += info.Size()
		}
		return err
	})
	if size > 40<<20 {
		t.Errorf("data directory of one key = %d MiB, want less than 40", size>>20)
	}
}

func TestStartWarnsOfAnOpenAddress(t *testing.T) {
	var log lines
	srv, err := embedded.Start(t.Context(), embedded.Config{Addr: ":0", Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil)), UnsafeNoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("log = %q, want a warning", log.String())
	}
}

// lines is a buffer that several goroutines may write to.
type lines struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
