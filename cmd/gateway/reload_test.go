package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestReload(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		temp := filepath.Join(dir, "."+name)
		if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	put("a.yml", "callServiceKeyFile: "+keyFile+"\netcd: {embedded: {addr: '127.0.0.1:0', dir: '"+filepath.Join(t.TempDir(), "etcd")+"'}}\ngateway: {drainDelay: 0s}\n")
	put("services.yml", "services:\n  user:\n    login: /login\n")
	ctx, cancel := context.WithCancel(context.Background())
	var out output
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-config", dir, "-http_port=0", "-rpc_port=0", "-admin_port=0"}, &out, &out)
	}()
	port := awaitLine(t, &out, done, `Http Listen on port: (\d+)`)
	awaitLine(t, &out, done, `registry read`)
	status := func(path string) int {
		t.Helper()
		tr := &http.Transport{DisableKeepAlives: true}
		res, err := (&http.Client{Timeout: 5 * time.Second, Transport: tr}).Get("http://127.0.0.1:" + port + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	// A route without a node is 503, one that does not exist 404.
	if got := [2]int{status("/api/user/login"), status("/api/user/logout")}; got != [2]int{503, 404} {
		t.Fatalf("before = %v, want 503 404", got)
	}

	put("services.yml", "services:\n  user:\n    logout: /logout\n")
	awaitLine(t, &out, done, `(configuration reloaded changed=.*services\.user\.login)`)
	if got := [2]int{status("/api/user/login"), status("/api/user/logout")}; got != [2]int{404, 503} {
		t.Errorf("after a change = %v, want 404 503", got)
	}

	put("services.yml", "services:\n  user:\n    logout: logout\n")
	awaitLine(t, &out, done, `(the configuration cannot be used, the one before stays.*services\.yml:3: services\.user\.logout)`)
	if got := status("/api/user/logout"); got != 503 {
		t.Errorf("after a broken change = %d, want 503", got)
	}

	put("services.yml", "services:\n  user:\n    logout: /logout\n")
	awaitLine(t, &out, done, `(configuration read again, nothing in it has changed)`)

	put("services.yml", "services:\n  user:\n    logout: /logout\ngateway: {}\n")
	awaitLine(t, &out, done, `(services\.yml:4: gateway: .*a\.yml)`)
	put("services.yml", "services:\n  user:\n    logout: /logout\nprojectName: other\nlogLevel: debug\n")
	awaitLine(t, &out, done, `(these changes of the configuration need a restart keys=projectName)`)
	awaitLine(t, &out, done, `(configuration reloaded changed=logLevel)`)

	if err := os.WriteFile(keyFile, []byte(strings.Repeat("n", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, &out, done, `(configuration reloaded changed=callServiceKey)`)
	if strings.Contains(out.String(), strings.Repeat("n", 32)) || strings.Contains(out.String(), key) {
		t.Error("a key stands in the log")
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run() = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the gateway does not stop")
	}
}
