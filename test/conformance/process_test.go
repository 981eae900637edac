//go:build linux

package conformance_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	binDir  string       // where the gateway is built, set by TestMain
	running atomic.Int32 // processes started and not yet waited for
)

// repoRoot is the directory of the module.
var repoRoot = sync.OnceValue(func() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		panic("BUG: the tests run outside the module: " + err.Error())
	}
	return strings.TrimSpace(string(out))
})

// gatewayBinary builds the gateway once in a test run.
var gatewayBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binDir, "gateway")
	cmd := exec.Command("go", "build", "-tags", "nomsgpack", "-trimpath", "-o", path, "./cmd/gateway")
	cmd.Dir = repoRoot()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build gateway: %w\n%s", err, out)
	}
	return path, nil
})

// need finds a tool: the first candidate that exists. Without it the test is skipped, and fails in CI.
func need(t testing.TB, tool string, candidates ...string) string {
	t.Helper()
	for _, c := range candidates {
		if c == "" {
			continue
		}
		if path, err := exec.LookPath(c); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not here and CI must have it (looked for %q)", tool, candidates)
	}
	t.Skipf("%s is not here (looked for %q)", tool, candidates)
	return ""
}

// process is one child process with all it has written.
type process struct {
	name string
	cmd  *exec.Cmd
	out  output
	done chan struct{} // closed when it has ended and its output is complete
}

type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start starts a process in dir, with env added to an environment without any GOMS_ variable. It is killed and waited
// for when the test ends, and its output shown if the test failed.
func start(t testing.TB, dir string, env []string, path string, args ...string) *process {
	t.Helper()
	p := &process{name: filepath.Base(path), cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Dir = dir
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GOMS_") {
			p.cmd.Env = append(p.cmd.Env, e)
		}
	}
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	running.Add(1)
	go func() {
		_ = p.cmd.Wait() // the state holds how it ended
		running.Add(-1)
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		<-p.done
		if t.Failed() {
			t.Logf("output of %s (%s):\n%s", p.name, p.cmd.ProcessState, tail(p.out.String(), 40))
		}
	})
	return p
}

// alive fails the test when the process has ended.
func (p *process) alive(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
		t.Fatalf("%s has ended: %s", p.name, p.cmd.ProcessState)
	default:
	}
}

// eventually waits until check has nothing to complain about.
func eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

var ports struct {
	mu   sync.Mutex
	next int
}

// freePort returns a port below 10000 that nobody listens on and that no other test was given.
func freePort(t testing.TB) int {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	const low, high = 8500, 9900 // beside those of the end-to-end tests
	if ports.next == 0 {
		ports.next = low + os.Getpid()*97%(high-low)
	}
	for range high - low {
		port := ports.next
		if ports.next++; ports.next == high {
			ports.next = low
		}
		if free(port) {
			return port
		}
	}
	t.Fatal("find a port: none is free")
	return 0
}

func free(port int) bool {
	for _, host := range []string{"127.0.0.1", ""} {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("… %d lines before", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
