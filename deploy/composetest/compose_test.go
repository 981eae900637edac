// Package composetest loads deploy/docker-compose.yml the way docker compose does and holds it to what it promises. It is a
// module of its own, so that the loader is no dependency of goms. That images exist and start is not checked here.
package composetest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const key = "a-key-of-this-test-and-of-nothing-else"

func load(t *testing.T, env ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../docker-compose.yml"}, cli.WithEnv(env))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

func project(t *testing.T) *types.Project {
	t.Helper()
	p, err := load(t, "GOMS_CALL_SERVICE_KEY="+key)
	if err != nil {
		t.Fatalf("load deploy/docker-compose.yml: %v", err)
	}
	return p
}

func TestTheKeyIsRequired(t *testing.T) {
	for _, env := range [][]string{nil, {"GOMS_CALL_SERVICE_KEY="}} {
		if _, err := load(t, env...); err == nil || !strings.Contains(err.Error(), "GOMS_CALL_SERVICE_KEY") {
			t.Errorf("load with environment %q: %v, want a complaint about GOMS_CALL_SERVICE_KEY", env, err)
		}
	}
}

func TestServices(t *testing.T) {
	want := []string{"etcd", "gateway1", "gateway2", "gateway3", "nginx", "order1", "user1", "user2", "user3", "zipkin"}
	got := project(t).ServiceNames()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("services = %q, want %q", got, want)
	}
}

func TestEveryServiceIsHardened(t *testing.T) {
	for name, s := range project(t).Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s: read_only %v, cap_drop %q, security_opt %q", name, s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
		if s.HealthCheck == nil || len(s.HealthCheck.Test) < 2 || s.HealthCheck.Test[0] != "CMD" {
			t.Errorf("%s: health check %+v, want one in exec form", name, s.HealthCheck)
		}
		if _, tag, ok := strings.Cut(s.Image, ":"); !ok || tag == "latest" {
			t.Errorf("%s: image %q, want a version", name, s.Image)
		}
	}
}

func TestOnlyNginxIsPublished(t *testing.T) {
	p := project(t)
	for name, s := range p.Services {
		for network := range s.Networks {
			if name != "nginx" && !p.Networks[network].Internal {
				t.Errorf("%s is on %q, which reaches the outside", name, network)
			}
		}
		if name == "nginx" {
			if len(s.Ports) != 1 || s.Ports[0].HostIP != "127.0.0.1" || s.Ports[0].Target != 8000 {
				t.Errorf("nginx publishes %+v, want port 8000 on 127.0.0.1", s.Ports)
			}
		} else if len(s.Ports) != 0 {
			t.Errorf("%s publishes %+v", name, s.Ports)
		}
	}
}

func TestGatewaysAndNodes(t *testing.T) {
	for name, s := range project(t).Services {
		var target, port, service string
		switch {
		case strings.HasPrefix(name, "gateway"):
			target, port = "gateway", "8080"
		case strings.HasPrefix(name, "user"):
			target, port, service = "service", "9080", "user"
		case strings.HasPrefix(name, "order"):
			target, port, service = "service", "9080", "order"
		default:
			continue
		}
		env := func(key string) string {
			if v := s.Environment[key]; v != nil {
				return *v
			}
			return ""
		}
		if got := env("GOMS_CALL_SERVICE_KEY"); got != key {
			t.Errorf("%s: GOMS_CALL_SERVICE_KEY = %q", name, got)
		}
		if got := env("GOMS_ETCD_ADDR"); got != "etcd:2379" {
			t.Errorf("%s: GOMS_ETCD_ADDR = %q", name, got)
		}
		if i := slices.Index(s.Command, "-name"); service != "" && (i < 0 || s.Command[i+1] != service) {
			t.Errorf("%s: command %q, want -name %s", name, s.Command, service)
		}
		if s.Build == nil || s.Build.Target != target {
			t.Errorf("%s: build %+v, want target %q", name, s.Build, target)
		}
		if got, want := []string(s.HealthCheck.Test), []string{"CMD", target, "healthcheck", "-http_port", port}; !slices.Equal(got, want) {
			t.Errorf("%s: health check %q, want %q", name, got, want)
		}
		if i := slices.Index(s.Command, "-http_port"); i < 0 || s.Command[i+1] != port {
			t.Errorf("%s: command %q, want -http_port %s", name, s.Command, port)
		}
		if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) != 40*time.Second {
			t.Errorf("%s: stop_grace_period %v, want 40s", name, s.StopGracePeriod)
		}
		if s.DependsOn["etcd"].Condition != types.ServiceConditionHealthy {
			t.Errorf("%s: depends_on %+v, want a healthy etcd", name, s.DependsOn)
		}
	}
}

// The gateways believe what nginx says about the client, and nobody else.
func TestGatewaysTrustNginx(t *testing.T) {
	p := project(t)
	ipam := p.Networks["edge"].Ipam.Config
	got := p.Services["gateway1"].Environment["GOMS_GATEWAY_TRUSTED_PROXIES"]
	if len(ipam) != 1 || got == nil || *got != ipam[0].Subnet {
		t.Errorf("GOMS_GATEWAY_TRUSTED_PROXIES = %v, want the subnet of edge: %+v", got, ipam)
	}
	for name, s := range p.Services {
		if _, ok := s.Networks["edge"]; ok && name != "nginx" && !strings.HasPrefix(name, "gateway") {
			t.Errorf("%s is on edge", name)
		}
	}
}

// nginx gets deploy/nginx.conf with the loopback addresses replaced; each must become a gateway of this file.
func TestNginxKnowsTheGateways(t *testing.T) {
	conf, err := os.ReadFile("../nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	p := project(t)
	script := strings.Join(p.Services["nginx"].Command, " ")
	text := string(conf)
	for _, m := range regexp.MustCompile(`s/([^/]+)/([^/]+)/`).FindAllStringSubmatch(script, -1) {
		if !strings.Contains(text, m[1]) {
			t.Errorf("deploy/nginx.conf does not hold %s", m[1])
		}
		text = strings.ReplaceAll(text, m[1], m[2])
	}
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^\s*server ([^ :]+):(\d+) `).FindAllStringSubmatch(text, -1) {
		if _, ok := p.Services["nginx"].DependsOn[m[1]]; !ok || m[2] != "8080" {
			t.Errorf("upstream %s:%s is no gateway that nginx waits for", m[1], m[2])
		}
		got = append(got, m[1])
	}
	if want := []string{"gateway1", "gateway2", "gateway3"}; !slices.Equal(got, want) {
		t.Errorf("upstream = %q, want %q", got, want)
	}
}

// The targets that compose builds must be stages of the Dockerfile with an entry point in exec form.
func TestDockerfileTargets(t *testing.T) {
	dockerfile, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"gateway", "service"} {
		_, stage, ok := strings.Cut(string(dockerfile), " AS "+target+"\n")
		if !ok {
			t.Errorf("Dockerfile has no stage %q", target)
			continue
		}
		stage, _, _ = strings.Cut(stage, "\nFROM ")
		if want := `ENTRYPOINT ["` + target + `"]`; !strings.Contains(stage, want) {
			t.Errorf("stage %q lacks %s", target, want)
		}
	}
}
