//go:build linux

package conformance_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// fetch gets a page and wants 200.
func fetch(c *http.Client, url string) (string, error) {
	res, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %d %.200s", url, res.StatusCode, body)
	}
	return string(body), nil
}

// probes are legitimate requests, ten a second each on a connection of its own, while something else goes on.
type probes struct {
	stop chan struct{}
	wg   sync.WaitGroup
	took []time.Duration
	errs []error
}

// probe begins to ask. The client must not keep connections where each probe is to find its way in anew.
func probe(c *http.Client, url string) *probes {
	p := &probes{stop: make(chan struct{})}
	p.wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			began := time.Now()
			if _, err := fetch(c, url); err != nil {
				p.errs = append(p.errs, err)
			}
			p.took = append(p.took, time.Since(began))
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
		}
	})
	return p
}

// end stops asking and wants every probe to have been answered.
func (p *probes) end(t testing.TB) {
	t.Helper()
	close(p.stop)
	p.wg.Wait()
	slices.Sort(p.took)
	t.Logf("%d legitimate probes: median %v, p99 %v, slowest %v", len(p.took), p.took[len(p.took)/2].Round(time.Microsecond*100),
		p.took[len(p.took)*99/100].Round(time.Millisecond), p.took[len(p.took)-1].Round(time.Millisecond))
	if len(p.errs) > 0 {
		t.Errorf("%d of %d legitimate probes were not answered with 200, the first: %v", len(p.errs), len(p.took), p.errs[0])
	}
}
