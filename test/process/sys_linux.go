package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// childAttr makes children die with the test binary, whatever ends it.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// ResetPeak makes the kernel count the peak of the resident set anew. It reports whether memory can be measured here.
func (p *Process) ResetPeak() bool {
	p.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("5"), 0); err != nil {
		p.t.Logf("reset peak of %s: %v: memory is not measured", p.Name, err)
		return false
	}
	return true
}

// Memory returns the resident set, now and at its peak since ResetPeak, in bytes.
func (p *Process) Memory() (now, peak int64) {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		p.t.Fatalf("read memory of %s: %v", p.Name, err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		switch name {
		case "VmRSS":
			now, _ = strconv.ParseInt(kib, 10, 64)
		case "VmHWM":
			peak, _ = strconv.ParseInt(kib, 10, 64)
		}
	}
	return now << 10, peak << 10
}

// Files returns how many file descriptors the process has.
func (p *Process) Files() int {
	p.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	if err != nil {
		p.t.Fatalf("count files of %s: %v", p.Name, err)
	}
	return len(list)
}

// EnoughFiles raises this process's limit of open files until the test ends; its children inherit it. Where that is not allowed the
// test is skipped, and fails in CI.
func EnoughFiles(t testing.TB, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	was := limit
	if limit.Cur = max(limit.Cur, n); limit.Max < n {
		limit.Max = n
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		Lacking(t, "%d open files are not allowed: %v", n, err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was) })
}
