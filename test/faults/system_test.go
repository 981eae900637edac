//go:build linux

package faults_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goms-io/goms/test/process"
)

// limitFiles sets how many files a running process may have.
func limitFiles(pid int, n uint64) error {
	return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}, nil)
}

// processorTime returns what a process has taken, in user and system mode.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // clock ticks, a hundred a second on every Linux that Go runs on
}

// limitMemory puts a process under a control group with a limit of memory. It returns how often the kernel has killed for it.
func limitMemory(t testing.TB, pid int, limit int64) (killed func() int) {
	t.Helper()
	name := fmt.Sprintf("goms-faults-%d", os.Getpid())
	dir, file, events, key := filepath.Join("/sys/fs/cgroup", name), "memory.max", "memory.events", "oom_kill "
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil { // version 1
		dir, file, events = filepath.Join("/sys/fs/cgroup/memory", name), "memory.limit_in_bytes", "memory.oom_control"
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		process.Lacking(t, "control groups cannot be made here: %v", err)
	}
	t.Cleanup(func() {
		for range 100 { // until those in it are gone
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	for name, text := range map[string]string{file: fmt.Sprint(limit)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			process.Lacking(t, "the memory of a control group cannot be limited here: %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(pid)), 0o644); err != nil {
		process.Lacking(t, "a process cannot be put into a control group here: %v", err)
	}
	return func() int {
		text, _ := os.ReadFile(filepath.Join(dir, events))
		_, rest, _ := strings.Cut(string(text), key)
		n, _ := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest+"\n", "\n", 2)[0]))
		return n
	}
}

// inside is set in a process that apart has started, to the name of its test.
const inside = "FAULTS_APART"

// apart runs the rest of the test in a process of its own, with a network and mounts of its own, and reports whether this is it. The
// caller returns at once if not. In there is nothing but loopback, on which packets may be dropped and file systems be mounted at will;
// all of it is gone when the process is.
func apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		for _, c := range [][]string{{"ip", "link", "set", "lo", "up"}, {"mount", "--make-rprivate", "/"}} {
			if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%q: %v\n%s", c, err, out)
			}
		}
		return true
	}
	r := begin(t)
	process.Need(r, "ip (Debian package iproute2)", "ip", "/usr/sbin/ip")
	if os.Geteuid() != 0 {
		process.Lacking(r, "only root may make network namespaces")
	}
	r.printed = true // by the process inside, from here on
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "30m")
	cmd.Env = append(os.Environ(), inside+"="+t.Name(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, `{"row"`) {
			show(strings.TrimSuffix(line, "\n"))
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, process.Tail(string(out), 200))
	}
	return false
}

// smallDisk mounts a file system of a size that is soon full, in a process of its own (apart), and returns where it is.
func smallDisk(t testing.TB, size string) string {
	t.Helper()
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "none", disk).CombinedOutput(); err != nil {
		process.Lacking(t, "no file system can be mounted: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return disk
}

// nft gives rules to the packet filter of this namespace.
func nft(t testing.TB, rules string) {
	t.Helper()
	cmd := exec.Command(process.Need(t, "nft (Debian package nftables)", "nft", "/usr/sbin/nft"), "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s\n%s", err, out, rules)
	}
}

// partition drops all packets to and from an address of this namespace until heal.
func partition(t testing.TB, addrs ...string) {
	t.Helper()
	nft(t, "add table ip faults\nflush table ip faults\nadd chain ip faults in { type filter hook input priority 0; }\n"+
		"add rule ip faults in ip saddr { "+strings.Join(addrs, ", ")+" } drop\nadd rule ip faults in ip daddr { "+strings.Join(addrs, ", ")+" } drop\n")
}

func heal(t testing.TB) {
	t.Helper()
	nft(t, "delete table ip faults\n")
}
