package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
)

// ErrConflict is what PutIf returns when the entry is not the one that was read.
var ErrConflict = errors.New("the entry has changed since it was read")

// KV is a small store of values that the gateways of a project share, beside its nodes: in the same etcd, over the connection of
// the registry it comes from. All methods are safe for concurrent use. They ask a quorum, so that Get returns what the last Put
// that returned has put, of whichever process. They take no longer than a registry's own requests (some seconds), whatever ctx
// says, and after the registry's Close they return [registry.ErrClosed]. Errors name keys, and never values.
//
// The keys lie under "{project}/{area}/". No node's key begins so, as those go on with "_" behind the project, and no project's
// name holds a "/": watches of nodes see nothing of it, and who has a role for the nodes' keys may not read it.
type KV struct {
	r      *Registry
	prefix string
}

// Entry is one value. Revision is etcd's, of when it was put last; an entry that is not there has Revision 0 and no value.
type Entry struct {
	Key      string
	Value    []byte
	Revision int64
}

// KV returns the store of an area, as in "acme". The name is part of all keys and holds no "/".
func (r *Registry) KV(area string) *KV {
	if area == "" || strings.ContainsAny(area, "/_ ") {
		panic(fmt.Sprintf("BUG: kv: area %q", area))
	}
	return &KV{r: r, prefix: r.cfg.Project + "/" + area + "/"}
}

// Get returns the value of a key; nil, nil when it is not there.
func (k *KV) Get(ctx context.Context, key string) ([]byte, error) {
	e, err := k.Entry(ctx, key)
	return e.Value, err
}

// Entry returns the value of a key with its revision, for PutIf. One that is not there is no error.
func (k *KV) Entry(ctx context.Context, key string) (Entry, error) {
	e := Entry{Key: key}
	err := k.do(ctx, "get", key, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, k.prefix+key)
		if err == nil && len(resp.Kvs) > 0 {
			e.Value, e.Revision = resp.Kvs[0].Value, resp.Kvs[0].ModRevision
		}
		return err
	})
	return e, err
}

// Put sets the value of a key, as a whole, whatever was there. It stays until it is deleted. etcd takes about 1 MiB.
func (k *KV) Put(ctx context.Context, key string, value []byte) error {
	return k.do(ctx, "put", key, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Put(ctx, k.prefix+key, string(value))
		return err
	})
}

// PutIf sets the value of a key if its revision is still the one given, 0 for a key that is not to be there, and returns the
// revision it has then. Of several at the same time one wins and the others get an error that is [ErrConflict]. Any other error
// leaves open whether the value was put: Entry tells.
func (k *KV) PutIf(ctx context.Context, key string, value []byte, revision int64) (int64, error) {
	err := k.do(ctx, "put", key, func(ctx context.Context, c *clientv3.Client) error {
		full := k.prefix + key
		resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(full), "=", revision)).Then(clientv3.OpPut(full, string(value))).Commit()
		switch {
		case err != nil:
			return err
		case !resp.Succeeded:
			return ErrConflict
		}
		revision = resp.Header.Revision
		return nil
	})
	if err != nil {
		return 0, err
	}
	return revision, nil
}

// Delete removes a key. One that is not there is no error.
func (k *KV) Delete(ctx context.Context, key string) error {
	return k.do(ctx, "delete", key, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Delete(ctx, k.prefix+key)
		return err
	})
}

// List returns all entries whose keys begin with prefix, "" for all of the area, sorted by key, as they were at one moment.
func (k *KV) List(ctx context.Context, prefix string) ([]Entry, error) {
	var list []Entry
	err := k.do(ctx, "list", prefix, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, k.prefix+prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			list = append(list, Entry{Key: string(kv.Key)[len(k.prefix):], Value: kv.Value, Revision: kv.ModRevision})
		}
		return nil
	})
	return list, err
}

// do runs one request.
func (k *KV) do(ctx context.Context, verb, key string, f func(context.Context, *clientv3.Client) error) error {
	bound, stop := k.r.bind(ctx)
	defer stop()
	bound, cancel := context.WithTimeout(bound, k.r.timeout())
	defer cancel()
	client, err := k.r.connect(bound)
	if err == nil {
		err = f(bound, client)
	}
	if err == nil {
		return nil
	}
	if k.r.isClosed() {
		err = registry.ErrClosed
	}
	return fmt.Errorf("%s %q: %w", verb, k.prefix+key, err)
}
