package process

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/goms-io/goms/test/ports"
)

var (
	upstreamServer = regexp.MustCompile(`(?m)^(\s*server\s+)[\w.\-]+:\d+([^;]*;)`)
	listenPort     = regexp.MustCompile(`(?m)^(\s*listen\s+)(?:[\w.\-\[\]:]*:)?\d+([^;]*;)`)
	mainOnly       = regexp.MustCompile(`(?m)^\s*(?:user|pid|daemon|error_log|master_process)\s[^;]*;`)
	accessLog      = regexp.MustCompile(`(?m)^\s*access_log\s[^;]*;`)
	httpBlock      = regexp.MustCompile(`(?m)^\s*http\s*\{`)
)

// NeedNginx returns the path of nginx.
func NeedNginx(t testing.TB) string {
	t.Helper()
	return Need(t, "nginx", "nginx", "/usr/sbin/nginx")
}

// StartNginx runs nginx with the configuration that we ship, in front of gateways, and returns its address. Only what belongs to a
// machine is replaced: the addresses of the gateways, the port, and the places of files.
func StartNginx(t testing.TB, gateways ...string) (*Process, string) {
	t.Helper()
	NeedNginx(t)
	conf, port := ShippedNginx(t, gateways...)
	return RunNginx(t, conf, port)
}

// RunNginx runs nginx with a configuration that has it listen on the port of 127.0.0.1, and returns its address.
func RunNginx(t testing.TB, conf string, port int) (*Process, string) {
	t.Helper()
	path, dir := NeedNginx(t), t.TempDir()
	for _, sub := range []string{"logs", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	WriteFile(t, filepath.Join(dir, "nginx.conf"), conf)
	global := fmt.Sprintf("daemon off; pid %s/nginx.pid; error_log stderr warn;", dir)
	if os.Geteuid() == 0 {
		global += " user root;" // the temporary directory is ours alone
	}
	nginx := Launch{Name: "nginx", Path: path, Dir: dir, Args: []string{"-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-g", global}}
	check := nginx
	check.Args = append([]string{"-t"}, nginx.Args...)
	if _, stderr, code := Run(t, 10*time.Second, check); code != 0 {
		t.Fatalf("nginx -t: exit code %d\n%s", code, stderr)
	}
	p := Start(t, nginx)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	Eventually(t, 10*time.Second, "nginx listens", func() error {
		if !p.Alive() {
			t.Fatal("nginx has ended")
		}
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return p, addr
}

// ShippedNginx returns deploy/nginx.conf for this machine, and the port that it has nginx listen on.
func ShippedNginx(t testing.TB, gateways ...string) (conf string, port int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(RepoRoot(), "deploy/nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	conf = mainOnly.ReplaceAllString(string(text), "")
	if !upstreamServer.MatchString(conf) {
		t.Fatal("deploy/nginx.conf has no line «server host:port …;»")
	}
	n := 0
	conf = upstreamServer.ReplaceAllStringFunc(conf, func(line string) string {
		if n++; n > len(gateways) {
			return ""
		}
		return upstreamServer.ReplaceAllString(line, "${1}"+gateways[n-1]+"${2}")
	})
	if n < len(gateways) {
		t.Fatalf("deploy/nginx.conf names %d gateways, want at least %d", n, len(gateways))
	}
	port = ports.Free(t)
	if !listenPort.MatchString(conf) {
		t.Fatal("deploy/nginx.conf has no line «listen port;»")
	}
	conf = listenPort.ReplaceAllString(conf, fmt.Sprintf("${1}127.0.0.1:%d${2}", port))
	conf = accessLog.ReplaceAllString(conf, "")
	temp := "\n    access_log off;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("    %s_temp_path tmp/%s;\n", kind, kind)
	}
	if at := httpBlock.FindStringIndex(conf); at != nil {
		return conf[:at[1]] + temp + conf[at[1]:], port
	}
	return "events {}\nhttp {" + temp + conf + "\n}\n", port
}
