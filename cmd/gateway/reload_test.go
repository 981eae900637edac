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

	"github.com/goms-io/goms/pkg/project"
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
		res, err := (&http.Client{Timeout: patience, Transport: tr}).Get("http://127.0.0.1:" + port + path)
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
	case <-time.After(patience):
		t.Fatal("the gateway does not stop")
	}
}

// TestReloadKeepsRoutesThatVanish takes the directory of the configuration away, which was named by nobody, and then all routes in it: both
// are mistakes, and the routes stay.
func TestReloadKeepsRoutesThatVanish(t *testing.T) {
	home := t.TempDir()
	t.Chdir(home)
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	dir, aside := filepath.Join(home, project.ConfigDir), filepath.Join(home, "aside")
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put("a.yml", "etcd: {embedded: {addr: '127.0.0.1:0', dir: '"+filepath.Join(home, "etcd")+"'}}\ngateway: {drainDelay: 0s, httpPort: 0, rpcPort: 0, adminPort: 0}\n")
	put("services.yml", "services:\n  user:\n    login: /login\n")
	g := startFrom(t, "")
	wantRoute := func() {
		t.Helper()
		if status, body := g.get(g.http + "/api/user/login"); status != 503 { // there is no node
			t.Errorf("answer = %d %s, want 503: the route is gone", status, body)
		}
	}
	wantRoute()
	move(dir, aside)
	g.await(g.http+"/readyz?verbose=1", "configs: no such file or directory", "", 10*time.Second)
	wantRoute()
	move(aside, dir)
	g.await(g.http+"/readyz?verbose=1", "ok", "cannot be used", 10*time.Second)
	move(filepath.Join(dir, "services.yml"), aside)
	g.await(g.http+"/readyz?verbose=1", "services: no route is left", "", 10*time.Second)
	wantRoute()
	put("services.yml", "services:\n  user:\n    logout: /logout\n")
	g.awaitStatus("/api/user/logout", 503)
	g.awaitStatus("/api/user/login", 404)
}

// TestReloadIsBriefAboutMuch has a file of which every line is wrong: the log says where it begins, and how much there is.
func TestReloadIsBriefAboutMuch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yml")
	base := "callServiceKey: '" + key + "'\netcd: {embedded: {addr: '127.0.0.1:0', dir: '" + filepath.Join(dir, "etcd") + "'}}\ngateway: {drainDelay: 0s}\n"
	if err := os.WriteFile(path, []byte(base), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var out output
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-config", path, "-http_port=0", "-rpc_port=0", "-admin_port=0"}, &out, &out)
	}()
	awaitLine(t, &out, done, `(registry read)`)
	if err := os.WriteFile(path, []byte(base+"services:\n  user:\n"+strings.Repeat("    login: login\n", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	line := awaitLine(t, &out, done, `(the configuration cannot be used[^\n]*)`)
	if !strings.Contains(line, path+":7") || !strings.Contains(line, "more complaints (gateway check shows them)") || len(line) > 4<<10 {
		t.Errorf("the line has %d bytes, want few, with the first complaint and that there are more: %.1000s", len(line), line)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run() = %v", err)
	}
}

// TestReloadNamesWhatNeedsARestart changes each key of the configuration, and files that are read once: each is taken, or named.
func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	password := put("password", "one")
	base := "callServiceKey: '" + key + "'\netcd: {embedded: {addr: '127.0.0.1:0', dir: '" + filepath.Join(dir, "etcd") + "'}, passwordFile: '" + password + "', username: u}\n"
	conf := put("a.yml", base+"gateway: {drainDelay: 0s, h2c: true}\n")
	ctx, cancel := context.WithCancel(context.Background())
	var out output
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-config", conf, "-http_port=0", "-rpc_port=0", "-admin_port=0"}, &out, &out)
	}()
	awaitLine(t, &out, done, `(Admin Listen)`)
	awaitLine(t, &out, done, `(registry read|registry unavailable|refused)`)

	put("a.yml", base+`gateway: {drainDelay: 0s, h2c: true, headTimeout: 3s, idleTimeout: 9s, retries: 1, listeners: [{addr: '127.0.0.1:0'}], proxyProtocol: [10.0.0.0/8]}
nodeTLS: {serverName: nodes}
nodeNetworks: [10.0.0.0/8]
advertiseHost: 10.0.0.1
`)
	awaitLine(t, &out, done, `(need a restart keys="?advertiseHost gateway\.listeners gateway\.proxyProtocol nodeNetworks nodeTLS\.serverName"?\n)`)
	awaitLine(t, &out, done, `(hold for HTTP/1\.1, and need a restart for HTTP/2 keys="?gateway\.headTimeout gateway\.idleTimeout"?\n)`)
	awaitLine(t, &out, done, `(configuration reloaded changed="?gateway\.headTimeout gateway\.idleTimeout gateway\.retries)`)

	put("password", "two")
	awaitLine(t, &out, done, `(these files have changed, which needs a restart keys=etcd\.passwordFile\n)`)
	put("password", "one") // what is in use is no news
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, &out, done, `(nothing in it has changed)`)
	put("password", "three")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	awaitLines(t, &out, done, `these files have changed`, 2)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run() = %v", err)
	}
}

// awaitLines waits until text stands n times in the output.
func awaitLines(t *testing.T, out *output, done <-chan error, text string, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); strings.Count(out.String(), text) < n; time.Sleep(10 * time.Millisecond) { // between two looks
		if time.Now().After(deadline) || len(done) > 0 {
			t.Fatalf("%q stands less than %d times in:\n%s", text, n, out.String())
		}
	}
	if got := strings.Count(out.String(), text); got != n {
		t.Errorf("%q stands %d times, want %d, in:\n%s", text, got, n, out.String())
	}
}
