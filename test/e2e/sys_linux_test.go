package e2e_test

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

// resetPeakRSS makes the kernel count the peak of the resident set anew. It reports whether memory can be measured here.
func resetPeakRSS(t *testing.T, pid int) bool {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Logf("reset peak of process %d: %v: memory is not measured", pid, err)
		return false
	}
	return true
}

// rss returns the resident set of a process, now and at its peak, in bytes.
func rss(t *testing.T, pid int) (now, peak int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatalf("read memory of process %d: %v", pid, err)
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
