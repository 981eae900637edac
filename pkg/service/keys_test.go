package service_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/service"
	"github.com/goms-io/goms/pkg/service/servicetest"
)

// keyFiles are the files that one node has its keys in.
type keyFiles struct {
	t            *testing.T
	current, old string
}

func newKeyFiles(t *testing.T, current, old string) keyFiles {
	dir := t.TempDir()
	f := keyFiles{t, filepath.Join(dir, "current"), filepath.Join(dir, "old")}
	f.write(current, old)
	return f
}

func (f keyFiles) write(current, old string) {
	f.t.Helper()
	for path, text := range map[string]string{f.current: current, f.old: old} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

// TestKeysAreReplaced under load, without a restart and without a call that is refused: both keys are made valid
// everywhere, then the new one is sent, then the old one ends. Within a step either node may be first.
func TestKeysAreReplaced(t *testing.T) {
	first, second := strings.Repeat("1", 32), strings.Repeat("2", 32)
	reg := registry.NewMemory()
	var files [2]keyFiles
	var logs [2]*lines
	var nodes [2]*servicetest.Node
	for i, name := range []string{"order", "user"} {
		files[i], logs[i] = newKeyFiles(t, first, first), &lines{}
		nodes[i] = servicetest.Start(t, name, func(s *service.Service) error {
			s.GET("/login", func(c *gin.Context) { service.Success(c, nil) })
			return nil
		}, servicetest.Options{Registry: reg, Log: logs[i].logger(), Config: quick(func(c *service.Config) {
			services(c)
			c.CallServiceKey = ""
			c.CallServiceKeyFile, c.CallServiceKeyOldFile = files[i].current, files[i].old
		})})
	}
	order, user := nodes[0], nodes[1]
	order.Await(t, "user", 1)
	conn := order.Service.Dial("user")
	var calls atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	end := sync.OnceFunc(func() {
		close(stop)
		wg.Wait()
	})
	defer end()
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond): // so that the load is bounded
			}
			if _, err := order.Service.Call(t.Context(), "user", "login", nil); err != nil {
				t.Errorf("Call() = %v", err)
				return
			}
			if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
				t.Errorf("Check() = %v", err)
				return
			}
			calls.Add(1)
		}
	})
	taken := [2]int{}
	step := func(which int, current, old string) {
		t.Helper()
		files[which].write(current, old)
		taken[which]++
		poll(t, "the node takes the keys", func() bool {
			return strings.Count(logs[which].String(), "call-service keys read again") == taken[which]
		})
		before := calls.Load()
		poll(t, "calls go on", func() bool { return t.Failed() || calls.Load() > before+10 })
	}
	step(0, first, second)
	step(1, first, second)
	step(1, second, first)
	step(0, second, first)
	step(0, second, second)
	step(1, second, second)

	status := func(key string) int {
		r, err := http.NewRequestWithContext(t.Context(), "GET", user.URL+"/login", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Call-Service-Key", key)
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := [2]int{status(first), status(second)}; got != [2]int{403, 200} {
		t.Errorf("the keys = %v, want 403 200", got)
	}

	// What cannot be used changes nothing.
	files[1].write("two\nlines", second)
	poll(t, "the complaint", func() bool { return strings.Contains(logs[1].String(), "those before stay") })
	if got := status(second); got != 200 {
		t.Errorf("after a broken file = %d, want 200", got)
	}
	if all := logs[0].String() + logs[1].String(); strings.Contains(all, first) || strings.Contains(all, second) {
		t.Error("a key is in the log")
	}
	end()
	if err := errors.Join(user.Stop(), order.Stop()); err != nil {
		t.Error(err)
	}
}
