package e2e_test

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// TestLogNobodyReads closes the other end of the gateway's standard output, as the end of a program that collects logs does. Clients
// notice nothing, and it still stops in order.
func TestLogNobodyReads(t *testing.T) {
	dir, port := t.TempDir(), ports.Free(t)
	cmd := exec.Command(process.Build(t, "cmd/gateway"), "-http_port", fmt.Sprint(port), "-rpc_port", fmt.Sprint(ports.Free(t)), "-admin_port", "0")
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "GOMS_CALL_SERVICE_KEY="+process.CallKey, "GOMS_GATEWAY_DRAIN_DELAY=0s",
		fmt.Sprintf("GOMS_ETCD_EMBEDDED_ADDR=127.0.0.1:%d", ports.Free(t)), "GOMS_ETCD_EMBEDDED_DIR="+filepath.Join(dir, "etcd"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for lines, line := bufio.NewReader(out), ""; !strings.Contains(line, "Admin Listen"); {
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	out.Close()
	url := fmt.Sprintf("http://127.0.0.1:%d/api/nobody/there", port)
	for range 20 { // each writes a record
		if a := do(t, "GET", url, "", nil); a.status != 404 {
			t.Fatalf("GET %s = %d, want 404", url, a.status)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the gateway ended with %v, want exit code 0", err)
	}
}
