package certs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/acme/autocert"
)

// Cache keeps what ACME must not forget: the account's key, certificates with their keys, and the answers
// to challenges while an order is under way. Whoever can read it can pose as any of the hosts.
type Cache = autocert.Cache

// DirCache returns a cache in a directory of one machine, which is made if it is not there, for its owner
// only. A directory that others can enter is an error.
func DirCache(dir string) (Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make certificate cache: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("check certificate cache: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("check certificate cache %q: mode %#o lets others in: want %#o", dir, mode, fs.FileMode(0o700))
	}
	return autocert.DirCache(dir), nil
}

// KV is a small store of values by key, one for all gateways of a project. Its methods are called
// concurrently, by this process and by others, and nobody takes a lock:
//
//   - Get returns the value of the last Put that returned, of whichever process: the authority may ask any
//     gateway for the answer to a challenge that one of them has put. A key that is not there is nil, nil.
//   - Put replaces the value as a whole. Of two at the same time either may win: both are good, and the
//     loser's certificate is used by the process that got it until its renewal. A value is never empty,
//     and below 64 KiB.
//   - Delete of a key that is not there is no error.
//   - A method returns when ctx is done. An error is taken for a store that is away and not for an absence:
//     it never leads to an order.
//
// Keys are printable ASCII without blanks and any of \/:*?"<>|, up to 300 bytes: a host name, or a token
// with a suffix that begins with "+". The values contain private keys, so the store needs access control and TLS. A
// process that dies may leave an answer to a challenge behind, which is harmless.
type KV interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
}

// KVCache returns a cache in a store that gateways share. It is safe for concurrent use if kv is.
func KVCache(kv KV) Cache { return kvCache{kv} }

type kvCache struct{ KV }

func (c kvCache) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := c.KV.Get(ctx, key)
	if err == nil && len(value) == 0 {
		return nil, autocert.ErrCacheMiss
	}
	return value, err
}

// cacheTimeout is the time of one access to a cache. autocert holds a lock meanwhile and sets none for some.
const cacheTimeout = 10 * time.Second

var errCache = errors.New("read certificate cache")

// guard is a cache whose accesses end, and whose failures are logged where autocert drops them.
type guard struct {
	Cache
	log *slog.Logger
}

func (g guard) Get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	value, err := g.Cache.Get(ctx, key)
	switch {
	case err == nil:
		return value, nil
	case errors.Is(err, autocert.ErrCacheMiss):
		return nil, autocert.ErrCacheMiss // autocert compares by ==
	case strings.HasSuffix(key, "+http-01"):
		g.log.Warn("certificate cache cannot be read", "err", err)
		return nil, autocert.ErrCacheMiss // autocert would show the error to whoever asks for a challenge
	}
	return nil, fmt.Errorf("%w: %w", errCache, err)
}

func (g guard) Put(ctx context.Context, key string, value []byte) error {
	ctx, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	err := g.Cache.Put(ctx, key, value)
	if err != nil {
		g.log.Warn("certificate cache cannot be written", "err", err)
	}
	return err
}

func (g guard) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, cacheTimeout)
	defer cancel()
	return g.Cache.Delete(ctx, key)
}
