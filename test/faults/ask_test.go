//go:build linux

package faults_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// behave tells a node how to answer from now on: delay=2s, status=503.
func (n *node) behave(t testing.TB, how string) {
	t.Helper()
	n.ask(t, "/behave?"+how)
}

// open returns how many requests a node has, but for this one.
func (n *node) open(t testing.TB) int {
	t.Helper()
	text := n.ask(t, "/open")
	open, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return open
}

// ask asks a node as a gateway does.
func (n *node) ask(t testing.TB, uri string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+n.addr()+uri, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Call-Service-Key", process.CallKey)
	resp, err := once.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("ask %s: %s %q %v", uri, resp.Status, text, err)
	}
	return string(text)
}

// once keeps no connections.
var once = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get fetches a page. A status other than 200 is an error, with what there is of the page.
func get(url string) (string, error) { return fetch(once, url) }

// fetch is get by another client.
func fetch(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("GET %s: %s: %.200s", url, resp.Status, body)
	}
	return string(body), err
}

// size returns how many nodes of a service the gateway knows.
func (g *gateway) size(service string) (int, error) {
	nodes, err := g.pool(service)
	return len(nodes), err
}

// ready waits until the gateway says that it is ready for traffic.
func (g *gateway) ready() {
	g.t.Helper()
	process.Eventually(g.t, 30*time.Second, g.Name+" is ready", func() error {
		if !g.Alive() {
			g.t.Fatalf("%s has ended:\n%s", g.Name, process.Tail(g.Output(), 20))
		}
		_, err := get("http://" + g.addr() + "/readyz")
		return err
	})
}

// pool returns the ids of a service's nodes, as /cluster shows them.
func (g *gateway) pool(service string) ([]string, error) {
	body, err := get("http://" + g.addr() + "/cluster")
	if err != nil {
		return nil, err
	}
	var c struct {
		Services map[string]struct{ Nodes []string }
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return nil, fmt.Errorf("read /cluster %q: %w", body, err)
	}
	return c.Services[service].Nodes, nil
}

// sees waits until the gateway knows exactly n nodes of a service.
func (g *gateway) sees(service string, n int) {
	g.t.Helper()
	process.Eventually(g.t, 30*time.Second, fmt.Sprintf("%s sees %d nodes of %s", g.Name, n, service), func() error {
		nodes, err := g.pool(service)
		if err == nil && len(nodes) != n {
			err = fmt.Errorf("it sees %d: %v", len(nodes), nodes)
		}
		return err
	})
}

// metrics returns the sum of a metric's samples whose labels hold all the texts; ok is false when there is none.
func (g *gateway) metric(name string, labels ...string) (sum float64, ok bool) {
	text, err := get(fmt.Sprintf("http://127.0.0.1:%d/metrics", g.admin))
	if err != nil {
		return 0, false
	}
next:
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, name)
		if !found || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue next
			}
		}
		fields := strings.Fields(rest)
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			continue
		}
		sum, ok = sum+value, true
	}
	return sum, ok
}

// goroutines returns how many the gateway has, without those of its clients' connections: they come and go with the load.
func (g *gateway) goroutines() int {
	n, _ := g.metric("go_goroutines")
	clients, _ := g.metric("goms_connections")
	return int(n - clients)
}

// collect has the gateway's runtime collect, twice, since pools outlive one.
func (g *gateway) collect() {
	g.t.Helper()
	for range 2 {
		if _, err := get(fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/heap?gc=1", g.admin)); err != nil {
			g.t.Fatal(err)
		}
	}
}
