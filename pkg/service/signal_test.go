package service_test

import (
	"bufio"
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// await reads lines until one holds text.
func await(t *testing.T, r *bufio.Reader, text string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the process ended without %q: %v", text, err)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

// ends waits until the process has ended and returns its exit code.
func ends(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// TestHangup wants SIGHUP, which ends a Go program that does not catch it, to do no more than read the keys again.
func TestHangup(t *testing.T) {
	t.Parallel()
	cmd, stdout, _ := nodeProcess(t)
	out := bufio.NewReader(stdout)
	await(t, out, "Http Listen")
	for range 2 {
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		await(t, out, "call-service keys read again")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(t, out, "left")
	if code := ends(t, cmd); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// TestLogNobodyReads closes the other end of the node's output: it goes on.
func TestLogNobodyReads(t *testing.T) {
	t.Parallel()
	cmd, stdout, _ := nodeProcess(t)
	await(t, bufio.NewReader(stdout), "Http Listen")
	if err := stdout.(io.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil { // it has something to say of it
		t.Fatal(err)
	}
	if code := ends(t, cmd); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
