package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// checkAnswer is how much of an answer to a check is read.
const checkAnswer = 64 << 10

// checks asks nodes whether they are well, those whose service's policy wants it.
type checks struct {
	gw   *Gateway
	grpc GRPCCheck     // nil: there are none
	news chan struct{} // nodes or policies have changed
}

// GRPCCheck asks the gRPC health service at addr for the named service: nil means that it is well. secure
// is nil where the node is spoken to without TLS.
type GRPCCheck func(ctx context.Context, addr, service string, secure *tls.Config) error

func newChecks(g *Gateway, grpc GRPCCheck) *checks {
	return &checks{gw: g, grpc: grpc, news: make(chan struct{}, 1)}
}

// changed tells that nodes or policies may have changed.
func (c *checks) changed() {
	select {
	case c.news <- struct{}{}:
	default: // it has been told and not yet looked
	}
}

// checked is one node that is being asked.
type checked struct {
	policy CheckPolicy
	stop   context.CancelFunc
	done   chan struct{}
}

// run keeps one goroutine for each node that is to be checked, until ctx is done; then it waits for them.
func (c *checks) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[*lb.Node]checked{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.news:
		}
		wanted := c.wanted()
		for n, r := range running {
			if w, ok := wanted[n]; !ok || w.policy != r.policy {
				r.stop()
				<-r.done // or its last word could come after ours
				delete(running, n)
			}
		}
		for n, w := range wanted {
			if _, ok := running[n]; ok {
				continue
			}
			if w.policy.Type == checkNone {
				w.pool.SetHealth(n, true) // nobody asks any longer
				continue
			}
			each, stop := context.WithCancel(ctx)
			r := checked{w.policy, stop, make(chan struct{})}
			running[n] = r
			wg.Go(func() {
				defer close(r.done)
				c.follow(each, w.pool, n, w.policy)
			})
		}
	}
}

// wish is how a node is to be checked.
type wish struct {
	pool   *lb.Pool
	policy CheckPolicy
}

// wanted returns all nodes with how they are to be checked.
func (c *checks) wanted() map[*lb.Node]wish {
	out := map[*lb.Node]wish{}
	v := c.gw.view.Load()
	if v == nil {
		return out
	}
	b := c.gw.balance.Load()
	for name, pool := range v.pools {
		policy := b.policies.of(name).Check
		for _, n := range pool.Nodes() {
			out[n] = wish{pool, policy}
		}
	}
	return out
}

// follow asks one node until ctx is done.
func (c *checks) follow(ctx context.Context, pool *lb.Pool, n *lb.Node, p CheckPolicy) {
	good, bad := 0, 0
	// The first check comes at a random point of the interval, or all gateways and nodes would keep step.
	t := time.NewTimer(time.Duration(rand.Int64N(int64(p.Interval))))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := c.ask(ctx, n, &p)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		switch {
		case good >= p.Healthy && pool.SetHealth(n, true):
			c.gw.log.Info("is well again, by its checks", "service", pool.Service(), "node", n.ID())
		case bad >= p.Unhealthy && pool.SetHealth(n, false):
			c.gw.log.Warn("is ill, by its checks", "service", pool.Service(), "node", n.ID(), "err", err.Error())
		}
		t.Reset(p.Interval*9/10 + time.Duration(rand.Int64N(int64(p.Interval/5)+1)))
	}
}

// ask makes one check; nil means that the node is well.
func (c *checks) ask(ctx context.Context, n *lb.Node, p *CheckPolicy) error {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	u := n.Data.(*upstream) //nolint:forcetypeassert // see newUpstream
	if p.Type == checkGRPC {
		if c.grpc == nil {
			return errors.New("this gateway has no gRPC client to check with")
		}
		return c.grpc(ctx, strings.TrimSuffix(n.ID(), "_"+n.Addr()), p.Service, u.secure.Load())
	}
	up, err := u.dial(ctx, p.Timeout)
	if err != nil {
		return err
	}
	defer up.nc.Close()
	if p.Type == checkTCP {
		return nil
	}
	// A node that stops, or a gateway that does, ends the check at once.
	defer context.AfterFunc(ctx, func() { up.nc.SetDeadline(past) })()
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: goms-check\r\n%sConnection: close\r\n\r\n", p.Path, n.Addr(), c.gw.live.Load().keyLine)
	if _, err := up.nc.Write([]byte(request)); err != nil {
		return fmt.Errorf("ask for %s: %w", p.Path, err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(up.nc, checkAnswer)), nil)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", p.Path, err)
	}
	answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("ask for %s: status %d", p.Path, answer.StatusCode)
	}
	return nil
}
