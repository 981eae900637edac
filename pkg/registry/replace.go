package registry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// asidePattern ends the name of a file that is being written.
const asidePattern = ".*.new"

// ReplaceFile writes a file as a whole, aside, synced and renamed, so that a full disk or a crash leaves the old one. Its mode is
// 0600, and that of a directory that it makes 0700. Several processes may replace one file.
func ReplaceFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	cleanAside(path)
	// A name of its own: several gateways may share the directory, and then the file too. Its mode is 0600.
	out, err := os.CreateTemp(dir, filepath.Base(path)+asidePattern)
	if err != nil {
		return err
	}
	aside := out.Name()
	_, err = out.Write(content)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		os.Remove(aside) //nolint:errcheck // the first error counts
		return err
	}
	return syncDir(dir)
}

// ErrTooLarge is the error of [ReadFile] for a file that is larger than the caller takes.
var ErrTooLarge = errors.New("the file is too large")

// ReadFile reads a file of at most so many bytes; the error for one that is larger is ErrTooLarge, without that it was read. What is no
// file, as a pipe that would be waited for, is an error.
func ReadFile(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read %s: it is no regular file", path)
	case info.Size() > most:
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, info.Size(), most)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most)) // it may grow
}

// SetAside moves a file that cannot be used out of the way, its name with ".bad" behind it, and returns why, with the file's name and where it
// is now.
func SetAside(path string, why error) error {
	bad := path + ".bad"
	if err := os.Rename(path, bad); err != nil {
		return fmt.Errorf("%s: %w (it stays there: %w)", path, why, err)
	}
	return fmt.Errorf("%s: %w (moved to %s)", path, why, bad)
}

// cleanAside removes what writes that were cut off have left behind.
func cleanAside(path string) {
	left, err := filepath.Glob(path + asidePattern)
	if err != nil {
		return // a name that is no pattern: then they stay
	}
	for _, aside := range left {
		if info, err := os.Stat(aside); err == nil && time.Since(info.ModTime()) > time.Minute {
			os.Remove(aside) //nolint:errcheck // it only takes room
		}
	}
}

// syncDir makes a rename in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
