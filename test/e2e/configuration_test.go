package e2e_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// TestWrongConfiguration wants complaints that name the place, and the exit code that scripts can tell apart.
func TestWrongConfiguration(t *testing.T) {
	gateway := process.Build(t, "cmd/gateway")
	const good = "projectName: goms\ncallServiceKey: " + process.CallKey + "\n"
	f := func(name string, args []string, config string, code int, patterns ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if config != "" {
				process.WriteFile(t, filepath.Join(dir, "configs/config.yml"), config)
			}
			stdout, stderr, got := process.Run(t, patience, process.Launch{Path: gateway, Args: args, Dir: dir})
			if got != code {
				t.Errorf("exit code = %d, want %d\n%s%s", got, code, stdout, stderr)
			}
			for _, p := range patterns {
				if !regexp.MustCompile(p).MatchString(stdout + stderr) {
					t.Errorf("the output has nothing like %q:\n%s%s", p, stdout, stderr)
				}
			}
		})
	}
	run := []string{"-http_port", fmt.Sprint(ports.Free(t)), "-rpc_port", fmt.Sprint(ports.Free(t))}
	with := func(more ...string) []string { return append(append([]string{}, more...), run...) }
	f("no such directory", with("-config", "nowhere"), good, 3, `nowhere`)
	f("no key", run, "projectName: goms\n", 3, `(?i)callServiceKey`)
	f("no configuration, no key", run, "", 3, `(?i)callServiceKey`)
	f("broken YAML", run, good+"services: [\n", 3, `config\.yml:\d+`)
	f("unknown key", run, good+"servcies:\n  user:\n    login: /login\n", 3, `config\.yml:3: .*servcies`, `services`)
	f("the same key twice", run, good+"projectName: other\n", 3, `config\.yml:3`)
	f("bad route", run, good+"services:\n  user:\n    login: login\n", 3, `config\.yml:5: .*login`)
	f("bad duration", run, good+"services:\n  user:\n    login:\n      path: /login\n      timeout: 10\n", 3, `config\.yml:7: .*timeout`)
	f("project with _", run, "projectName: a_b\ncallServiceKey: "+process.CallKey+"\n", 3, `config\.yml:1: .*projectName`)
	f("several at once", run, good+"a: 1\nb: 2\n", 3, `config\.yml:3`, `config\.yml:4`)
	f("unknown flag", []string{"-http_prot", "8080"}, good, 2, `http_prot`, `http_port`)
	f("bad port", []string{"-http_port", "http"}, good, 2, `http_port`)
	f("stray word", with("nonsense"), good, 2, `nonsense`)
	f("help", []string{"-h"}, good, 0, `http_port`, `rpc_port`, `etcd_addr`)
	f("check: fine", []string{"check", "-config", "configs"}, good+"services:\n  user:\n    login: /login\n", 0, `OK`)
	f("check: complaints", []string{"check", "-config", "configs"}, good+"servcies: {}\n", 3, `config\.yml:3`)
	f("check: nowhere", []string{"check", "-config", "nowhere"}, "", 3, `nowhere`)
}

// TestShowConfiguration wants the tree as it is in force, secrets masked.
func TestShowConfiguration(t *testing.T) {
	dir := t.TempDir()
	process.WriteFile(t, filepath.Join(dir, "configs/config.yml"), "projectName: ${PROJECT:-shop}\ncallServiceKey: ${KEY}\netcdAddr: [\"10.0.0.1:2379\"]\nredisAddr: redis://u:p4ssw0rd@r/0\n")
	process.WriteFile(t, filepath.Join(dir, "configs/services.yml"), "services:\n  user:\n    login: /login\n")
	stdout, stderr, code := process.Run(t, patience, process.Launch{
		Path: process.Build(t, "cmd/gateway"), Args: []string{"config", "-config", "configs"}, Dir: dir, Env: []string{"KEY=" + process.CallKey, "GOMS_ETCD_ADDR=10.0.0.2:2379|10.0.0.3:2379"},
	})
	if code != 0 {
		t.Fatalf("exit code = %d, want 0\n%s%s", code, stdout, stderr)
	}
	for _, want := range []string{"projectName: shop", "***", "10.0.0.2:2379", "10.0.0.3:2379", "/login"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the tree lacks %q:\n%s", want, stdout)
		}
	}
	for _, never := range []string{"10.0.0.1:2379", "p4ssw0rd"} {
		if strings.Contains(stdout+stderr, never) {
			t.Errorf("the tree holds %q:\n%s", never, stdout)
		}
	}
}
