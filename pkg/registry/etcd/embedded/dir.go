package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
)

// lockName is the file within a data directory that one server at a time locks.
const lockName = "goms.lock"

// claimDir makes the data directory and takes its lock, which closing the file gives back. etcd itself would wait for ever for a
// directory that another server uses.
func claimDir(dir string) (*os.File, error) {
	if dir == "" {
		return nil, errors.New("open embedded etcd data directory: none is configured")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make embedded etcd data directory %q: %w; choose a directory that this user may write", dir, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open embedded etcd data directory %q: %w; choose a directory that this user may write", dir, err)
	}
	busy := func() error {
		lock.Close()
		return fmt.Errorf("open embedded etcd data directory %q: another process uses it; stop that one, or choose another directory", dir)
	}
	ok, err := tryLock(lock)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock embedded etcd data directory %q: %w", dir, err)
	}
	if !ok {
		return nil, busy()
	}
	if err := errors.Join(probe(db(dir)), probeLog(walDir(dir))); errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, busy()
	} else if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open embedded etcd data directory %q: %w; if it is damaged, move it away and start anew: nodes register again by themselves", dir, err)
	}
	return lock, nil
}

// probe opens the database for reading, if there is one: an etcd that is not ours may have it, and it may be damaged.
func probe(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 200 * time.Millisecond})
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	return b.Close()
}

// probeLog reads the write-ahead log, if there is one: on a damaged one etcd would end half way and leave its files open. A torn
// end is no damage; etcd mends it.
func probeLog(dir string) (err error) {
	if !wal.Exist(dir) {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read write-ahead log: %v", p)
		}
	}()
	if _, err := wal.ValidSnapshotEntries(zap.NewNop(), dir); err != nil {
		return fmt.Errorf("read write-ahead log: %w", err)
	}
	return nil
}

// Where etcd keeps its files within a data directory.
func db(dir string) string     { return filepath.Join(dir, "member", "snap", "db") }
func walDir(dir string) string { return filepath.Join(dir, "member", "wal") }
