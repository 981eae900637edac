package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/config"
)

func TestDigest(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	digest := func(path string) string {
		t.Helper()
		d, err := config.Digest(path)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	put("a.yml", "a: 1\n")
	put("b.yaml", "b: 1\n")
	put("notes.txt", "x")
	first := digest(dir)
	put("notes.txt", "y")
	if digest(dir) != first {
		t.Error("a file that is no configuration changed the digest")
	}
	put("b.yaml", "b: 2\n")
	second := digest(dir)
	if second == first {
		t.Error("a changed file did not change the digest")
	}
	if err := os.Rename(filepath.Join(dir, "b.yaml"), filepath.Join(dir, "c.yaml")); err != nil {
		t.Fatal(err)
	}
	if digest(dir) == second {
		t.Error("a renamed file did not change the digest")
	}
	if digest(filepath.Join(dir, "a.yml")) == digest("") {
		t.Error("a file and none have the same digest")
	}
	if _, err := config.Digest(filepath.Join(dir, "none.yml")); err == nil || !strings.Contains(err.Error(), "none.yml") {
		t.Errorf("Digest() of a missing file = %v, want an error that names it", err)
	}
	if _, err := config.Digest(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no *.yml") {
		t.Errorf("Digest() of an empty directory = %v", err)
	}
}
