package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/registry/etcd"
	"github.com/goms-io/goms/test/ports"
)

// routesHome is an etcd and the configuration of gateways that take their routes from it.
type routesHome struct {
	t         *testing.T
	dir, addr string
	cfg       string
}

func newRoutesHome(t *testing.T) *routesHome {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	h := &routesHome{t: t, dir: t.TempDir(), addr: ports.Addr(t)}
	h.cfg = h.config("c", "etcd")
	return h
}

// config returns a configuration with a route of its own.
func (h *routesHome) config(name, from string) string {
	return write(h.t, name+".yml", fmt.Sprintf("etcdAddr: ['%s']\netcd: {ttl: 2s}\ngateway: {drainDelay: 0s, routesFrom: %s, snapshotFile: '', routesFile: '%s/data/%s.routes'}\nservices: {user: {infile: /infile}}\n",
		h.addr, from, h.dir, name))
}

// file returns a file with routes of service user.
func (h *routesHome) file(actions ...string) string {
	text := "services:\n  user:\n"
	for _, a := range actions {
		text += "    " + a + ": /" + a + "\n"
	}
	return write(h.t, "services.yml", text)
}

func (h *routesHome) routes(args ...string) (string, error) {
	h.t.Helper()
	return runFor(h.t, append(append([]string{"routes"}, args...), "-config", h.cfg)...)
}

// want runs a command that works.
func (h *routesHome) want(want string, args ...string) string {
	h.t.Helper()
	out, err := h.routes(args...)
	if err != nil || !regexp.MustCompile(want).MatchString(out) {
		h.t.Fatalf("gateway routes %v = %q, %v, want %q", args, out, err, want)
	}
	return out
}

// refused runs a command that does not.
func (h *routesHome) refused(code int, want string, args ...string) {
	h.t.Helper()
	out, err := h.routes(args...)
	if err == nil || !strings.Contains(err.Error(), want) || project.ExitCode(err) != code {
		h.t.Errorf("gateway routes %v = %q, %v (exit %d), want %q and exit %d", args, out, err, project.ExitCode(err), want, code)
	}
}

// awaitStatus waits until a path is answered so.
func (g *gw) awaitStatus(path string, want int) {
	g.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got, _ := g.get(g.http + path)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("GET %s = %d, want %d; log:\n%s", path, got, want, g.out.String())
		}
		<-time.After(10 * time.Millisecond)
	}
}

var digestIn = regexp.MustCompile(`routes ([0-9a-f]{16})`)

func TestRoutesCommand(t *testing.T) {
	h := newRoutesHome(t)
	startStore(t, h.addr, filepath.Join(h.dir, "etcd"))
	h.refused(project.ExitFailure, "none was ever pushed", "pull")
	h.want(`^VERSION +ROUTES +BY +AT +COMMENT\n$`, "list")
	h.refused(project.ExitFailure, "nothing was pushed yet: 1 added", "diff", h.file("login"))

	first := digestIn.FindStringSubmatch(h.want(`^version 1, routes [0-9a-f]{16}: 1 added, 0 removed, 0 changed\n$`, "push", h.file("login"), "-m", "the first"))[1]
	h.want(`^nothing has changed: version 1, routes `+first, "push", h.file("login"))
	h.want(`^$`, "diff", h.file("login"))
	// Differences are printed, and the exit code is 1.
	out, err := h.routes("diff", h.file("logout"))
	if out != "- /api/user/login path=/login\n+ /api/user/logout path=/logout\n" || project.ExitCode(err) != 1 || !strings.Contains(err.Error(), "differs from version 1: 1 added, 1 removed, 0 changed") {
		t.Errorf("diff = %q, %v", out, err)
	}
	// A directory with the rest of a configuration, whose secrets stay where they are.
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.yml": "callServiceKey: 'supersecretsupersecretsupersecret'\ngateway: {prefix: /v1}\nservice: {anything: 1}\n",
		"b.yml": "services: {user: {login: /login, again: {path: /again, methods: [POST]}}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.want(`^version 2, routes .*1 added`, "push", dir)
	pulled := h.want(`^# Version 2 .*-from 2\nservices:\n  user:\n    again:\n`, "pull")
	if strings.Contains(pulled, "secret") {
		t.Errorf("what was pushed holds a secret:\n%s", pulled)
	}
	h.want(`^# Version 1 `, "pull", "1")
	h.want(`^nothing has changed: version 2`, "push", write(t, "pulled.yml", pulled))

	h.refused(project.ExitFailure, "somebody else has pushed since", "push", h.file("third"), "-from", "1")
	h.want(`^version 3, routes `+first+`, as version 1: 0 added, 1 removed`, "rollback", "1", "-m", "too early")
	h.want(`^nothing has changed: version 3, routes `+first, "rollback", "3")
	list := h.want(`\n3\* +`+first+` .*@.*Z +rollback to 1 too early\n2 +[0-9a-f]{16} .*-\n1 +`+first+` .*the first\n$`, "list")
	if strings.Count(list, "*") != 1 {
		t.Errorf("list marks more than the newest:\n%s", list)
	}

	h.refused(project.ExitFailure, "version 9: no such route table (gateway routes list shows what there is)", "pull", "9")
	h.refused(project.ExitFailure, "version 9: no such route table", "rollback", "9")
	h.refused(project.ExitConfig, "bad.yml:3: services.user.login", "push", write(t, "bad.yml", "services:\n  user:\n    login: login\n"))
	h.refused(project.ExitConfig, "bad.yml:1: servises: unknown key", "diff", write(t, "bad.yml", "servises: {}\n"))
	h.refused(project.ExitConfig, "no such file", "push", filepath.Join(dir, "none.yml"))
	empty := write(t, "empty.yml", "services: {}\n")
	h.refused(project.ExitConfig, "has no route, and would take all away (-force", "push", empty)
	h.want(`^version 4, .*0 added, 1 removed`, "push", empty, "-force")
	h.refused(project.ExitUsage, "want one of")
	h.refused(project.ExitUsage, `did you mean "push"?`, "psuh", empty)
	h.refused(project.ExitUsage, "cannot be understood", "push")
	h.refused(project.ExitUsage, "cannot be understood", "list", "1")
	h.refused(project.ExitUsage, `"0" is no version`, "pull", "0")
	h.refused(project.ExitUsage, `"-1" is no version`, "rollback", "-1")
	h.refused(project.ExitUsage, "is no version", "push", empty, "-from", "-7")
	h.refused(project.ExitUsage, "a command comes before the flags", "-from", "1", "list")
	if out, err := runFor(t, "routes", "-h"); err != nil || !strings.Contains(out, "exit code 0: the same, 1: they differ, 2 or 3: an error") || !strings.Contains(out, "--from") {
		t.Errorf("routes -h = %v %q", err, out)
	}
}

// TestRoutesMended has somebody spoil what lies in etcd: the commands say where and how it is mended, and mend it.
func TestRoutesMended(t *testing.T) {
	h := newRoutesHome(t)
	startStore(t, h.addr, filepath.Join(h.dir, "etcd"))
	reg, err := etcd.Open(etcd.Config{Project: "goms", Addrs: []string{h.addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	h.want(`^version 1, `, "push", h.file("login"))
	h.want(`^version 2, `, "push", h.file("logout"))
	for _, spoilt := range []struct {
		key  string
		mend []string
	}{{"head", []string{"push", h.file("third"), "-force"}}, {"v/000000000003", []string{"rollback", "1"}}} {
		if err := reg.KV("routes").Put(t.Context(), spoilt.key, []byte("garbage")); err != nil {
			t.Fatal(err)
		}
		h.refused(project.ExitFailure, "damaged", "pull")
		h.refused(exitTrouble, "(gateway routes list shows the versions there are, rollback mends it with one)", "diff", h.file("login"))
		h.refused(project.ExitFailure, "(gateway routes rollback, to a version that is well, comes first; or push -force)", "push", h.file("fourth"))
		h.want(`\n2`, "list")
		h.want(`^version \d+, `, spoilt.mend...)
		h.want(`^# Version \d+ `, "pull")
	}
}

// TestEtcdIsAway wants commands to say whom they asked.
func TestEtcdIsAway(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	config := write(t, "c.yml", "etcdAddr: ['127.0.0.1:1']\n")
	for _, args := range [][]string{{"node", "list"}, {"node", "drain", "user", "10.0.0.1:1_10.0.0.1:2"}, {"routes", "list"}, {"routes", "rollback", "1"}, {"routes", "diff", config}} {
		_, err := runFor(t, append(args, "-config", config)...)
		want := project.ExitFailure
		if args[1] == "diff" { // whose 1 means that there is a difference
			want = exitTrouble
		}
		if project.ExitCode(err) != want || !strings.Contains(err.Error(), "(is that etcd, at 127.0.0.1:1? -etcd_addr or etcdAddr names another)") {
			t.Errorf("gateway %v = %v, want whom it asked and what to do", args, err)
		}
	}
	if out, err := runFor(t, "node", "-h"); err != nil || !strings.Contains(out, "gateway node drain|undrain|reset") || !strings.Contains(out, "--etcd_addr") {
		t.Errorf("node -h = %v %q", err, out)
	}
}

// TestRoutesPushedAtOnce has several push what they made from one version: one may win, and the others are told.
func TestRoutesPushedAtOnce(t *testing.T) {
	h := newRoutesHome(t)
	startStore(t, h.addr, filepath.Join(h.dir, "etcd"))
	h.want(`^version 1`, "push", h.file("login"), "-from", "0")
	const pushers = 4
	var files [pushers]string
	for i := range files {
		files[i] = h.file(fmt.Sprint("login", i))
	}
	var errs [pushers]error
	var wg sync.WaitGroup
	for i := range pushers {
		wg.Go(func() {
			var out output
			errs[i] = run(t.Context(), []string{"routes", "push", files[i], "-from", "1", "-config", h.cfg}, &out, &out)
		})
	}
	wg.Wait()
	won := 0
	for i, err := range errs {
		switch {
		case err == nil:
			won++
		case !strings.Contains(err.Error(), "somebody else has pushed since (gateway routes diff "+files[i]):
			t.Errorf("push = %v, want that somebody else has pushed", err)
		}
	}
	if won != 1 {
		t.Errorf("%d pushes from one version won, want 1", won)
	}
}

// TestRoutesFromEtcd has two gateways follow what is pushed, and a third that does not.
func TestRoutesFromEtcd(t *testing.T) {
	h := newRoutesHome(t)
	startStore(t, h.addr, filepath.Join(h.dir, "etcd"))
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer backend.Close()
	publish(t, h.addr, backend.URL)
	gws := []*gw{startFrom(t, h.cfg), startFrom(t, h.config("second", "etcd"))}
	byFile := startFrom(t, h.config("third", "file"))
	for _, g := range append(gws, byFile) {
		g.awaitStatus("/api/user/infile", 200) // nothing was pushed yet
	}
	digest := digestIn.FindStringSubmatch(h.want(`^version 1`, "push", h.file("login"), "-m", "x"))[1]
	pushed := time.Now()
	for _, g := range gws {
		g.awaitStatus("/api/user/login", 200)
		t.Logf("served %v after the push", time.Since(pushed).Round(time.Millisecond))
		if status, _ := g.get(g.http + "/api/user/infile"); status != 404 {
			t.Errorf("the file's route = %d beside those of etcd, want 404", status)
		}
		awaitLine(t, &g.out, nil, "(routes of etcd taken version=1 routes="+digest+")")
		g.await(g.admin+"/cluster?verbose=1", digest, "", patience)
	}
	// The third serves others, which all can see.
	gws[0].await(gws[0].admin+"/cluster?verbose=1", "otherRoutes", "", patience)
	if status, _ := byFile.get(byFile.http + "/api/user/login"); status != 404 {
		t.Errorf("routesFrom: file serves what was pushed: %d, want 404", status)
	}
	h.want(`^version 2`, "push", h.file("login", "logout"))
	h.want(`^version 3`, "rollback", "1")
	h.want(`^version 4`, "push", h.file("more"))
	for _, g := range gws {
		g.awaitStatus("/api/user/more", 200)
		g.awaitStatus("/api/user/login", 404)
	}
	h.want(`^version 5, routes `+digest, "rollback", "1")
	for _, g := range gws {
		g.awaitStatus("/api/user/login", 200)
		g.awaitStatus("/api/user/more", 404)
	}

	// One that does not check, and one that nobody could have checked.
	reg, err := etcd.Open(etcd.Config{Project: "goms", Addrs: []string{h.addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := reg.Routes().Push(ctx, []byte("services:\n  user:\n    login: login\n"), 5, "", ""); err != nil {
		t.Fatal(err)
	}
	for _, g := range gws {
		g.await(g.admin+"/metrics", "\ngoms_config_refused 1\n", "", patience)
		g.await(g.admin+"/readyz?verbose=1", "routes of etcd, version 6:3: services.user.login", "", 0)
		g.awaitStatus("/api/user/login", 200)
	}
	h.refused(project.ExitConfig, "rollback, to a version that is well, comes first", "push", h.file("more"))
	h.want(`^version 7`, "rollback", "4")
	for _, g := range gws {
		g.awaitStatus("/api/user/more", 200)
		g.await(g.admin+"/metrics", "\ngoms_config_refused 0\n", "", patience)
		if strings.Contains(g.out.String(), key) {
			t.Error("the key is in the log")
		}
	}
}

// TestRoutesBesideFiles breaks the file beside the routes of etcd: each source is taken for itself, and both are told of.
func TestRoutesBesideFiles(t *testing.T) {
	h := newRoutesHome(t)
	startStore(t, h.addr, filepath.Join(h.dir, "etcd"))
	h.want(`^version 1`, "push", h.file("login"))
	g := startFrom(t, h.cfg)
	g.awaitStatus("/api/user/login", 503)
	good, err := os.ReadFile(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(h.cfg, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(string(good) + "nonsense: 1\n")
	g.await(g.admin+"/metrics", "\ngoms_config_refused 1\n", "", patience)
	other := h.cfg
	h.cfg = h.config("other", "etcd") // for the commands
	h.want(`^version 2`, "push", h.file("logout"))
	g.awaitStatus("/api/user/logout", 503)
	g.await(g.admin+"/readyz?verbose=1", "nonsense: unknown key", "", patience)

	h.cfg = other
	put(strings.Replace(string(good), "{drainDelay: 0s,", "{drainDelay: 0s, maxBody: 1MiB,", 1))
	awaitLine(t, &g.out, nil, `(configuration reloaded changed=gateway\.maxBody)`)
	g.await(g.admin+"/metrics", "\ngoms_config_refused 0\n", "", patience)
	for path, want := range map[string]int{"/api/user/logout": 503, "/api/user/infile": 404} {
		if status, _ := g.get(g.http + path); status != want {
			t.Errorf("after the files were read again GET %s = %d, want %d", path, status, want)
		}
	}
	if strings.Contains(g.out.String(), "need a restart") {
		t.Errorf("routes of etcd count as a change of the files:\n%s", g.out.String())
	}
}

// TestRoutesWithoutEtcd starts a gateway while etcd is away, from what it has kept; then etcd comes back empty.
func TestRoutesWithoutEtcd(t *testing.T) {
	h := newRoutesHome(t)
	store := startStore(t, h.addr, filepath.Join(h.dir, "etcd"))
	h.want(`^version 1`, "push", h.file("login"))
	first := startFrom(t, h.cfg)
	// Nobody is answered by the file's routes once some were pushed: a route without a node is 503.
	if status, _ := first.get(first.http + "/api/user/infile"); status != 404 {
		t.Errorf("first answer = %d, want 404", status)
	}
	first.awaitStatus("/api/user/login", 503)
	first.stop()
	file := filepath.Join(h.dir, "data", "c.routes")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the file = %v, %v, want it there with mode 0600", info, err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	second := startFrom(t, h.cfg)
	second.awaitStatus("/api/user/login", 503)
	second.awaitStatus("/api/user/infile", 404)
	if !strings.Contains(second.out.String(), "routes of the last run taken, until etcd is read version=1") {
		t.Errorf("the log does not say where the routes come from:\n%s", second.out.String())
	}
	store = startStore(t, h.addr, filepath.Join(h.dir, "empty"))
	awaitLine(t, &second.out, nil, `(etcd has no routes any more, the ones before stay)`)
	second.awaitStatus("/api/user/login", 503)
	h.want(`^version 1`, "push", h.file("after"))
	second.awaitStatus("/api/user/after", 503)
	second.awaitStatus("/api/user/login", 404)
	second.stop()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	// A damaged file is put aside, and the configuration's routes serve.
	if err := os.WriteFile(file, []byte("goms routes 1 goms\n{}\nservices: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	third := startFrom(t, h.cfg)
	third.awaitStatus("/api/user/infile", 503)
	if _, err := os.Stat(file + ".bad"); err != nil || !strings.Contains(third.out.String(), "saved routes ignored") || !strings.Contains(third.out.String(), "(moved to "+file+".bad)") {
		t.Errorf("the damaged file: %v; log:\n%s", err, third.out.String())
	}
}
