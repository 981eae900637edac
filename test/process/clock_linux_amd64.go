package process

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// clock is the wall clock of one process, which can be set.
//
// A Go program asks nobody for the time: it calls a function in the page of code that the kernel maps into each process (the vDSO).
// The page is shared until it is written. So the process is stopped before its first instruction, and that function is overwritten
// in its copy by one that asks the kernel and adds a number of seconds, which lies behind the code and can be changed at any time.
type clock struct {
	mem *os.File // the process's memory
	at  int64    // of the seconds
}

// shifted is clock_gettime with seconds, 32 bytes from its beginning, that are added to the wall clock and to no other.
var shifted = []byte{
	0xb8, 0xe4, 0x00, 0x00, 0x00, //             mov  eax, 228 (clock_gettime)
	0x0f, 0x05, //                               syscall
	0x85, 0xc0, //                               test eax, eax
	0x75, 0x0e, //                               jnz  done
	0x85, 0xff, //                               test edi, edi (CLOCK_REALTIME)
	0x75, 0x0a, //                               jnz  done
	0x48, 0x8b, 0x0d, 0x0a, 0x00, 0x00, 0x00, // mov  rcx, [rip+10] (seconds)
	0x48, 0x01, 0x0e, //                         add  [rsi], rcx (tv_sec)
	0xc3,                               // done: ret
	0x90, 0x90, 0x90, 0x90, 0x90, 0x90, //
	0, 0, 0, 0, 0, 0, 0, 0, //                   seconds
}

const secondsAt = 32

// startClock starts a process whose wall clock can be set. When it cannot be, no process is left.
func startClock(cmd *exec.Cmd) (*clock, error) {
	runtime.LockOSThread() // who starts a process that is traced is who traces it
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Ptrace = true
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c, err := stopped(cmd.Process.Pid)
	if err == nil {
		if err = syscall.PtraceDetach(cmd.Process.Pid); err == nil {
			return c, nil
		}
		err = fmt.Errorf("let it run: %w", err)
		c.close()
	}
	_ = cmd.Process.Kill() // it is stopped, and ours
	_ = cmd.Wait()         // it was killed
	return nil, err
}

// stopped waits until a process that is traced has stopped at its first instruction, and gives it a clock.
func stopped(pid int) (*clock, error) {
	var status syscall.WaitStatus
	_, err := syscall.Wait4(pid, &status, 0, nil)
	for errors.Is(err, syscall.EINTR) {
		_, err = syscall.Wait4(pid, &status, 0, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("wait for its first instruction: %w", err)
	}
	if !status.Stopped() {
		return nil, fmt.Errorf("it has not stopped at its first instruction: status %#x", status)
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	at, err := overwrite(pid, mem)
	if err != nil {
		mem.Close()
		return nil, err
	}
	return &clock{mem: mem, at: at}, nil
}

// overwrite replaces clock_gettime in a process's vDSO and returns where the seconds are.
func overwrite(pid int, mem *os.File) (int64, error) {
	low, high, err := vdso(pid)
	if err != nil {
		return 0, err
	}
	image := make([]byte, high-low)
	if _, err := mem.ReadAt(image, low); err != nil {
		return 0, fmt.Errorf("read its vDSO: %w", err)
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("read its vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("read its vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name != "__vdso_clock_gettime" {
			continue
		}
		begin := low + int64(s.Value)
		if s.Size < uint64(len(shifted)) || begin%8 != 0 {
			return 0, fmt.Errorf("its vDSO has %d bytes for __vdso_clock_gettime at %#x, want %d at a multiple of 8", s.Size, s.Value, len(shifted))
		}
		if _, err := mem.WriteAt(shifted, begin); err != nil {
			return 0, fmt.Errorf("write to its vDSO: %w", err)
		}
		return begin + secondsAt, nil
	}
	return 0, errors.New("its vDSO has no __vdso_clock_gettime")
}

// vdso returns where the vDSO of a process lies.
func vdso(pid int) (low, high int64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(line, "[vdso]\n") {
			_, err := fmt.Sscanf(line, "%x-%x", &low, &high)
			return low, high, err
		}
	}
	return 0, 0, errors.New("it has no vDSO")
}

// set has the clock go before that of the machine by d.
func (c *clock) set(d time.Duration) error {
	_, err := c.mem.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(int64(d/time.Second))), c.at)
	return err
}

func (c *clock) close() { c.mem.Close() }
