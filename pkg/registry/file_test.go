package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

func saved() registry.Saved {
	heavy := registry.NewNode("my_order", "[fc00::1]:9180", "[fc00::1]:9080")
	heavy.Weight, heavy.Zone, heavy.Version = 7, "zone with blanks", "v1 {}"
	user := registry.NewNode("user", "10.0.0.1:9180", "10.0.0.1:9080")
	return registry.Saved{
		Snapshot:  registry.NewSnapshot(41, []registry.Node{user, heavy}),
		Overrides: []registry.Override{{Service: "user", ID: user.ID(), Weight: registry.AsPublished, State: registry.Draining, By: "root@here", At: time.Unix(1700000000, 0).UTC()}},
		At:        time.Unix(1700000001, 5).UTC(),
	}
}

// keep has f written with s, as a process that ends does.
func keep(f *registry.File, s registry.Saved) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.Keep(s)
	f.Run(ctx)
}

func TestFileKeepsWhatWasSaved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "goms.nodes")
	f := registry.NewFile(path, "goms", nil)
	if _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Load() without a file = %v, want %v", err, fs.ErrNotExist)
	}
	for range 2 { // the second replaces the first
		keep(f, saved())
	}
	got, err := registry.NewFile(path, "goms", nil).Load()
	if err != nil {
		t.Fatal(err)
	}
	if want := saved(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Load() = %v, want %v", got, want)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v (%v), want 0600", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("files = %v (%v), want the one", entries, err)
	}
}

func TestFileThatCannotBeUsedIsMovedAside(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	keep(registry.NewFile(good, "goms", nil), saved())
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	f := func(name, content, want string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "goms.nodes")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := registry.NewFile(path, "goms", nil).Load()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: Load() = %v, want %q and the path in it", name, err, want)
		}
		if aside, err := os.ReadFile(path + ".bad"); err != nil || string(aside) != content {
			t.Errorf("%s: what was moved aside = %q (%v), want the file", name, aside, err)
		}
		if _, err := registry.NewFile(path, "goms", nil).Load(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: Load() once more = %v, want none left", name, err)
		}
	}
	s := string(text)
	f("empty", "", "damaged")
	f("noise", "\x00\xff\n\n", "damaged")
	f("half", s[:len(s)/2], "damaged")
	f("end missing", s[:len(s)-3], "damaged")
	f("one byte changed", strings.Replace(s, "9080", "9081", 1), "checksum")
	f("something behind the end", s+"x", "checksum")
	f("newer version", strings.Replace(s, `"version":1`, `"version":2`, 1), "version 2, this program reads 1")
	other := registry.NewFile(filepath.Join(t.TempDir(), "other"), "other", nil)
	keep(other, registry.Saved{})
	b, err := os.ReadFile(filepath.Join(filepath.Dir(good), "good"))
	if err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(t.TempDir(), "foreign")
	if err := os.WriteFile(foreign, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.NewFile(foreign, "shop", nil).Load(); err == nil || !strings.Contains(err.Error(), `it is of project "goms", this is "shop"`) {
		t.Errorf("Load() of another project's file = %v", err)
	}
}

// TestFileStaysWhenItCannotBeReplaced makes writing fail: the directory is away, and a file in its place.
func TestFileStaysWhenItCannotBeReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	path := filepath.Join(dir, "goms.nodes")
	var log bytes.Buffer
	f := registry.NewFile(path, "goms", slog.New(slog.NewTextHandler(&log, nil)))
	keep(f, saved())
	away := dir + "-away"
	if err := errors.Join(os.Rename(dir, away), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	newer := saved()
	newer.Snapshot.Revision = 42
	for range 3 {
		keep(f, newer)
	}
	if got, err := registry.NewFile(filepath.Join(away, "goms.nodes"), "goms", nil).Load(); err != nil || got.Snapshot.Revision != 41 {
		t.Errorf("Load() = revision %d (%v), want the old file", got.Snapshot.Revision, err)
	}
	if n := strings.Count(log.String(), "cannot be saved"); n != 1 {
		t.Errorf("trouble logged %d times, want once:\n%s", n, &log)
	}
	if err := errors.Join(os.Remove(dir), os.Rename(away, dir)); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "goms.nodes.123.new") // of a write that was cut off
	if err := errors.Join(os.WriteFile(old, nil, 0o600), os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour))); err != nil {
		t.Fatal(err)
	}
	keep(f, newer)
	if got, err := registry.NewFile(path, "goms", nil).Load(); err != nil || got.Snapshot.Revision != 42 {
		t.Errorf("Load() = revision %d (%v), want the new file", got.Snapshot.Revision, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("files = %v (%v), want the one", entries, err)
	}
	if n := strings.Count(log.String(), "saved again"); n != 1 {
		t.Errorf("end of trouble logged %d times, want once:\n%s", n, &log)
	}
}

func TestFileIsWrittenOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "goms.nodes")
		f := registry.NewFile(path, "goms", nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.Run(ctx)
		}()
		var versions int
		var last int64
		for i := range int64(300) { // three seconds of churn
			s := saved()
			s.Snapshot.Revision = i + 1
			f.Keep(s)
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			if got, err := registry.NewFile(path, "goms", nil).Load(); err == nil && got.Snapshot.Revision != last {
				versions++
				last = got.Snapshot.Revision
			}
		}
		if versions < 3 || versions > 4 {
			t.Errorf("%d files in 3 s, want one a second", versions)
		}
		cancel()
		<-done
		if got, err := registry.NewFile(path, "goms", nil).Load(); err != nil || got.Snapshot.Revision != 300 {
			t.Errorf("Load() after the end = revision %d (%v), want the last, 300", got.Snapshot.Revision, err)
		}
	})
}

// TestFileThatIsNone has something at the file's place that cannot be read as one: nobody waits for it, and it stays where it is.
func TestFileThatIsNone(t *testing.T) {
	f := func(name string, make func(path string) error, want string, aside bool) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "goms.nodes")
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		done := goms(t, path)
		select {
		case err := <-done:
			if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: Load() = %v, want %q and the path", name, err, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: Load() does not return", name)
		}
		if _, err := os.Lstat(path); (err != nil) != aside {
			t.Errorf("%s: it is there: %v, want moved aside %t", name, err, aside)
		}
	}
	f("a pipe", func(path string) error { return syscall.Mkfifo(path, 0o600) }, "no regular file", false)
	f("a directory", func(path string) error { return os.Mkdir(path, 0o700) }, "no regular file", false)
	f("a link to a device", func(path string) error { return os.Symlink("/dev/zero", path) }, "no regular file", false)
	f("without end", func(path string) error {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		return os.Truncate(path, 1<<40)
	}, "too large", true)
}

// goms loads a file of project goms.
func goms(t *testing.T, path string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := registry.NewFile(path, "goms", nil).Load()
		done <- err
	}()
	return done
}
