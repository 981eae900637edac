package e2e_test

import (
	"context"
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
)

// registry is an etcd that the tests started: one process a member.
type registry struct {
	addrs   []string // client addresses, one a member
	members []*process
}

// client opens an etcd client; it is closed when the test ends.
func client(t testing.TB, addrs ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   addrs,
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

// keys returns all keys with a prefix and their values.
func keys(t testing.TB, c *clientv3.Client, prefix string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	resp, err := c.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatalf("get keys with prefix %q: %v", prefix, err)
	}
	found := map[string]string{}
	for _, kv := range resp.Kvs {
		found[string(kv.Key)] = string(kv.Value)
	}
	return found
}

// put writes a key without a lease.
func put(t testing.TB, c *clientv3.Client, key, value string) {
	t.Helper()
	eventually(t, 10*time.Second, fmt.Sprintf("put %.80q", key), func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.Put(ctx, key, value)
		return err
	})
}

// oldEtcd starts the etcd 3.4 that distributions ship.
func oldEtcd(t testing.TB) *registry {
	t.Helper()
	path := need(t, "etcd 3.4 (Debian package etcd-server)", os.Getenv("GOMS_TEST_OLD_ETCD"), "/usr/bin/etcd")
	t.Logf("etcd: %s", version(path))
	return members(t, path, 1)
}

// etcdCluster starts three members of the pinned etcd.
func etcdCluster(t testing.TB) *registry {
	t.Helper()
	path := need(t, "etcd 3.7 (ETCD_BIN_DIR)", fromEnv("ETCD_BIN_DIR", "etcd"), filepath.Join(repoRoot(), ".ci/tools/bin/etcd"))
	t.Logf("etcd: %s", version(path))
	return members(t, path, 3)
}

// fromEnv joins the directory in an environment variable and a name; "" without the variable.
func fromEnv(variable, name string) string {
	if dir := os.Getenv(variable); dir != "" {
		return filepath.Join(dir, name)
	}
	return ""
}

func version(etcd string) string {
	out, _ := exec.Command(etcd, "--version").Output()
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

func members(t testing.TB, path string, n int) *registry {
	t.Helper()
	r := &registry{}
	var peers, cluster []string
	for i := range n {
		r.addrs = append(r.addrs, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
		peers = append(peers, fmt.Sprintf("http://127.0.0.1:%d", freePort(t)))
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	for i := range n {
		dir, addr := t.TempDir(), "http://"+r.addrs[i]
		r.members = append(r.members, start(t, launch{
			name: fmt.Sprintf("etcd m%d", i), path: path, dir: dir,
			args: []string{
				"--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(dir, "data"), "--log-level", "error", "--logger", "zap",
				"--listen-client-urls", addr, "--advertise-client-urls", addr,
				"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
				"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new",
			},
		}))
	}
	c := client(t, r.addrs...)
	eventually(t, 20*time.Second, "etcd is ready", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Get(ctx, "ready")
		return err
	})
	return r
}

// leader returns the member that leads.
func (r *registry) leader(t testing.TB) *process {
	t.Helper()
	c := client(t, r.addrs...)
	var leads *process
	eventually(t, 10*time.Second, "etcd has a leader", func() error {
		for i, addr := range r.addrs {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			status, err := c.Status(ctx, addr)
			cancel()
			if err == nil && status.Leader == status.Header.MemberId {
				leads = r.members[i]
				return nil
			}
		}
		return errors.New("no member says that it leads")
	})
	return leads
}
