// Package process runs programs for tests that look at goms from the outside: it builds them, starts them, keeps what they write, sends
// them signals, and leaves none behind. Only tests import it.
//
// What a machine may lack is asked for by Need: without the tool a test is skipped with a line that says so, and with CI=true it fails.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// CallKey is the call-service key of every test, and a canary: it may be in no output of any process (CheckCanary).
const CallKey = "canary-7f3a9c51e2-call-key"

var running atomic.Int32 // processes started and not yet waited for

// Process is one child process with all it has written. Its methods may be called from any goroutine, those that take part in the
// test's verdict (Signal, Exited, Stop, Line) from the test's own only.
type Process struct {
	Name string // for messages

	t    testing.TB
	cmd  *exec.Cmd
	out  *console
	pipe *os.File      // of a process whose output nobody reads
	own  *clock        // of a process whose clock can be set
	done chan struct{} // closed when the process has ended and its output is complete
}

// Launch says how to start a process; the zero value of everything but Path will do.
type Launch struct {
	Name   string   // for messages; the base of Path when empty
	Path   string   // program
	Args   []string // arguments
	Dir    string   // working directory; a fresh one when empty
	Env    []string // added to an environment without any GOMS_ variable
	Unread bool     // its output is a pipe that nobody reads
	Clock  bool     // its wall clock can be set: SetClock
}

func (l *Launch) complete(t testing.TB) {
	t.Helper()
	if l.Name == "" {
		l.Name = filepath.Base(l.Path)
	}
	if l.Dir == "" {
		l.Dir = t.TempDir()
	}
}

// Start starts a process. It is killed and waited for when the test ends, its output checked for the canary and shown if the test failed.
func Start(t testing.TB, l Launch) *Process {
	t.Helper()
	l.complete(t)
	p := &Process{t: t, Name: l.Name, cmd: exec.Command(l.Path, l.Args...), out: newConsole(), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.SysProcAttr = l.Dir, append(environment(), l.Env...), childAttr()
	p.cmd.WaitDelay = 5 * time.Second
	if l.Unread {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close() // the process has its own
		p.pipe, p.cmd.Stdout, p.cmd.Stderr = r, w, w
	} else {
		p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	}
	if l.Clock {
		var err error
		if p.own, err = startClock(p.cmd); err != nil {
			Lacking(t, "the clock of one process cannot be set here: start %s: %v", l.Name, err)
		}
	} else if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", l.Name, err)
	}
	running.Add(1)
	go p.wait()
	t.Cleanup(p.cleanup)
	return p
}

func (p *Process) wait() {
	_ = p.cmd.Wait() // the state holds how it ended
	if p.pipe != nil {
		p.pipe.Close()
	}
	if p.own != nil {
		p.own.close()
	}
	running.Add(-1)
	p.out.close()
	close(p.done)
}

func (p *Process) cleanup() {
	p.Kill()
	CheckCanary(p.t, "the output of "+p.Name, p.Output())
	if p.t.Failed() {
		p.t.Logf("output of %s (%s):\n%s", p.Name, p.cmd.ProcessState, Tail(p.Output(), 60))
	}
}

// PID returns the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns all that the process has written so far, to either stream.
func (p *Process) Output() string { return p.out.String() }

// Lines returns the complete lines of output that match.
func (p *Process) Lines(re *regexp.Regexp) []string { return p.out.find(re) }

// Done is closed when the process has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// SetClock has the wall clock of a process that was launched with Clock go before that of the machine from now on, in whole seconds; a
// negative d has it go behind. Its monotonic clock is not touched.
func (p *Process) SetClock(d time.Duration) {
	p.t.Helper()
	if err := p.own.set(d); err != nil {
		p.t.Fatalf("set the clock of %s: %v", p.Name, err)
	}
}

// Kill ends the process, with what it started (the workers of nginx), by SIGKILL and waits for it.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-p.done
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %s: %v", p.Name, err)
	}
}

// Exited waits for the end of the process and returns its exit code; -1 means that a signal ended it.
func (p *Process) Exited(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.t.Fatalf("%s still runs after %v\n%s", p.Name, within, Tail(p.Output(), 30))
		return 0
	}
}

// Stop ends the process with SIGTERM and wants exit code 0.
func (p *Process) Stop(within time.Duration) {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Exited(within); code != 0 {
		p.t.Fatalf("%s after SIGTERM: exit code %d, want 0\n%s", p.Name, code, Tail(p.Output(), 30))
	}
}

// Alive reports whether the process has not ended.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Line waits for a line of output that matches the expression and returns it.
func (p *Process) Line(within time.Duration, expr string) string {
	p.t.Helper()
	got, err := p.out.wait(within, regexp.MustCompile(expr))
	if err != nil {
		p.t.Fatalf("%s: no line like %q: %v\n%s", p.Name, expr, err, Tail(p.Output(), 30))
	}
	return got
}

// Run runs a program to its end. A run past the deadline is a failure.
func Run(t testing.TB, within time.Duration, l Launch) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	l.complete(t)
	var o, e bytes.Buffer
	cmd := exec.CommandContext(ctx, l.Path, l.Args...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = l.Dir, append(environment(), l.Env...), childAttr()
	cmd.Stdout, cmd.Stderr = &o, &e
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %q still runs after %v\n%s%s", l.Path, l.Args, within, o.String(), e.String())
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", l.Path, err)
	}
	CheckCanary(t, fmt.Sprintf("the output of %s %q", l.Name, l.Args), o.String()+e.String())
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// environment is ours without what would configure a goms program.
func environment() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GOMS_") {
			env = append(env, e)
		}
	}
	return env
}

// CheckCanary fails the test when the text holds the call-service key.
func CheckCanary(t testing.TB, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.Contains(line, CallKey) {
			t.Errorf("the call-service key is in %s: %q", what, strings.ReplaceAll(line, CallKey, "«KEY»"))
		}
	}
}

// Eventually waits until check has nothing to complain about.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
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

// Tail returns the last lines of a text.
func Tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("… %d lines before", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}

// WriteFile writes a file that only we may read, and makes its directory.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
