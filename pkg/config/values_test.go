package config_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
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
		cfg, err := c.ClientConfig()
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

// TestClientCertificateIsRenewed replaces the certificate that a client shows.
func TestClientCertificateIsRenewed(t *testing.T) {
	write(t, nil)
	synctest.Test(t, func(t *testing.T) {
		writePair(t)
		cfg, err := config.TLS{CertFile: "cert.pem", KeyFile: "key.pem"}.ClientConfig()
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
		first := cfg.Certificates[0].Certificate[0]
		if got := shown(tls.ECDSAWithP256AndSHA256); !bytes.Equal(got, first) {
			t.Error("another certificate is shown than that of the file")
		}
		if got := shown(tls.Ed25519); len(got) != 0 {
			t.Error("a certificate is shown to a server that cannot take it")
		}
		time.Sleep(time.Second) // of the test's own clock: the files are looked at once a second
		if err := os.WriteFile("cert.pem", []byte("half of a"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := shown(tls.ECDSAWithP256AndSHA256); !bytes.Equal(got, first) {
			t.Error("the certificate is forgotten while its file is replaced")
		}
		writePair(t)
		time.Sleep(time.Second) // as above
		second := shown(tls.ECDSAWithP256AndSHA256)
		if len(second) == 0 || bytes.Equal(second, first) {
			t.Error("a renewed certificate is not shown")
		}
	})
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
