package config_test

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/config"
)

func TestLoadEnvironment(t *testing.T) {
	write(t, map[string]string{"c.yml": "projectName: file\netcdAddr: [a:1, b:2]\n"})
	var c Conf
	err := config.Load("c.yml", &c, config.Options{EnvPrefix: "GOMS_", Env: environ(map[string]string{
		"GOMS_PROJECT_NAME":        "${NOT_EXPANDED}",
		"GOMS_CALL_SERVICE_KEY":    "from the environment",
		"GOMS_ETCD_ADDR":           " x:1 | y:2,z:3",
		"GOMS_WAIT":                "3s",
		"GOMS_GATEWAY_ADMIN_PORT":  "9001",
		"GOMS_GATEWAY_DEBUG":       "true",
		"GOMS_GATEWAY_MAX_BODY":    "1KiB",
		"GOMS_GATEWAY_TRUSTED":     "10.0.0.0/8,::1/128",
		"GOMS_GATEWAY_NESTED_WAIT": "4s",
		"GOMS_TLS_CA_FILE":         "ca.pem",
		"GOMS_SERVICES":            "ignored",
		"GOMS_FREE":                "ignored",
		"GOMS_TAGS":                "",
	})})
	if err != nil {
		t.Fatal(err)
	}
	want := Conf{
		ProjectName:    "${NOT_EXPANDED}",
		CallServiceKey: "from the environment",
		EtcdAddr:       []string{"x:1", "y:2", "z:3"},
		Tags:           []string{},
		Wait:           3 * time.Second,
		Gateway: Gateway{
			AdminPort: 9001, Debug: true, MaxBody: 1024,
			Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")},
			Nested:  &Nested{Wait: 4 * time.Second},
		},
		TLS: config.TLS{CAFile: "ca.pem"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("Load() =\n%+v, want\n%+v", c, want)
	}
}

func TestLoadEnvironmentLeavesPointersNil(t *testing.T) {
	var c Conf
	if err := config.Load("", &c, config.Options{EnvPrefix: "GOMS_", Env: environ(nil)}); err != nil || c.Gateway.Nested != nil {
		t.Errorf("Load() = %v, nested %v, want neither", err, c.Gateway.Nested)
	}
}

func TestLoadEnvironmentComplaints(t *testing.T) {
	f := func(name, value, want string) {
		t.Helper()
		write(t, map[string]string{"c.yml": "gateway:\n  adminPort: 1\n"})
		var c Conf
		err := config.Load("c.yml", &c, config.Options{EnvPrefix: "GOMS_", Env: environ(map[string]string{name: value})})
		if text(err) != want {
			t.Errorf("Load() with %s=%q = %v, want %s", name, value, err, want)
		}
	}
	f("GOMS_GATEWAY_ADMIN_PORT", "x", `environment: GOMS_GATEWAY_ADMIN_PORT: must be a whole number, not "x"`)
	f("GOMS_GATEWAY_ADMIN_PORT", "", `environment: GOMS_GATEWAY_ADMIN_PORT: must be a whole number, not ""`)
	f("GOMS_GATEWAY_TRUSTED", "::/0|x", `environment: GOMS_GATEWAY_TRUSTED: netip.ParsePrefix("x"): no '/'`)
	f("GOMS_WAIT", "5", `environment: GOMS_WAIT: needs a unit, like "10s", not "5"`)
	f("GOMS_TLS_CERT_FILE", "c.pem", `environment: GOMS_TLS_CERT_FILE: needs keyFile too`)
}

func TestVariableNames(t *testing.T) {
	type conf struct {
		A int `yaml:"requestID"`
		B int `yaml:"b3Mode"`
		C int `yaml:"http_port"`
		D int `yaml:"rpc-port"`
		E int `yaml:"useTLSFile"`
		F int `yaml:"x"`
	}
	var c conf
	asked := map[string]bool{}
	err := config.Load("", &c, config.Options{EnvPrefix: "P_", Env: func(name string) (string, bool) {
		asked[name] = true
		return "1", true
	}})
	if err != nil || c != (conf{1, 1, 1, 1, 1, 1}) {
		t.Errorf("Load() = %v, %+v, want all of them 1", err, c)
	}
	want := map[string]bool{"P_REQUEST_ID": true, "P_B3_MODE": true, "P_HTTP_PORT": true, "P_RPC_PORT": true, "P_USE_TLS_FILE": true, "P_X": true}
	if !reflect.DeepEqual(asked, want) {
		t.Errorf("variables asked for = %v, want %v", asked, want)
	}
}

func TestLoadReadsTheProcessEnvironment(t *testing.T) {
	t.Setenv("GOMS_CONFIG_TEST_NAME", "real")
	write(t, map[string]string{"c.yml": "projectName: ${GOMS_CONFIG_TEST_NAME}"})
	var c Conf
	if err := config.Load("c.yml", &c, config.Options{}); err != nil || c.ProjectName != "real" {
		t.Errorf("Load() = %v, %q, want the variable's value", err, c.ProjectName)
	}
}

// recursive holds itself, as a tree of policies may.
type recursive struct {
	Name string
	Next *recursive
}

func TestLoadRecursiveType(t *testing.T) {
	write(t, map[string]string{"c.yml": "name: a\nnext: {name: b, next: {name: c}}\n"})
	var c recursive
	err := config.Load("c.yml", &c, config.Options{EnvPrefix: "P_", Env: environ(map[string]string{"P_NAME": "z", "P_NEXT_NAME": "y"})})
	if err != nil || c.Name != "z" || c.Next.Name != "b" || c.Next.Next.Name != "c" {
		t.Errorf("Load() = %v, %+v, want the file's tree and the outer name from the environment", err, c)
	}
}
