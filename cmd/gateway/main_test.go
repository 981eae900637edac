package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/project"
)

const key = "0123456789abcdef0123456789abcdef"

// patience is how long a test waits for what takes a moment on a machine that is not busy.
const patience = 30 * time.Second

// output is what a command printed. It may be read while the command runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func runFor(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out output
	err := run(context.Background(), args, &out, &out)
	return out.String(), err
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestConfigs holds the repository's example configuration to what it says of itself.
func TestConfigs(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	out, err := runFor(t, "check", "-config", "../../configs")
	if err != nil || out != "OK\n" {
		t.Errorf("check = %q %v, want OK", out, err)
	}
	out, err = runFor(t, "config", "-config", "../../configs")
	if err != nil || strings.Contains(out, key) || !strings.Contains(out, `callServiceKey: '***'`) && !strings.Contains(out, `callServiceKey: "***"`) {
		t.Errorf("config = %v\n%s", err, out)
	}
}

// TestCommentedDefaults uncomments every key of the example that shows a default: the tree that comes out must be the default
// tree.
func TestCommentedDefaults(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	text, _, ok := strings.Cut(uncommented(t, "gateway.yml"), "  policies:\n")
	// The policies are for TestCommentedPolicies; these show no default either.
	example := regexp.MustCompile(`(?m)^  adminPort:.*\n|^  listeners:\n(?:    .*\n)+|^    certificates:.*\n(?:      .*\n)+`)
	if n := len(example.FindAllString(text, -1)); n != 3 || !ok {
		t.Fatalf("gateway.yml has %d examples before its policies, want 3", n)
	}
	got := defaultConfig()
	want := got
	scramble(reflect.ValueOf(&got.Gateway).Elem()) // so that a key that is not shown is
	got.Gateway.AdminPort, got.Gateway.TLS.Certificates, got.Gateway.Listeners = want.Gateway.AdminPort, nil, nil
	want.Project.CallServiceKey = key
	if err := config.Load(write(t, "gateway.yml", example.ReplaceAllString(text, "")), &got, config.Options{EnvPrefix: project.EnvPrefix}); err != nil {
		t.Fatal(err)
	}
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("the comments of gateway.yml do not show the defaults:\n%s\nwant\n%s", g, w)
	}
}

// TestCommentedExamples uncomments the blocks of gateway.yml that show more than a default.
func TestCommentedExamples(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	text, err := os.ReadFile("../../configs/gateway.yml")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, _ := writeCertificate(t)
	files := strings.NewReplacer("/etc/goms/tls.crt", certFile, "/etc/goms/tls.key", keyFile)
	var lines []string
	blocks, inside := 0, false
	for line := range strings.Lines(string(text)) {
		if line == "  # tls:\n" || line == "  # listeners:\n" {
			blocks++
			inside = true
		} else {
			inside = inside && strings.HasPrefix(line, "  #   ")
		}
		if inside {
			line = "  " + strings.TrimPrefix(line, "  # ")
		}
		lines = append(lines, files.Replace(line))
	}
	out, err := runFor(t, "check", "-config", write(t, "gateway.yml", strings.Join(lines, "")))
	if err != nil || out != "OK\n" || blocks != 2 {
		t.Errorf("check with %d blocks = %q %v, want OK with 2", blocks, out, err)
	}
}

// TestCommentedPolicies uncomments the policies of the example, which are deeper than one line: they are
// the default ones.
func TestCommentedPolicies(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	text, err := os.ReadFile("../../configs/gateway.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, policies, ok := strings.Cut(string(text), "  # policies:\n")
	if !ok {
		t.Fatal("gateway.yml shows no policies")
	}
	block := "callServiceKey: " + key + "\ngateway:\n  policies:\n" + strings.ReplaceAll("\n"+policies, "\n  # ", "\n  ")
	c := defaultConfig()
	if err := config.Load(write(t, "gateway.yml", block), &c, config.Options{EnvPrefix: project.EnvPrefix}); err != nil {
		t.Fatalf("%v\n%s", err, block)
	}
	if got := c.Gateway.Policies["default"]; !reflect.DeepEqual(got, gateway.DefaultPolicy()) {
		t.Errorf("the comments of gateway.yml show %+v, want the default %+v", got, gateway.DefaultPolicy())
	}
	if b := c.Gateway.Policies["user"].Breaker; b.Rate == nil || *b.Rate != lb.DefaultBreakerRate || b.Minimum != lb.DefaultBreakerMinimum || b.Pause != lb.DefaultBreakerPause {
		t.Errorf("the breaker of gateway.yml is %+v, want the default one", b)
	}
}

func TestBadConfiguration(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", "") // and back at the end
	os.Unsetenv("GOMS_CALL_SERVICE_KEY")
	f := func(text string, want ...string) {
		t.Helper()
		_, err := runFor(t, "check", "-config", write(t, "c.yml", text))
		if project.ExitCode(err) != project.ExitConfig {
			t.Errorf("%q: %v has exit code %d, want %d", text, err, project.ExitCode(err), project.ExitConfig)
		}
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v, want %q", text, err, w)
			}
		}
	}
	f("projectName: goms\n", "callServiceKey: no call-service key")
	f("callServiceKey: "+key+"\nservises: {}\n", "c.yml:2: servises: unknown key", `did you mean "services"?`)
	f("callServiceKey: "+key+"\nprojectName: a_b\n", "c.yml:2: projectName:")
	f("callServiceKey: "+key+"\nservices:\n  user:\n    login: login\n", "c.yml:4: services.user.login")
	f("callServiceKey: "+key+"\ngateway:\n  headTimeout: 10\n  maxBody: lots\n  prefix: api\n  httpPort: 70000\n", "c.yml:3: gateway.headTimeout", "c.yml:4: gateway.maxBody")
	f("callServiceKey: "+key+"\ngateway:\n  prefix: api\n  httpPort: 70000\n  retries: 99\n", "c.yml:3: gateway.prefix", "c.yml:4: gateway.httpPort", "c.yml:5: gateway.retries")
	f("callServiceKey: "+key+"\nzipkin: {sampleRate: 2}\nlogFormat: xml\n", "c.yml:2: zipkin.sampleRate", "c.yml:3: logFormat")
	f("callServiceKey: "+key+"\ngateway:\n  policies:\n    user:\n      balance: rr\n    order:\n      maxInFlight: -4\n", "c.yml:5: gateway.policies.user.balance", "roundRobin", "c.yml:7: gateway.policies.order.maxInFlight")
	f("callServiceKey: "+key+"\ngateway:\n  policies:\n    user:\n      check: {typ: http}\n", "c.yml:5: gateway.policies.user.check.typ", `did you mean "type"?`)
	f("callServiceKey: ["+key+"\n", "c.yml:")

	listener := func(text string, want ...string) {
		t.Helper()
		f("callServiceKey: "+key+"\ngateway:\n  listeners:\n    - "+text+"\n", want...)
	}
	listener("addr: 8081", `c.yml:4: gateway.listeners[0].addr: "8081": want host:port, or unix: and a path`)
	listener("addr: 127.0.0.1:http", "gateway.listeners[0].addr")
	listener("mode: '0660'", "gateway.listeners[0].addr", "gateway.listeners[0].mode: only the file of a Unix socket")
	listener("addr: 'unix:'", "gateway.listeners[0].addr")
	listener("addr: 'unix:@abstract'", "gateway.listeners[0].addr")
	listener("addr: 'unix:/"+strings.Repeat("a", 100)+"'", "at most 100 bytes")
	listener("{addr: 'unix:/a', mode: '0999'}", `gateway.listeners[0].mode: "0999" is no mode like 0660`)
	listener("{addr: 'unix:/a', mode: '10660'}", "gateway.listeners[0].mode")
	listener("{addr: ':8081', tls: true}", "c.yml:4: gateway.listeners[0].tls: there are no certificates")
	listener("{addr: ':8081', proxyProtocol: [10.0.0.1/64]}", "gateway.listeners[0].proxyProtocol[0]")
	listener("{addr: ':8081', proxyProto: []}", "unknown key", `did you mean "proxyProtocol"?`)

	acme := func(text string, want ...string) {
		t.Helper()
		f("callServiceKey: "+key+"\ngateway:\n  tls:\n    acme: {"+text+"}\n", want...)
	}
	acme("email: a@example.com", "c.yml:4: gateway.tls.acme.hosts: there is none")
	acme("hosts: ['*.example.com']", `c.yml:4: gateway.tls.acme: open certificates: acme host "*.example.com"`)
	acme("hosts: [a.example.com], directory: 'http://acme.example/dir'", "no https URL")
	acme("hosts: [a.example.com], caFile: nowhere.pem", "nowhere.pem")
	acme("hosts: [a.example.com], cacheDri: a", `did you mean "cacheDir"?`)
	ca, _, _ := writeCertificate(t)
	f("callServiceKey: "+key+"\ngateway: {tls: {clientCAFile: "+ca+", acme: {hosts: [a.example.com]}}}\n", "gateway.tls.acme: an authority has no client certificate")
}

func TestUsage(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		_, err := runFor(t, args...)
		if _, ok := errors.AsType[*config.UsageError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("run(%q) = %v, want a usage error with %q", args, err, want)
		}
		if code := project.ExitCode(err); code != project.ExitUsage {
			t.Errorf("run(%q): exit code %d, want %d", args, code, project.ExitUsage)
		}
	}
	f("-http_port", "-http_prot", "8080")
	f(`did you mean "check"?`, "chek")
	f("-http_port", "-http_port", "eighty")
	f("unexpected argument", "-http_port", "8080", "more")
	f(`unexpected argument "routes": a command comes before the flags`, "-http_port", "8080", "routes", "list")
	f("a command comes before the flags; want one of", "node", "-etcd_addr", "127.0.0.1:1", "list")
	f("(gateway node -h lists what there is)", "node", "drian", "user", "x")
	for _, args := range [][]string{{"-h"}, {"--help"}, {"check", "-h"}} {
		out, err := runFor(t, args...)
		if err != nil || !strings.Contains(out, "http_port") || !strings.Contains(out, "healthcheck") {
			t.Errorf("run(%q) = %v %q, want the usage", args, err, out)
		}
	}
}

// TestServe runs a whole gateway in this process, with its own etcd, and stops it.
func TestServe(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	dir := t.TempDir()
	cfg := write(t, "c.yml", "etcd: {embedded: {addr: '127.0.0.1:0', dir: '"+filepath.Join(dir, "etcd")+"'}}\ngateway: {drainDelay: 0s}\nservices: {user: {login: /login}}\n")
	ctx, cancel := context.WithCancel(context.Background())
	var out output
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-config", cfg, "--http-port=0", "-rpc_port", "0", "-admin_port=0"}, &out, &out)
	}()
	port := awaitLine(t, &out, done, `Http Listen on port: (\d+)`)
	admin := awaitLine(t, &out, done, `Admin Listen on: (\S+)`)
	awaitLine(t, &out, done, `registry read`)
	for _, url := range []string{"http://127.0.0.1:" + port + "/readyz", "http://127.0.0.1:" + port + "/cluster", "http://" + admin + "/metrics", "http://" + admin + "/debug/pprof/"} {
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("GET %s = %d, want 200", url, res.StatusCode)
		}
	}
	if _, err := runFor(t, "healthcheck", "-http_port", port); err != nil {
		t.Errorf("healthcheck = %v", err)
	}
	// Another gateway on the same port names it and goes.
	_, err := runFor(t, "-config", cfg, "-http_port", port, "-rpc_port", "0", "-admin_port", "0")
	if err == nil || !strings.Contains(err.Error(), port) || project.ExitCode(err) != project.ExitFailure {
		t.Errorf("second gateway = %v, want an error that names port %s", err, port)
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
	if ln, err := net.Listen("tcp", "127.0.0.1:"+port); err != nil {
		t.Errorf("the port is still in use: %v", err)
	} else {
		ln.Close()
	}
	if strings.Contains(out.String(), key) {
		t.Error("the key is in the log")
	}
}

var client = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// awaitLine waits until the pattern is in the output and returns its group, if it has one.
func awaitLine(t *testing.T, out *output, done <-chan error, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if m := re.FindStringSubmatch(out.String()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-tick.C:
		case err := <-done:
			t.Fatalf("the gateway ended: %v\n%s", err, out.String())
		case <-deadline:
			t.Fatalf("no line like %q in\n%s", pattern, out.String())
		}
	}
}
