package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// callKey is the call-service key of every test, and a canary: it may be in no output of any process (checkCanary).
const callKey = "canary-7f3a9c51e2-call-key"

var (
	binDir  string       // where built programs are, set by TestMain
	running atomic.Int32 // processes started and not yet waited for
)

// built holds one build per program and test run.
var built sync.Map

// repoRoot is the directory of the module.
var repoRoot = sync.OnceValue(func() string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		panic("BUG: the tests run outside the module: " + err.Error())
	}
	return strings.TrimSpace(string(out))
})

// bin builds a program once in a test run and returns its path.
func bin(t testing.TB, pkg string) string {
	t.Helper()
	type result struct {
		path string
		err  error
	}
	once, _ := built.LoadOrStore(pkg, sync.OnceValue(func() result {
		path := filepath.Join(binDir, filepath.Base(pkg))
		cmd := exec.Command("go", "build", "-tags", "nomsgpack", "-trimpath", "-o", path, "./"+pkg)
		cmd.Dir = repoRoot()
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
		if info, err := os.Stat(c); err == nil && !info.IsDir() {
			return c
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
	t    testing.TB
	name string
	cmd  *exec.Cmd
	out  *console
	done chan struct{} // closed when the process has ended and its output is complete
}

// launch says how to start a process; the zero value of everything but path will do.
type launch struct {
	name string   // for messages; the base of path when empty
	path string   // program
	args []string // arguments
	dir  string   // working directory; a fresh one when empty
	env  []string // added to an environment without any GOMS_ variable
}

// start starts a process. It is killed and waited for when the test ends, its output checked for the canary and shown if the test failed.
func start(t testing.TB, l launch) *process {
	t.Helper()
	if l.name == "" {
		l.name = filepath.Base(l.path)
	}
	if l.dir == "" {
		l.dir = t.TempDir()
	}
	p := &process{t: t, name: l.name, cmd: exec.Command(l.path, l.args...), out: newConsole(), done: make(chan struct{})}
	p.cmd.Dir = l.dir
	p.cmd.Env = append(cleanEnv(), l.env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = childAttr()
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", l.name, err)
	}
	running.Add(1)
	go p.wait()
	t.Cleanup(p.cleanup)
	return p
}

func (p *process) wait() {
	_ = p.cmd.Wait() // the state holds how it ended
	running.Add(-1)
	p.out.close()
	close(p.done)
}

func (p *process) cleanup() {
	p.kill()
	checkCanary(p.t, "the output of "+p.name, p.out.String())
	if p.t.Failed() {
		p.t.Logf("output of %s (%s):\n%s", p.name, p.cmd.ProcessState, tail(p.out.String(), 60))
	}
}

// kill ends the process, with what it started (the workers of nginx), by SIGKILL and waits for it.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-p.done
}

// signal sends a signal to the process.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %s: %v", p.name, err)
	}
}

// exited waits for the end of the process and returns its exit code; -1 means that a signal ended it.
func (p *process) exited(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.t.Fatalf("%s still runs after %v\n%s", p.name, within, tail(p.out.String(), 30))
		return 0
	}
}

// stop ends the process with SIGTERM and wants exit code 0.
func (p *process) stop(within time.Duration) {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exited(within); code != 0 {
		p.t.Fatalf("%s after SIGTERM: exit code %d, want 0\n%s", p.name, code, tail(p.out.String(), 30))
	}
}

// alive reports whether the process has not ended.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// line waits for a line of output that matches the expression and returns it.
func (p *process) line(within time.Duration, expr string) string {
	p.t.Helper()
	got, err := p.out.wait(within, regexp.MustCompile(expr))
	if err != nil {
		p.t.Fatalf("%s: no line like %q: %v\n%s", p.name, expr, err, tail(p.out.String(), 30))
	}
	return got
}

// console collects what a process writes and lets others wait for lines.
type console struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed and replaced at every write
	closed  bool
}

func newConsole() *console { return &console{changed: make(chan struct{})} }

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
	return c.buf.Write(b)
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

// find returns the complete lines that match.
func (c *console) find(re *regexp.Regexp) []string {
	var found []string
	for line := range strings.Lines(c.String()) {
		if text, complete := strings.CutSuffix(line, "\n"); complete && re.MatchString(text) {
			found = append(found, text)
		}
	}
	return found
}

func (c *console) wait(within time.Duration, re *regexp.Regexp) (string, error) {
	timeout := time.After(within)
	for {
		c.mu.Lock()
		changed, closed := c.changed, c.closed
		c.mu.Unlock()
		if found := c.find(re); len(found) > 0 {
			return found[0], nil
		}
		if closed {
			return "", errors.New("the process has ended")
		}
		select {
		case <-changed:
		case <-timeout:
			return "", fmt.Errorf("none within %v", within)
		}
	}
}

// command runs a program to its end. A run past the deadline is a failure.
func command(t testing.TB, within time.Duration, l launch) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if l.dir == "" {
		l.dir = t.TempDir()
	}
	var o, e bytes.Buffer
	cmd := exec.CommandContext(ctx, l.path, l.args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = l.dir, append(cleanEnv(), l.env...), childAttr()
	cmd.Stdout, cmd.Stderr = &o, &e
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %q still runs after %v\n%s%s", l.path, l.args, within, o.String(), e.String())
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", l.path, err)
	}
	checkCanary(t, fmt.Sprintf("the output of %s %q", filepath.Base(l.path), l.args), o.String()+e.String())
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// cleanEnv is the environment without what would configure a goms program.
func cleanEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GOMS_") {
			env = append(env, e)
		}
	}
	return env
}

// checkCanary fails the test when the text holds the call-service key.
func checkCanary(t testing.TB, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.Contains(line, callKey) {
			t.Errorf("the call-service key is in %s: %q", what, strings.ReplaceAll(line, callKey, "«KEY»"))
		}
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
	const low, high = 4000, 7900
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

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	return string(b)
}
