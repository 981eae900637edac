//go:build linux

package faults_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/certs/certstest"
	"github.com/goms-io/goms/test/process"
)

// TestF18AccessRevoked takes from gateways and nodes what etcd lets them in by, or they etcd, and gives it back.
func TestF18AccessRevoked(t *testing.T) {
	r := begin(t)
	r.part("role", revokeRole)
	r.part("certificate", expireCertificate)
}

// revokeRole takes the right to the keys from gateways and nodes, and gives it back.
func revokeRole(r *row) {
	etcd := process.StartEtcd(r, process.PinnedEtcd(r), 1)
	ctl := process.Need(r, "etcdctl (ETCD_BIN_DIR)", process.PinnedPath("etcdctl"), filepath.Join(process.RepoRoot(), ".ci/tools/bin/etcdctl"))
	root := []string{"--endpoints", etcd.Addrs[0]}
	run := func(args ...string) {
		r.Helper()
		out, err := exec.Command(ctl, append(append([]string{}, root...), args...)...).CombinedOutput()
		if err != nil {
			r.Fatalf("etcdctl %q: %v\n%s", args, err, out)
		}
	}
	run("user", "add", "root:root-password")
	run("user", "grant-role", "root", "root")
	run("role", "add", "goms")
	run("role", "grant-permission", "goms", "readwrite", "goms", "--prefix=true")
	run("user", "add", "goms:goms-password")
	run("user", "grant-role", "goms", "goms")
	run("auth", "enable")
	root = append(root, "--user", "root:root-password")
	password := filepath.Join(r.TempDir(), "password")
	process.WriteFile(r, password, "goms-password")
	s := open(r, props{etcd: etcd, config: fmt.Sprintf("etcd:\n  ttl: 5s\n  username: goms\n  passwordFile: %s\n", password)})
	l := s.load()
	wait(r, 2*time.Second)
	printed := s.printed()
	run("user", "revoke-role", "goms", "goms")
	span := lasting(2*time.Minute, 20*time.Second)
	wait(r, span)
	during := s.printed() - printed
	run("user", "grant-role", "goms", "goms")
	began := time.Now()
	process.Eventually(r, 60*time.Second, "all nodes are registered", func() error {
		out, err := exec.Command(ctl, append(append([]string{}, root...), "get", "--prefix", "goms_count_", "--keys-only")...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if n := strings.Count(string(out), "goms_count_"); n != 3 {
			return fmt.Errorf("%d keys", n)
		}
		return nil
	})
	back := time.Since(began)
	s.seen("count", 3)
	wait(r, 2*time.Second)
	r.account(l.Stop(), losses{}, s.witnesses()...)
	told := 0
	for _, g := range s.gateways {
		told += strings.Count(g.Output(), "permission denied")
		r.must(!strings.Contains(g.Output(), "goms-password"), "%s printed the password", g.Name)
	}
	for _, n := range s.nodes {
		told += strings.Count(n.Output(), "permission denied")
	}
	perSecond := float64(during) / span.Seconds() / float64(len(s.gateways))
	r.set("leaves", s.lines("leave"))
	r.set("registered_after_ms", back)
	r.set("told", told)
	r.set("log_lines_per_s", perSecond)
	r.must(s.lines("leave") == 0, "%d leaves were printed", s.lines("leave"))
	r.must(told > 0, "nobody says that the right was taken")
	r.must(perSecond <= 2, "a gateway printed %.1f lines a second", perSecond)
}

// expireCertificate has the certificates of etcd and of all who ask it expire while they are connected, and puts good ones in their places
// after a time, one after the other. All read the files at each handshake, so that nobody notices before connections have to be made anew.
func expireCertificate(r *row) {
	ttl := 5 * time.Second
	a, dir := certstest.New(r), r.TempDir()
	authority, server, client := filepath.Join(dir, "authority.pem"), filepath.Join(dir, "etcd.pem"), filepath.Join(dir, "goms.pem")
	show := func(file string, serial int64, valid time.Duration) (pair tls.Certificate) {
		p := a.Sign(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(valid)})
		swap(r, file, string(p.Cert)+string(p.Key))
		return p.TLS(r)
	}
	process.WriteFile(r, authority, string(a.PEM))
	show(server, 1, time.Hour)
	secure := &tls.Config{RootCAs: a.Pool(), Certificates: []tls.Certificate{show(client, 2, time.Hour)}}
	etcd := process.StartEtcdTLS(r, secure, process.PinnedEtcd(r), "--cert-file", server, "--key-file", server, "--trusted-ca-file", authority, "--client-cert-auth")
	front := relayTo(r, etcd.Addrs[0])
	s := open(r, props{etcd: etcd, registry: []string{front.addr}, config: fmt.Sprintf(
		"etcd:\n  ttl: %s\n  tls: {caFile: %s, certFile: %s, keyFile: %s}\n", ttl, authority, client, client)})
	l := s.load()

	valid := lasting(12*time.Second, 10*time.Second)
	shown := time.Now()
	show(server, 3, valid)
	show(client, 4, valid)
	s.restartEtcd()
	etcd.Ready()
	s.connected()
	wait(r, time.Until(shown.Add(valid+time.Second)))
	s.connected() // what was made before it expired lives on
	s.restartEtcd()
	wait(r, 3*time.Second) // the first tries are soon after one another
	taken, printed := front.taken.Load(), s.printed()
	span := lasting(35*time.Second, 12*time.Second)
	wait(r, span)
	all := float64(len(s.gateways) + len(s.nodes))
	tries, lines := float64(front.taken.Load()-taken)/span.Seconds()/all, s.printed()-printed
	leaves := s.lines("leave")

	show(server, 5, time.Hour)
	wait(r, 3*time.Second) // now it is etcd that lets nobody in
	for _, g := range s.gateways {
		up, ok := g.metric("goms_registry_connected")
		r.must(ok && up == 0, "%s has etcd though its own certificate has expired", g.Name)
	}
	show(client, 6, time.Hour)
	began := time.Now()
	s.registered(s.client())
	s.connected()
	back := time.Since(began)
	wait(r, 2*ttl+time.Second) // deletes are held for so long
	s.seen("count", len(s.nodes))
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("leaves_during", leaves)
	r.set("leaves_after", s.lines("leave")-leaves)
	r.set("connects_per_s", tries)
	r.set("lines_printed", lines)
	r.set("registered_after_ms", back)
	r.must(s.lines("leave") == 0, "%d leaves were printed", s.lines("leave"))
	r.must(tries > 0.2 && tries <= 1.5, "each tried %.1f times a second", tries)
	r.must(lines <= len(s.gateways)*int(span.Seconds()), "the gateways printed %d lines in %v", lines, span)
	told := regexp.MustCompile(`WARN.* registry unavailable .*untrusted.*` + regexp.QuoteMeta(front.addr) + `.*certificate has expired`)
	silent := 0
	for _, p := range s.processes() {
		if len(p.Lines(told)) == 0 {
			silent++
			r.must(false, "%s does not say what is wrong:\n%s", p.Name, process.Tail(p.Output(), 20))
		}
		for _, file := range []string{server, client} {
			r.must(!holdsKey(r, p.Output(), file), "%s printed the key in %s", p.Name, filepath.Base(file))
		}
	}
	r.set("did_not_tell", silent)
}

// restartEtcd has the one member of etcd end at once and begin anew. It waits for nothing.
func (s *scene) restartEtcd() {
	s.etcd.Members[0].Kill()
	s.etcd.Restart(0)
}

// connected waits until all gateways have etcd.
func (s *scene) connected() {
	s.t.Helper()
	for _, g := range s.gateways {
		process.Eventually(s.t, 20*time.Second, g.Name+" has etcd", func() error {
			if up, _ := g.metric("goms_registry_connected"); up != 1 {
				return fmt.Errorf("it has not:\n%s", process.Tail(g.Output(), 5))
			}
			return nil
		})
	}
}

// processes are all gateways and nodes.
func (s *scene) processes() []*process.Process {
	var all []*process.Process
	for _, g := range s.gateways {
		all = append(all, g.Process)
	}
	for _, n := range s.nodes {
		all = append(all, n.Process)
	}
	return all
}

// holdsKey returns whether a text holds a line of the private key in a file.
func holdsKey(r *row, text, file string) bool {
	r.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		r.Fatalf("read a key: %v", err)
	}
	_, key, found := strings.Cut(string(content), "-----BEGIN PRIVATE KEY-----\n")
	if !found {
		r.Fatalf("%s holds no key", file)
	}
	line, _, _ := strings.Cut(key, "\n")
	return strings.Contains(text, line) || strings.Contains(text, "PRIVATE KEY")
}
