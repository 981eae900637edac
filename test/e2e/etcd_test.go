package e2e_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/test/process"
)

// keys returns all keys with a prefix and their values.
func keys(t testing.TB, c *clientv3.Client, prefix string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
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
	process.Eventually(t, patience, fmt.Sprintf("put %.80q", key), func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.Put(ctx, key, value)
		return err
	})
}

// oldEtcd starts the etcd 3.4 that distributions ship.
func oldEtcd(t testing.TB) *process.Etcd {
	t.Helper()
	path := process.Need(t, "etcd 3.4 (Debian package etcd-server)", os.Getenv("GOMS_TEST_OLD_ETCD"), "/usr/bin/etcd")
	return process.StartEtcd(t, path, 1)
}
