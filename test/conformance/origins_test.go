//go:build linux

package conformance_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// sight is one request as an origin saw it. The origin tells the client its number, and whoever reads its log the rest.
type sight struct {
	Seq     string
	Method  string
	Target  string
	Length  int64  // bytes of the body
	Marker  string // of X-Marker
	Whole   bool   // the body ended as it was framed
	Refused string // the origin's own parser refused it: why
}

// origin is a node of another make than ours.
type origin struct {
	name, addr string
	sights     func(testing.TB) []sight
}

// goOrigin is net/http.
func goOrigin(t testing.TB) *origin {
	t.Helper()
	var mu sync.Mutex
	var seen []sight
	var seq atomic.Int64
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{MaxHeaderBytes: 1 << 18, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		saw := sight{Seq: fmt.Sprintf("go-%d", seq.Add(1)), Method: r.Method, Target: r.RequestURI, Marker: r.Header.Get("X-Marker")}
		n, err := io.Copy(io.Discard, r.Body)
		saw.Length, saw.Whole = n, err == nil
		mu.Lock()
		seen = append(seen, saw)
		mu.Unlock()
		w.Header().Set("X-Saw", saw.Seq+" "+saw.Method)
		w.Header().Set("Content-Length", "3")
		io.WriteString(w, "ok\n")
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ln)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return &origin{"go", ln.Addr().String(), func(testing.TB) []sight {
		mu.Lock()
		defer mu.Unlock()
		return append([]sight(nil), seen...)
	}}
}

// scriptOrigin is one of testdata's, run by an interpreter.
func scriptOrigin(t testing.TB, name, interpreter, script string) *origin {
	t.Helper()
	addr, log := ports.Addr(t), filepath.Join(t.TempDir(), "log")
	_, port, _ := net.SplitHostPort(addr)
	p := process.Start(t, process.Launch{Path: interpreter, Args: []string{filepath.Join(process.RepoRoot(), "test/conformance/testdata", script), port, log}})
	listening(t, p, addr)
	return &origin{name, addr, logged(log)}
}

// nginxOrigin is nginx: one server reads the request whole and gives it a number, another reports what the first made of it.
func nginxOrigin(t testing.TB, nginx string) *origin {
	t.Helper()
	dir := t.TempDir()
	addr, inner := ports.Addr(t), ports.Addr(t)
	process.WriteFile(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events { worker_connections 2048; }
http {
  log_format sight escape=json '{"seq":"$http_x_seq","method":"$request_method","target":"$request_uri","length":0$http_content_length,"marker":"$http_x_marker","whole":true}';
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_max_body_size 0;
  large_client_header_buffers 8 64k;
  keepalive_requests 1000000;
  keepalive_timeout 600s;
  server {
    listen %s backlog=1024;
    location / {
      proxy_pass http://%s;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Seq nginx-$request_id;
    }
  }
  server {
    listen %s backlog=1024;
    access_log log sight;
    location / {
      add_header X-Saw "$http_x_seq $request_method";
      return 200 "ok\n";
    }
  }
}
`, addr, inner, inner))
	p := process.Start(t, process.Launch{Path: nginx, Dir: dir, Args: []string{"-p", dir, "-c", "nginx.conf", "-e", "stderr"}})
	listening(t, p, addr)
	read := logged(filepath.Join(dir, "log"))
	return &origin{"nginx", addr, func(t testing.TB) []sight {
		seen := read(t)
		for i := range seen {
			seen[i].Marker, _, _ = strings.Cut(seen[i].Marker, ",")
		}
		return seen
	}}
}

func listening(t testing.TB, p *process.Process, addr string) {
	t.Helper()
	process.Eventually(t, patience, p.Name+" listens on "+addr, func() error {
		alive(t, p)
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// logged reads an origin's log.
func logged(path string) func(testing.TB) []sight {
	return func(t testing.TB) []sight {
		text, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		var seen []sight
		for line := range strings.Lines(string(text)) {
			if !strings.HasSuffix(line, "\n") {
				break // being written
			}
			var s sight
			if err := json.Unmarshal([]byte(loose(line)), &s); err != nil {
				t.Fatalf("log of an origin: %v in %q", err, line)
			}
			seen = append(seen, s)
		}
		return seen
	}
}

// loose makes JSON of nginx's notation of a number, which may begin with zeros.
func loose(line string) string {
	const key = `"length":`
	i := strings.Index(line, key)
	if i < 0 {
		return line
	}
	rest := strings.TrimLeft(strings.TrimLeft(line[i+len(key):], " "), "0")
	if rest[0] == ',' {
		rest = "0" + rest
	}
	return line[:i+len(key)] + rest
}
