package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// TestDemo runs what the README begins with: it must work on a machine that has Go and nothing else, say what to try, be right about
// it, and leave nothing behind.
func TestDemo(t *testing.T) {
	lockPorts(t)
	temp := t.TempDir()
	mark := fmt.Sprintf("E2E_DEMO=%d-%d", os.Getpid(), time.Now().UnixNano())
	p := process.Start(t, process.Launch{Path: process.Build(t, "cmd/demo"), Dir: process.RepoRoot(), Env: []string{"TMPDIR=" + temp, mark}})
	p.Line(3*time.Minute, `(?i)ctrl[-+ ]?c`) // it builds two programs
	var tries []string
	for _, line := range p.Lines(regexp.MustCompile(`^\s*curl `)) {
		tries = append(tries, strings.TrimSpace(line))
	}
	if len(tries) == 0 {
		t.Fatalf("the demo prints no curl command:\n%s", p.Output())
	}
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Error("curl is not here and CI must have it")
		}
		t.Log("curl is not here: the commands that the demo prints are not tried")
		tries = nil
	}
	for _, try := range tries {
		stdout, stderr, code := process.Run(t, patience, process.Launch{Path: "/bin/sh", Args: []string{"-c", strings.Replace(try, "curl ", "curl --fail-with-body --max-time 15 ", 1)}})
		if code != 0 {
			t.Errorf("%s: exit code %d\n%s%s", try, code, stdout, stderr)
		}
	}
	if text := p.Output(); !strings.Contains(text, "/cluster") || !strings.Contains(text, "/api/") {
		t.Errorf("the demo does not say where the cluster page and the API are:\n%s", text)
	}

	p.Signal(syscall.SIGINT)
	if code := p.Exited(60 * time.Second); code != 0 {
		t.Errorf("exit code after SIGINT = %d, want 0", code)
	}
	if left := marked(mark); len(left) > 0 {
		t.Errorf("the demo left processes: %q", left)
	}
	if files, err := os.ReadDir(temp); err != nil || len(files) > 0 {
		t.Errorf("the demo left files: %v (%v)", files, err)
	}
}

// marked returns the command lines of processes that have a line in their environment. Where there is no /proc it finds none.
func marked(mark string) []string {
	var found []string
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !strings.Contains("\x00"+string(env), "\x00"+mark+"\x00") {
			continue // gone, a zombie or another's
		}
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		found = append(found, strings.ReplaceAll(string(args), "\x00", " "))
	}
	return found
}

// lockPorts keeps the ports of the documentation for one test at a time, whatever package it is in.
func lockPorts(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "goms-test-ports.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatalf("lock %s: %v", f.Name(), err)
	}
}
