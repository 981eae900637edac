package certs_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// pebble is a certificate authority on loopback, which verifies hosts as a real one does.
type pebble struct {
	directory string
	caFile    string         // who signed its own certificate
	roots     *x509.CertPool // who signs the certificates it issues
	orders    func() int     // certificates issued so far
}

// pebbleProgram finds Pebble. It is built from .ci/tools/pebble.
func pebbleProgram(t *testing.T) string {
	t.Helper()
	built, err := filepath.Abs("../../.ci/tools/bin/pebble")
	must(t, err)
	if _, err := os.Stat(built); err == nil {
		return built
	}
	if path, err := exec.LookPath("pebble"); err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("pebble is not here: want it at %s or in the PATH", built)
	}
	t.Skipf("pebble is not here: build it with `cd .ci/tools/pebble && go build -o ../bin/pebble github.com/letsencrypt/pebble/v2/cmd/pebble`")
	return ""
}

// startPebble runs it until the test ends. It verifies hosts at the ports given, all of them on loopback.
func startPebble(t *testing.T, tlsPort, httpPort int, life time.Duration) *pebble {
	t.Helper()
	program, dir, a := pebbleProgram(t), t.TempDir(), newAuthority(t)
	own := a.pair(dir, "pebble", "127.0.0.1")
	p := &pebble{caFile: filepath.Join(dir, "ca.pem")}
	write(t, p.caFile, a.pem)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: a.pool()}, DisableKeepAlives: true,
	}}
	get := func(url string) ([]byte, error) {
		res, err := client.Get(url)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		return io.ReadAll(res.Body)
	}
	listen, manage := freeAddr(t), freeAddr(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": manage, "certificate": own.CertFile, "privateKey": own.KeyFile,
		"tlsPort": tlsPort, "httpPort": httpPort, "keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "test", "validityPeriod": int(life / time.Second)}},
	}})
	must(t, err)
	write(t, filepath.Join(dir, "config.json"), config)
	out := &logs{}
	cmd := exec.Command(program, "-config", filepath.Join(dir, "config.json"), "-dnsserver", serveDNS(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0") // 5% of nonces are refused
	cmd.Stdout, cmd.Stderr = out, out
	must(t, cmd.Start())
	gone := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
		if t.Failed() {
			t.Logf("pebble:\n%s", out)
		}
	})
	p.roots, p.directory = x509.NewCertPool(), "https://"+listen+"/dir"
	eventually(t, "pebble answers", func() bool {
		select {
		case <-gone:
			t.Fatalf("pebble ended:\n%s", out)
		default:
		}
		root, err := get("https://" + manage + "/roots/0")
		if err != nil || !p.roots.AppendCertsFromPEM(root) {
			return false
		}
		_, err = get(p.directory)
		return err == nil
	})
	p.orders = func() int { return out.count("Issued certificate serial") }
	return p
}

// freeAddr is an address that nobody listens at.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func port(t *testing.T, addr string) (n int) {
	t.Helper()
	_, s, err := net.SplitHostPort(addr)
	must(t, err)
	_, err = fmt.Sscan(s, &n)
	must(t, err)
	return n
}

// serveDNS answers, by TCP as Pebble asks, that every host is at 127.0.0.1, and returns its address.
func serveDNS(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				size := make([]byte, 2)
				for {
					if _, err := io.ReadFull(c, size); err != nil {
						return
					}
					query := make([]byte, binary.BigEndian.Uint16(size))
					if _, err := io.ReadFull(c, query); err != nil {
						return
					}
					reply := answerDNS(query)
					if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}

func answerDNS(query []byte) []byte {
	end := 12 // of the question
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
	if isA := query[end-4] == 0 && query[end-3] == 1; isA {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return reply
}
