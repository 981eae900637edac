package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/route"
	"github.com/goms-io/goms/pkg/service"
)

// uncommented is a file of the examples with every key that is commented out.
func uncommented(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../configs", name))
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`^(\s*)# (\s*(?:- )?[a-zA-Z0-9]+:(?: .*)?|\s*- .*)$`)
	var lines []string
	for line := range strings.Lines(string(text)) {
		if m := key.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			line = m[1] + m[2] + "\n"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

// shownKeys adds the paths of all keys below v to into; * stands for a name that is the users' to give.
func shownKeys(path string, v any, into map[string]bool) {
	into[path] = true
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			if path == "gateway.policies" || path == "services" || path == "services.*" {
				key = "*"
			}
			shownKeys(path+"."+key, below, into)
		}
	case []any:
		for _, below := range v {
			shownKeys(path, below, into)
		}
	}
}

// knownKeys adds the paths of all keys that a type can be read from to into.
func knownKeys(path string, typ reflect.Type, into map[string]bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	switch {
	case typ.Kind() == reflect.Map:
		knownKeys(path+".*", typ.Elem(), into)
		return
	case typ.Kind() != reflect.Struct || typ.PkgPath() == "net/netip":
		into[path] = true
		return
	}
	for i := range typ.NumField() {
		name, more, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
		switch {
		case more == "inline":
			knownKeys(path, typ.Field(i).Type, into)
		case name != "":
			knownKeys(path+"."+name, typ.Field(i).Type, into)
		}
	}
}

// TestEveryKeyIsShown: the examples in configs show every key of the sections that gateways and services read, and no other.
func TestEveryKeyIsShown(t *testing.T) {
	text := ""
	for _, name := range []string{"gateway.yml", "service.yml", "services.yml"} {
		text += uncommented(t, name)
	}
	var sections struct {
		Services any `yaml:"services" open:"true"`
		Gateway  any `yaml:"gateway" open:"true"`
		Service  any `yaml:"service" open:"true"`
	}
	if err := config.Load(write(t, "c.yml", text), &sections, config.Options{}); err != nil {
		t.Fatalf("configs without its comment signs: %v\n%s", err, text)
	}
	shown, known := map[string]bool{}, map[string]bool{}
	shownKeys("services", sections.Services, shown)
	shownKeys("gateway", sections.Gateway, shown)
	shownKeys("service", sections.Service, shown)
	knownKeys("services", reflect.TypeFor[route.Services](), known)
	knownKeys("gateway", reflect.TypeFor[Gateway](), known)
	knownKeys("service", reflect.TypeFor[service.NodeConfig](), known)
	if len(known) < 100 {
		t.Fatalf("only %d keys are known", len(known))
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if !shown[key] {
			t.Errorf("configs does not show %s", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(shown)) {
		leads := func(k string) bool { return k == key || strings.HasPrefix(k, key+".") }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(known)), leads) {
			t.Errorf("configs shows %s, which nothing reads", key)
		}
	}
}

// TestSharedAndServiceDefaults: what config.yml and service.yml show commented out is the default, but for what has none.
func TestSharedAndServiceDefaults(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	examples := regexp.MustCompile(`(?m)^\s*(callServiceKeyFile|callServiceKeyOldFile|zipkinAddr|redisAddr|esAddr|amqpAddr|certFile|keyFile):.*$|^etcdAddr:\n.*$`)
	text := uncommented(t, "config.yml") + uncommented(t, "service.yml")
	got := service.DefaultConfig()
	want := got
	scramble(reflect.ValueOf(&got).Elem())            // so that a key that is not shown is
	got.Etcd.Password, got.CallServiceKeyOld = "", "" // better not written into a file
	got.EtcdAddr, got.ZipkinAddr, got.RedisAddr, got.EsAddr, got.AmqpAddr = want.EtcdAddr, "", "", "", ""
	got.CallServiceKeyFile, got.CallServiceKeyOldFile, got.Service.TLS.CertFile, got.Service.TLS.KeyFile = "", "", "", ""
	got.NodeTLS.CertFile, got.NodeTLS.KeyFile, got.Etcd.TLS.CertFile, got.Etcd.TLS.KeyFile = "", "", "", ""
	got.Services, got.Gateway = nil, nil
	want.CallServiceKey = key
	err := config.Load(write(t, "c.yml", examples.ReplaceAllString(text, "")), &got, config.Options{EnvPrefix: project.EnvPrefix})
	if err != nil {
		t.Fatal(err)
	}
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("config.yml and service.yml show\n%s\nwant the defaults\n%s", g, w)
	}
}

// scramble gives every number, text and switch below v a value that is no default.
func scramble(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				scramble(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString("scrambled")
	case reflect.Int, reflect.Int64:
		v.SetInt(4711)
	case reflect.Float64:
		v.SetFloat(0.4711)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	}
}
