package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var (
	binDir string   // where built programs are, set by Main
	built  sync.Map // one build per program and test run
)

// Main runs the tests of a package and returns the exit code. A process that was started and never waited for is a failure.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "goms-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	code := m.Run()
	if n := running.Load(); n != 0 {
		fmt.Fprintf(os.Stderr, "BUG: %d processes were started and never waited for\n", n)
		return 1
	}
	return code
}

// RepoRoot is the directory of the module.
var RepoRoot = sync.OnceValue(func() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		panic("BUG: the tests run outside the module: " + err.Error())
	}
	return strings.TrimSpace(string(out))
})

// Build builds a program of the module, named by its directory, once in a test run and returns its path.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	type result struct {
		path string
		err  error
	}
	once, _ := built.LoadOrStore(pkg, sync.OnceValue(func() result {
		path := filepath.Join(binDir, filepath.Base(pkg))
		cmd := exec.Command("go", "build", "-tags", "nomsgpack", "-trimpath", "-o", path, "./"+pkg)
		cmd.Dir = RepoRoot()
		if out, err := cmd.CombinedOutput(); err != nil {
			return result{err: fmt.Errorf("build %s: %w\n%s", pkg, err, out)}
		}
		return result{path: path}
	}))
	r := once.(func() result)()
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.path
}

// Need finds a tool: the first candidate that exists. Without it the test is skipped, and fails in CI.
func Need(t testing.TB, tool string, candidates ...string) string {
	t.Helper()
	for _, c := range candidates {
		if c == "" {
			continue
		}
		if path, err := exec.LookPath(c); err == nil {
			return path
		}
		if info, err := os.Stat(c); err == nil && !info.IsDir() {
			return c
		}
	}
	Lacking(t, "%s is not here (looked for %q)", tool, candidates)
	return ""
}

// Lacking ends a test that this machine cannot run: it is skipped, and fails in CI.
func Lacking(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must have this: "+format, args...)
	}
	t.Skipf(format, args...)
}
