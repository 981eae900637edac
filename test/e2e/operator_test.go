package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// TestOperatorPort looks at what is for operators only.
func TestOperatorPort(t *testing.T) {
	s := newSystem(t, setup{})
	gw := s.gateway()
	s.userNode()
	gw.sees("user", 1)
	for range 3 {
		do(t, "GET", gw.url("/api/user/login"), "", nil)
	}
	do(t, "GET", gw.url("/api/nobody/home"), "", nil)
	admin := fmt.Sprintf("127.0.0.1:%d", gw.admin)
	body, err := get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	process.CheckCanary(t, "/metrics", body)
	for _, want := range []string{`(?m)^# TYPE goms_\w+ counter`, `(?m)^goms_\w+\{[^}]*service="user"[^}]*\} [1-9]`, `reason="no_node"`, `(?m)^go_goroutines `, `(?m)^process_resident_memory_bytes `} {
		if !regexp.MustCompile(want).MatchString(body) {
			t.Errorf("/metrics has nothing like %q", want)
		}
	}
	for _, path := range []string{"/cluster", "/livez", "/readyz"} {
		if _, err := get("http://" + admin + path); err != nil {
			t.Errorf("%s on the operator port: %v", path, err)
		}
	}
	// Operators only: not on the traffic port, not from another address.
	for _, path := range []string{"/metrics", "/debug/pprof/"} {
		if a := do(t, "GET", gw.url(path), "", nil); a.status != 404 {
			t.Errorf("%s on the traffic port = %d, want 404", path, a.status)
		}
	}
	for _, host := range otherAddresses(t) {
		if conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, fmt.Sprint(gw.admin)), time.Second); err == nil {
			conn.Close()
			t.Errorf("the operator port is open on %s", host)
		}
	}
	if a := do(t, "GET", "http://"+admin+"/metrics", "", http.Header{"Host": {"evil.test"}}); a.status == 200 {
		t.Errorf("the operator port answers for a foreign host name: DNS rebinding")
	}
	// Random paths make no series.
	series := strings.Count(body, "\n")
	for i := range 200 {
		do(t, "GET", gw.url(fmt.Sprintf("/api/user/x%d", i)), "", nil)
		do(t, "GET", gw.url(fmt.Sprintf("/api/x%d/login", i)), "", nil)
	}
	if body, err = get("http://" + admin + "/metrics"); err != nil || strings.Count(body, "\n") > series+20 {
		t.Errorf("/metrics grew from %d to %d lines by random paths (%v)", series, strings.Count(body, "\n"), err)
	}
}

// otherAddresses are this machine's addresses that are not loopback.
func otherAddresses(t *testing.T) []string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for _, a := range all {
		if ip := a.(*net.IPNet).IP; !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			hosts = append(hosts, ip.String())
		}
	}
	return hosts
}
