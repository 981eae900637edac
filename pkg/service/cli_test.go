package service_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/service"
)

// result is what became of one service.Run.
type result struct {
	code           int
	err            error
	stdout, stderr string
}

// runArgs runs a node to its end, which comes by itself or stop.
func runArgs(t *testing.T, env map[string]string, stop func(*service.Service), args ...string) result {
	t.Helper()
	var stdout, stderr lines
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := service.Run(ctx, service.Options{
		Name: "user", Args: args, Stdout: &stdout, Stderr: &stderr, Registry: registry.NewMemory(),
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}, func(s *service.Service) error {
		go func() {
			<-s.Ready()
			if stop != nil {
				stop(s)
			}
			cancel()
		}()
		return nil
	})
	return result{project.ExitCode(err), err, stdout.String(), stderr.String()}
}

func TestCommandLine(t *testing.T) {
	env := map[string]string{
		"GOMS_CALL_SERVICE_KEY": canary, "GOMS_SERVICE_LISTEN_HOST": "127.0.0.1", "GOMS_SERVICE_DRAIN_DELAY": "0s",
		"GOMS_LOG_FORMAT": "json", "GOMS_SERVICE_VERSION": "env",
	}
	var node registry.Node
	r := runArgs(t, env, func(s *service.Service) { node = s.Node() },
		"-http_port", "0", "--rpc-port=0", "-advertise_host", "127.0.0.1", "-weight=7", "-zone", "z1", "-name", "members", "-log_format=text")
	if r.code != 0 || r.err != nil {
		t.Fatalf("Run() = %v", r.err)
	}
	if node.Service != "members" || node.Weight != 7 || node.Zone != "z1" || node.Version != "env" || !strings.HasPrefix(node.HTTPAddr, "127.0.0.1:") {
		t.Errorf("node is %+v", node)
	}
	_, port, _ := net.SplitHostPort(node.HTTPAddr)
	first, _, _ := strings.Cut(r.stdout, "\n")
	if !strings.HasSuffix(first, " [members] Http Listen on port: "+port) {
		t.Errorf("first line is %q, want … [members] Http Listen on port: %s", first, port)
	}
	noCanary(t, "the output", r.stdout+r.stderr)

	f := func(code int, stdout, complaint string, env map[string]string, args ...string) {
		t.Helper()
		r := runArgs(t, env, func(*service.Service) { t.Error("the node has started") }, args...)
		if r.code != code {
			t.Errorf("%v: exit code %d, want %d (%v)", args, r.code, code, r.err)
		}
		if !strings.Contains(r.stdout, stdout) {
			t.Errorf("%v: output %q, want %q", args, r.stdout, stdout)
		}
		if r.err == nil && complaint != "" || r.err != nil && !strings.Contains(r.err.Error(), complaint) {
			t.Errorf("%v: error %v, want %q", args, r.err, complaint)
		}
		noCanary(t, "an error", fmt.Sprint(r))
	}
	f(0, "-http_port", "", env, "-h")
	f(0, "-http_port", "", env, "--help")
	f(2, "", "did you mean -http_port", env, "-http_prot", "1")
	f(2, "", "http_port", env, "-http_port", "x")
	f(2, "", "unexpected argument", env, "start")
	f(3, "", "GOMS_CALL_SERVICE_KEY", nil, "-http_port", "0", "-rpc_port", "0")
	f(3, "", "GOMS_CALL_SERVICE_KEY: ", map[string]string{"GOMS_CALL_SERVICE_KEY": canary + "\n"})
	f(3, "", "GOMS_CALL_SERVICE_KEY: ", map[string]string{"GOMS_CALL_SERVICE_KEY": strings.Repeat(canary, 20)})
	f(3, "", "weight", env, "-weight", "-1")
	f(3, "", "rpcPort", env, "-http_port", "7777", "-rpc_port", "7777")
	f(3, "", "a/b", env, "-name", "a/b")
	f(3, "", "no host", env, "-advertise_host", "no host")
	f(3, "", "logLevel", env, "-log_level", "loud")
	f(3, "", "nowhere", env, "-config", "/nowhere/at/all.yml")
}

func TestConfigFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("key", canary+"\n")
	write("config.yml", `projectName: "shop"
callServiceKeyFile: "`+filepath.Join(dir, "key")+`"
etcdAddr: "127.0.0.1:1|127.0.0.1:2"
etcd: {embedded: {addr: "127.0.0.1:2379"}, ttl: 5s}
zipkin: {sampleRate: 0.5}
redisAddr: "127.0.0.1:6379"
advertiseHost: "127.0.0.1"
gateway: {anything: [1, {goes: here}]}
service: {listenHost: "127.0.0.1", httpPort: 0, rpcPort: 0, drainDelay: 0s, version: file}
`)
	write("services.yml", `services:
  user: {login: "/login", register: {path: "/register", methods: [POST], timeout: 3s}}
`)
	var c service.Config
	r := runArgs(t, map[string]string{}, func(s *service.Service) { c = s.Config() }, "-config", dir)
	if r.err != nil {
		t.Fatalf("Run() = %v", r.err)
	}
	if c.ProjectName != "shop" || len(c.EtcdAddr) != 2 || c.Etcd.TTL != 5*time.Second || c.Zipkin.SampleRate != .5 || c.RedisAddr != "127.0.0.1:6379" ||
		c.Services["user"]["login"].Path != "/login" || c.Services["user"]["register"].Path != "/register" || c.Service.Version != "file" {
		t.Errorf("configuration is %+v", c)
	}
	noCanary(t, "the output", r.stdout)
	f := func(text, complaint string) {
		t.Helper()
		write("services.yml", text)
		r := runArgs(t, map[string]string{}, nil, "-config", dir)
		if r.code != 3 || r.err == nil || !strings.Contains(r.err.Error(), complaint) {
			t.Errorf("%q: exit code %d, %v, want 3 and %q", text, r.code, r.err, complaint)
		}
	}
	f("servcies: {}\n", `services.yml:1: servcies: unknown key (did you mean "services"?)`)
	f("services: {user: {login: login}}\n", "services.yml:1: services.user.login")
	f("callServiceKey: "+canary+"\n", "callServiceKey")
	f("zipkinAddr: nonsense\n", "services.yml:1: zipkinAddr")
}

// Signals need a process of its own: this test binary as a node.
func TestSignals(t *testing.T) {
	for name, c := range map[string]struct {
		signals, code int
		stderr        string
	}{"one": {1, 0, ""}, "two": {2, 1, "forced"}} {
		cmd, stdout, stderr := nodeProcess(t)
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			t.Fatalf("%s: read output: %v; %s", name, err, stderr.String())
		}
		_, port, ok := strings.Cut(strings.TrimSpace(line), "Http Listen on port: ")
		if !ok {
			t.Fatalf("%s: first line %q", name, line)
		}
		answer := make(chan string, 1)
		go func() {
			r := mustRequest(t, "http://127.0.0.1:"+port+"/slow")
			r.Header.Set(auth.CallKeyHeader, canary)
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			if err != nil {
				answer <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			answer <- string(b)
		}()
		metrics := mustRequest(t, "http://127.0.0.1:"+port+"/metrics")
		metrics.Header.Set(auth.CallKeyHeader, canary)
		poll(t, "the slow request is in flight", func() bool {
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(metrics)
			return err == nil && strings.Contains(bodyOf(t, resp), "goms_node_requests_in_flight 2")
		})
		begin := time.Now()
		exited := make(chan struct{})
		go func() { _ = cmd.Wait(); close(exited) }() // its code is looked at below
		signal := func() {
			if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
		}
		signal()
		signal() // the same one, as timeout(1) sends it
		for again := time.NewTicker(200 * time.Millisecond); c.signals > 1; {
			select {
			case <-again.C:
				signal()
				continue
			case <-exited:
			}
			break
		}
		<-exited
		if got := cmd.ProcessState.ExitCode(); got != c.code || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%s: exit code %d after %v, want %d; stderr %q", name, got, time.Since(begin), c.code, stderr)
		}
		got := <-answer
		if c.code == 0 && !strings.Contains(got, "success") {
			t.Errorf("%s: request in flight = %s", name, got)
		}
		noCanary(t, "the process's output", stderr.String())
	}
}
