package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/goms-io/goms/test/ports"
)

// Etcd is an etcd of one or more members, a process each.
type Etcd struct {
	Addrs   []string   // client addresses, one a member
	Members []*Process // in the order of Addrs; Restart replaces one

	t        testing.TB
	secure   *tls.Config // of its clients; nil without TLS
	launches []Launch
}

// PinnedEtcd returns the path of the etcd that the tools' module pins: $ETCD_BIN_DIR/etcd, else .ci/tools/bin/etcd.
func PinnedEtcd(t testing.TB) string {
	t.Helper()
	return Need(t, "etcd 3.7 (ETCD_BIN_DIR)", PinnedPath("etcd"), filepath.Join(RepoRoot(), ".ci/tools/bin/etcd"))
}

// PinnedPath returns the path of a tool below $ETCD_BIN_DIR; "" without the variable.
func PinnedPath(name string) string {
	if dir := os.Getenv("ETCD_BIN_DIR"); dir != "" {
		return filepath.Join(dir, name)
	}
	return ""
}

// StartEtcd starts n members of the etcd at path, with flags added to those of each, and waits until they answer.
func StartEtcd(t testing.TB, path string, n int, flags ...string) *Etcd {
	t.Helper()
	return StartEtcdOn(t, "127.0.0.1", path, n, flags...)
}

// StartEtcdOn is StartEtcd for members that listen on another address than 127.0.0.1, 0.0.0.0 in a network of the test's own.
func StartEtcdOn(t testing.TB, host, path string, n int, flags ...string) *Etcd {
	t.Helper()
	return startEtcd(t, host, nil, path, n, flags)
}

// StartEtcdTLS is StartEtcd for one member whose clients come over TLS, as secure says. The flags name its certificate.
func StartEtcdTLS(t testing.TB, secure *tls.Config, path string, flags ...string) *Etcd {
	t.Helper()
	return startEtcd(t, "127.0.0.1", secure, path, 1, flags)
}

func startEtcd(t testing.TB, host string, secure *tls.Config, path string, n int, flags []string) *Etcd {
	t.Helper()
	out, _ := exec.Command(path, "--version").Output() // it is only told
	version, _, _ := strings.Cut(string(out), "\n")
	t.Logf("etcd: %s", version)
	e := &Etcd{t: t, secure: secure}
	scheme := "http://"
	if secure != nil {
		scheme = "https://"
	}
	var peers, cluster []string
	for i := range n {
		e.Addrs = append(e.Addrs, ports.Addr(t))
		peers = append(peers, fmt.Sprintf("http://127.0.0.1:%d", ports.Free(t)))
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	for i := range n {
		dir, addr := t.TempDir(), scheme+e.Addrs[i]
		e.launches = append(e.launches, Launch{
			Name: fmt.Sprintf("etcd m%d", i), Path: path, Dir: dir,
			Args: append([]string{
				"--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(dir, "data"), "--log-level", "error", "--logger", "zap",
				"--listen-client-urls", strings.Replace(addr, "127.0.0.1", host, 1), "--advertise-client-urls", addr,
				"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
				"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new",
			}, flags...),
		})
		e.Members = append(e.Members, Start(t, e.launches[i]))
	}
	e.Ready()
	return e
}

// Data returns the data directory of a member.
func (e *Etcd) Data(i int) string { return filepath.Join(e.launches[i].Dir, "data") }

// Restart starts a member that has ended once more, on the data that are there, and waits for nothing.
func (e *Etcd) Restart(i int) {
	e.t.Helper()
	e.Members[i] = Start(e.t, e.launches[i])
}

// Leader returns the number of the member that leads.
func (e *Etcd) Leader() int {
	e.t.Helper()
	c, leads := e.Client(), 0
	Eventually(e.t, 10*time.Second, "etcd has a leader", func() error {
		for i, addr := range e.Addrs {
			ctx, cancel := context.WithTimeout(e.t.Context(), time.Second)
			status, err := c.Status(ctx, addr)
			cancel()
			if err == nil && status.Leader == status.Header.MemberId {
				leads = i
				return nil
			}
		}
		return errors.New("no member says that it leads")
	})
	return leads
}

// Ready waits until etcd answers with a quorum.
func (e *Etcd) Ready() {
	e.t.Helper()
	c := e.Client()
	Eventually(e.t, 20*time.Second, "etcd is ready", func() error {
		ctx, cancel := context.WithTimeout(e.t.Context(), time.Second)
		defer cancel()
		_, err := c.Get(ctx, "ready")
		return err
	})
}

// EtcdClient opens an etcd client that is quick to connect again; it is closed when the test ends.
func EtcdClient(t testing.TB, addrs ...string) *clientv3.Client {
	t.Helper()
	return etcdClient(t, nil, addrs)
}

// Client is EtcdClient for this etcd.
func (e *Etcd) Client() *clientv3.Client {
	e.t.Helper()
	return etcdClient(e.t, e.secure, e.Addrs)
}

func etcdClient(t testing.TB, secure *tls.Config, addrs []string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   addrs,
		TLS:         secure,
		DialTimeout: 2 * time.Second,
		Logger:      zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second}, MinConnectTimeout: time.Second,
		})},
	})
	if err != nil {
		t.Fatalf("open etcd client: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
