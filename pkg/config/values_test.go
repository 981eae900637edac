package config_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goms-io/goms/pkg/config"
)

func TestBytes(t *testing.T) {
	f := func(s string, want config.Bytes, text string) {
		t.Helper()
		var b config.Bytes
		if err := b.UnmarshalText([]byte(s)); err != nil || b != want || b.String() != text {
			t.Errorf("UnmarshalText(%q) = %v, %d %s, want %d %s", s, err, int64(b), b, int64(want), text)
		}
		var again config.Bytes
		out, err := b.MarshalText()
		if err != nil || again.UnmarshalText(out) != nil || again != b {
			t.Errorf("MarshalText(%d) = %s, %v, want it to read back", int64(b), out, err)
		}
	}
	f("0", 0, "0")
	f("512", 512, "512")
	f("512B", 512, "512")
	f("64KiB", 64<<10, "64KiB")
	f("10 MiB", 10<<20, "10MiB")
	f(" 3GiB ", 3<<30, "3GiB")
	f("1TiB", 1<<40, "1TiB")
	f("1536MiB", 1536<<20, "1536MiB")
	f("1kB", 1000, "1000")
	f("1KB", 1000, "1000")
	f("2MB", 2e6, "2000000")
	f("1024GB", 1024e9, "1000000000KiB")
	f("1TB", 1e12, "976562500KiB")
	f("9223372036854775807", 1<<63-1, "9223372036854775807")

	bad := func(s, want string) {
		t.Helper()
		b := config.Bytes(1)
		if err := b.UnmarshalText([]byte(s)); text(err) != want || b != 1 {
			t.Errorf("UnmarshalText(%q) = %v, %d, want %s", s, err, b, want)
		}
	}
	for _, s := range []string{"", "B", "MiB", "-1", "+1", "1.5MiB", "10m", "10 mib", "0x10", "1e3", "010", "1KiBMiB"} {
		bad(s, `must be a size like "10MiB", "64KiB" or 512, not "`+s+`"`)
	}
	bad("9223372036854775808", `size "9223372036854775808" is too large`)
	bad("8388608TiB", `size "8388608TiB" is too large`)
}

func TestSplitAddrs(t *testing.T) {
	f := func(s string, want ...string) {
		t.Helper()
		if got := config.SplitAddrs(s); !reflect.DeepEqual(got, want) {
			t.Errorf("SplitAddrs(%q) = %q, want %q", s, got, want)
		}
	}
	f("")
	f(" , |")
	f("a:1", "a:1")
	f("a:1|b:2,c:3", "a:1", "b:2", "c:3")
	f(" a:1 |, b:2 ,", "a:1", "b:2")
	f("[::1]:1|http://x:2/a", "[::1]:1", "http://x:2/a")
}

func TestSuggest(t *testing.T) {
	known := []string{"projectName", "callServiceKey", "etcdAddr", "services", "path", "etcd", "http_port", "rpc_port", "ttl", "id"}
	f := func(word, want string) {
		t.Helper()
		if got := config.Suggest(word, known); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", word, got, want)
		}
	}
	f("pth", "path")
	f("servcies", "services")
	f("SERVICES", "services")
	f("project_name", "projectName")
	f("project-nam", "projectName")
	f("callServicesKey", "callServiceKey")
	f("etcdAdr", "etcdAddr")
	f("http-prot", "http_port")
	f("port", "")
	f("zzz", "")
	f("x", "")
	f("", "")
	f("-", "")
	f("服务", "")
	f(strings.Repeat("path", 1000), "")
	if got := config.Suggest("ab", []string{"ac", "aa", ""}); got != "aa" {
		t.Errorf("Suggest() of equals = %q, want the first of the alphabet", got)
	}
}

func TestSecret(t *testing.T) {
	write(t, map[string]string{"key": "\n  hunter2 hunter2 \r\n", "empty": " \n", "big": strings.Repeat("x", 64<<10+1)})
	f := func(value, file, want, problem string) {
		t.Helper()
		if got, err := config.Secret(value, file, "callServiceKey"); got != want || text(err) != problem {
			t.Errorf("Secret(%q, %q) = %q, %v, want %q, %s", value, file, got, err, want, problem)
		}
	}
	f("", "", "", "")
	f(" as it is ", "", " as it is ", "")
	f("", "key", "hunter2 hunter2", "")
	f("a", "key", "", "callServiceKey and callServiceKeyFile are both set: keep one")
	f("", "none", "", `read callServiceKeyFile "none": no such file or directory`)
	f("", "empty", "", `read callServiceKeyFile "empty": file is empty`)
	f("", "big", "", `read callServiceKeyFile "big": is larger than 64KiB`)
	f("", ".", "", `read callServiceKeyFile ".": is a directory`)
	if _, err := config.Secret("", "none", "x"); !os.IsNotExist(unwrap(err)) {
		t.Errorf("Secret() = %v, want the cause kept", err)
	}
}

func unwrap(err error) error { return err.(interface{ Unwrap() error }).Unwrap() }

func TestTLS(t *testing.T) {
	write(t, map[string]string{"bad.pem": "not a certificate"})
	writePair(t)
	f := func(c config.TLS, want string) *tls.Config {
		t.Helper()
		cfg, err := c.ClientConfig(nil)
		if text(err) != want || (err != nil && cfg != nil) {
			t.Errorf("%+v.ClientConfig() = %v, want %s", c, err, want)
		}
		return cfg
	}
	if cfg := f(config.TLS{}, ""); cfg != nil || (config.TLS{}).Enabled() {
		t.Errorf("ClientConfig() of nothing = %v, want nil", cfg)
	}
	c := config.TLS{CAFile: "cert.pem", CertFile: "cert.pem", KeyFile: "key.pem", ServerName: "etcd"}
	cfg := f(c, "")
	if !c.Enabled() || cfg.RootCAs == nil || len(cfg.Certificates) != 1 || cfg.ServerName != "etcd" || cfg.MinVersion != tls.VersionTLS12 {
		t.Errorf("ClientConfig() = %+v, want all of it", cfg)
	}
	if cfg := f(config.TLS{ServerName: "x"}, ""); cfg == nil || cfg.RootCAs != nil {
		t.Errorf("ClientConfig() = %+v, want the system's authorities", cfg)
	}
	f(config.TLS{CertFile: "cert.pem"}, "certFile: needs keyFile too")
	f(config.TLS{KeyFile: "key.pem"}, "keyFile: needs certFile too")
	f(config.TLS{CAFile: "none"}, `read caFile "none": no such file or directory`)
	f(config.TLS{CAFile: "bad.pem"}, `read caFile "bad.pem": no PEM certificate in it`)
	f(config.TLS{CertFile: "none", KeyFile: "key.pem"}, `load certFile "none" and keyFile "key.pem": open none: no such file or directory`)
}

// TestClientCertificateIsRenewed replaces the certificate that a client shows, and breaks it for a while.
func TestClientCertificateIsRenewed(t *testing.T) {
	write(t, nil)
	synctest.Test(t, func(t *testing.T) {
		writePair(t)
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		cfg, err := config.TLS{CertFile: "cert.pem", KeyFile: "key.pem"}.ClientConfig(log)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.GetClientCertificate == nil {
			t.Fatal("the certificate is not read again")
		}
		shown := func(by ...tls.SignatureScheme) []byte {
			t.Helper()
			pair, err := cfg.GetClientCertificate(&tls.CertificateRequestInfo{SignatureSchemes: by, Version: tls.VersionTLS13})
			if err != nil {
				t.Fatal(err)
			}
			return bytes.Join(pair.Certificate, nil)
		}
		// later has three handshakes, in each of which the files are looked at, and returns what they showed and what was told.
		later := func() ([]byte, string) {
			t.Helper()
			out.Reset()
			var last []byte
			for range 3 {
				time.Sleep(time.Second) // of the test's own clock: the files are looked at once a second
				last = shown(tls.ECDSAWithP256AndSHA256)
			}
			return last, out.String()
		}
		f := func(what string, want []byte, told string) {
			t.Helper()
			if got, lines := later(); !bytes.Equal(got, want) || lines != told {
				t.Errorf("%s: the certificate expected %v, told %q, want %q", what, bytes.Equal(got, want), lines, told)
			}
		}
		first := cfg.Certificates[0].Certificate[0]
		f("nothing has changed", first, "")
		if got := shown(tls.Ed25519); len(got) != 0 {
			t.Error("a certificate is shown to a server that cannot take it")
		}
		good := map[string][]byte{"cert.pem": read(t, "cert.pem"), "key.pem": read(t, "key.pem")}
		broken := `level=ERROR msg="changed client certificate cannot be used, the one before stays" err="load certFile \"cert.pem\" and keyFile \"key.pem\": `
		replace(t, "cert.pem", []byte("half of a"))
		f("half a file", first, broken+`tls: failed to find any PEM data in certificate input"`+"\n")
		f("still", first, "")
		replace(t, "cert.pem", good["cert.pem"])
		f("put back", first, `level=INFO msg="client certificate can be used again" file=cert.pem`+"\n")
		if err := os.Remove("key.pem"); err != nil {
			t.Fatal(err)
		}
		f("no key", first, broken+`open key.pem: no such file or directory"`+"\n")
		writePair(t)
		got, told := later()
		if len(got) == 0 || bytes.Equal(got, first) || told != `level=INFO msg="client certificate reloaded" file=cert.pem`+"\n" {
			t.Errorf("renewed: the one before %v, told %q", bytes.Equal(got, first), told)
		}
		replace(t, "key.pem", good["key.pem"])
		now := time.Now()
		if err := os.Chtimes("key.pem", now, now); err != nil { // as if it had been written on the test's own clock
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if out.Reset(); !bytes.Equal(shown(tls.ECDSAWithP256AndSHA256), got) || out.Len() > 0 {
			t.Errorf("told of half a renewal that is under way: %s", out.String())
		}
		f("half a renewal that is over", got, broken+`tls: private key does not match public key"`+"\n")
	})
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func replace(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// writePair makes cert.pem and key.pem.
func writePair(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
