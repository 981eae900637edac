package gateway

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// date is the Date field of the current second.
type date struct {
	unix int64
	line []byte
}

// sweepInterval is how exactly times are kept.
const sweepInterval = 100 * time.Millisecond

// Run keeps the gateway's times and checks its nodes until ctx is done: without it nothing ever times
// out.
func (g *Gateway) Run(ctx context.Context) error {
	var checking sync.WaitGroup
	defer checking.Wait()
	checking.Go(func() { g.checks.run(ctx) })
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			g.tick(now)
			g.sweep()
		}
	}
}

// clock is the time in nanoseconds as of the last tick.
func (g *Gateway) clock() int64 { return g.now.Load() }

var clockStart = time.Now()

// exactly is the time of now, where the clock, up to a tick or more behind, will not do.
func exactly() int64 { return int64(time.Since(clockStart)) + 1 }

func (g *Gateway) tick(now time.Time) {
	g.now.Store(exactly())
	if d := g.date.Load(); d == nil || d.unix != now.Unix() {
		g.date.Store(&date{now.Unix(), []byte("Date: " + now.UTC().Format(http.TimeFormat) + "\r\n")})
	}
}

// sweep looks at every connection once.
func (g *Gateway) sweep() {
	now := g.clock()
	g.swept = g.snapshotConns(g.swept[:0])
	for _, c := range g.swept {
		c.checkPace()
		c.check(now, g.set().BodyTimeout, g.set().StreamTimeout)
	}
	clear(g.swept)
	if v, most := g.view.Load(), g.set().UpstreamIdleTimeout; v != nil {
		for _, pool := range v.pools {
			pool.Refresh()
			pool.Tick(func(n *lb.Node) { g.leftOut(pool, n, nil) })
			for _, n := range pool.Nodes() {
				u := n.Data.(*upstream) //nolint:forcetypeassert // see newUpstream
				u.expire(now, most)
				if u.spoke() {
					pool.Heard(n)
				}
			}
		}
	}
}
