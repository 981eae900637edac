package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// demo is what runs.
type demo struct {
	dir            string // binaries, configuration and etcd's data
	stdout, stderr *lines
	gateway        *process
	nodes          []*process
	http, admin    string // addresses of the gateway
	etcd           string
}

// routes is the configuration, but for the key and the addresses.
const routes = `projectName: goms
etcd:
  embedded:
    addr: %q
    dir: %q
services:
  user:
    register: /register
    login: /login
    events: /events
    chat: /chat
`

// start builds the programs and starts them one after the other, each when the one before is ready.
func (d *demo) start(ctx context.Context) error {
	fmt.Fprintln(d.stdout, "demo: building gateway and service (the first time takes a minute or two) ...")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "nomsgpack", "-trimpath", "-o", d.dir+string(filepath.Separator),
		"github.com/goms-io/goms/cmd/gateway", "github.com/goms-io/goms/cmd/service")
	build.Stdout, build.Stderr = d.stderr, d.stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build gateway and service: %w (run the demo at the top of the source tree)", err)
	}
	ports, err := freePorts(8080, 8180, 8280, 2379, 9080, 9180, 9081, 9181, 9082, 9182)
	if err != nil {
		return err
	}
	d.http, d.admin, d.etcd = loopback(ports[0]), loopback(ports[2]), loopback(ports[3])
	config := filepath.Join(d.dir, "config.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, routes, d.etcd, filepath.Join(d.dir, "etcd")), 0o600); err != nil {
		return err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	env := append(os.Environ(), "GOMS_CALL_SERVICE_KEY="+hex.EncodeToString(key))

	d.gateway, err = d.launch(env, "gateway  ", "gateway", "-config", config, "-http_port", ports[0], "-rpc_port", ports[1], "-admin_port", ports[2])
	if err != nil {
		return err
	}
	if err := d.ready(ctx, d.gateway, "http://"+d.http+"/readyz"); err != nil {
		return err
	}
	for i := 4; i < len(ports); i += 2 {
		n, err := d.launch(env, "user "+ports[i], "service", "-config", config, "-etcd_addr", d.etcd, "-http_port", ports[i], "-rpc_port", ports[i+1])
		if err != nil {
			return err
		}
		n.addr = loopback(ports[i])
		d.nodes = append(d.nodes, n)
		if err := d.ready(ctx, n, "http://"+n.addr+"/readyz"); err != nil {
			return err
		}
	}
	return d.complete(ctx)
}

func loopback(port string) string { return net.JoinHostPort("127.0.0.1", port) }

// freePorts returns the wanted ports, or free ones in the place of those that are taken.
func freePorts(wanted ...int) ([]string, error) {
	var out []string
	for _, port := range wanted {
		ln, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			if ln, err = net.Listen("tcp", ":0"); err != nil {
				return nil, err
			}
		}
		defer ln.Close()
		_, number, err := net.SplitHostPort(ln.Addr().String())
		if err != nil {
			return nil, err
		}
		out = append(out, number)
	}
	return out, nil
}

// explain prints what runs and what to try.
func (d *demo) explain() {
	var b bytes.Buffer
	fmt.Fprintf(&b, "\nRunning:\n")
	fmt.Fprintf(&b, "  gateway  http://%s  pid %d, etcd inside it on %s, metrics on http://%s/metrics\n", d.http, d.gateway.pid(), d.etcd, d.admin)
	for _, n := range d.nodes {
		fmt.Fprintf(&b, "  user     http://%s  pid %d\n", n.addr, n.pid())
	}
	fmt.Fprintf(&b, `
Try, in another terminal:
  curl -d '{"username":"test","password":"test"}' -H 'Content-Type: application/json' 'http://%[1]s/api/user/login?a=1&b=3'
  curl http://%[1]s/cluster
  curl -s http://%[2]s/metrics | grep goms_requests_total
  kill %[3]d    # one node leaves: every other process prints it, no request is lost

Ctrl-C stops everything.

`, d.http, d.admin, d.nodes[0].pid())
	fmt.Fprint(d.stdout, b.String())
}

// wait runs until ctx is done or the gateway has ended. Nodes may come and go.
func (d *demo) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.gateway.done:
		return fmt.Errorf("the gateway ended: %w", d.gateway.err)
	}
}

// stop ends the nodes, then the gateway, and waits for them.
func (d *demo) stop() {
	fmt.Fprintln(d.stdout, "demo: stopping ...")
	for _, n := range d.nodes {
		n.signal()
	}
	for _, n := range d.nodes {
		n.end()
	}
	if d.gateway != nil {
		d.gateway.signal()
		d.gateway.end()
	}
}

// client asks our own processes.
var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// ready waits until url answers 200.
func (d *demo) ready(ctx context.Context, p *process, url string) error {
	return d.poll(ctx, p, func() bool {
		res, err := client.Get(url)
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// complete waits until the gateway knows all nodes.
func (d *demo) complete(ctx context.Context) error {
	return d.poll(ctx, d.gateway, func() bool {
		res, err := client.Get("http://" + d.http + "/cluster")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return false
		}
		for _, n := range d.nodes {
			if !bytes.Contains(body, []byte(n.addr+`"`)) {
				return false
			}
		}
		return true
	})
}

// poll asks until the answer is yes, the process has ended, or a minute has passed.
func (d *demo) poll(ctx context.Context, p *process, ok func() bool) error {
	limit := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended: %w", p.name, p.err)
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("%s is not ready after a minute", p.name)
		}
	}
	return nil
}

// process is one program of the demo.
type process struct {
	name, addr string
	cmd        *exec.Cmd
	done       chan struct{} // closed when it has ended
	err        error         // how; valid once done is closed
}

// launch starts a program of the demo. Its lines are printed as they come, behind the label.
func (d *demo) launch(env []string, label, name string, args ...string) (*process, error) {
	cmd := exec.Command(filepath.Join(d.dir, name), args...)
	cmd.Env, cmd.Dir = env, d.dir
	out := &labelled{label: label, to: d.stdout}
	cmd.Stdout, cmd.Stderr = out, out
	apart(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	go p.reap()
	return p, nil
}

// reap waits for the process; end waits for reap.
func (p *process) reap() {
	defer close(p.done)
	if p.err = p.cmd.Wait(); p.err == nil {
		p.err = errors.New("exit code 0")
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal asks the process to stop.
func (p *process) signal() { p.cmd.Process.Signal(syscall.SIGTERM) } //nolint:errcheck // it may have ended

// end waits for the process, and kills it when it takes more time than draining does.
func (p *process) end() {
	select {
	case <-p.done:
	case <-time.After(40 * time.Second):
		p.cmd.Process.Kill() //nolint:errcheck // as above
		<-p.done
	}
}

// labelled puts a label before each line of one process. Programs write a line at a time.
type labelled struct {
	label string
	to    *lines
}

func (l *labelled) Write(b []byte) (int, error) {
	var out []byte
	for line := range bytes.Lines(b) {
		out = append(out, l.label+" | "...)
		out = append(out, line...)
	}
	_, err := l.to.Write(out)
	return len(b), err
}

// lines writes what several processes print without mixing their lines.
type lines struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
