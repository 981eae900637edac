package service_test

import (
	"io"
	"os"
	"os/exec"
	"testing"
)

// nodeProcess starts this test binary as a node whose etcd is away.
func nodeProcess(t *testing.T) (cmd *exec.Cmd, stdout io.Reader, stderr *lines) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(self, "-http_port", "0", "-rpc_port", "0", "-etcd_addr", "127.0.0.1:1", "-advertise_host", "127.0.0.1")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "SERVICE_TEST_MAIN=1", "GOMS_CALL_SERVICE_KEY="+canary, "GOMS_SERVICE_LISTEN_HOST=127.0.0.1")
	stderr = &lines{}
	cmd.Stderr = stderr
	stdout, err = cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, stdout, stderr
}
