package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Serve accepts connections on l until Shutdown, and then returns nil. It closes l. Several listeners may
// be served at once.
func (g *Gateway) Serve(l Listener) error {
	ln := l.Listener
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ln.Close()
	}
	g.listeners = append(g.listeners, l)
	g.mu.Unlock()
	if l.TLS != nil || l.H2C {
		g.http2.start()
	}
	defer ln.Close()
	pause := time.Duration(0)
	for {
		if !g.waitForRoom() {
			return nil
		}
		nc, err := ln.Accept()
		if err == nil {
			pause = 0
			g.start(l.wrap(g, nc))
			continue
		}
		if g.stopped() {
			return nil
		}
		if !temporary(err) {
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		if pause == 0 {
			g.log.Warn("accepting connections is held up", "addr", ln.Addr().String(), "err", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-g.base.Done():
		}
	}
}

// temporary reports whether an error of accept passes: too many files, a client that left early.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary() && !errors.Is(err, net.ErrClosed)
}

// waitForRoom waits until another connection may be accepted; false means that none will be.
func (g *Gateway) waitForRoom() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.open >= g.set().MaxConnections && !g.closed {
		g.metrics.full.Add(1)
		g.room.Wait()
	}
	return !g.closed
}

func (g *Gateway) stopped() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// start serves a connection in a goroutine that Shutdown waits for. Streams are not counted: their
// HTTP/2 connection is, and bounds them.
func (g *Gateway) start(c *conn) {
	g.mu.Lock()
	g.conns[c] = struct{}{}
	if !c.stream {
		g.open++
	}
	g.serving.Add(1)
	g.mu.Unlock()
	go g.serveConn(c)
}

func (g *Gateway) serveConn(c *conn) {
	defer g.serving.Done()
	c.serve()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	if !c.stream {
		g.open--
		g.room.Signal()
	}
}

// Drain begins to stop: /readyz answers 503 and every answer ends its connection. It may be called
// more than once.
func (g *Gateway) Drain() { g.draining.Store(true) }

// Shutdown drains, waits for the configured delay so that whoever sends requests has noticed, stops
// accepting, and waits for the requests in flight: until the configured time is over or ctx is done,
// when WebSockets are closed with 1001, which takes a second at most, and the rest is cut off. The error
// says how much was.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.Drain()
	wait(ctx, g.set().DrainDelay)
	g.CloseListeners()
	limit, cancel := context.WithTimeout(ctx, g.set().DrainTimeout)
	defer cancel()
	goneAway := g.http2.goAway(limit)
	defer func() { <-goneAway }()
	done := make(chan struct{})
	go func() {
		g.serving.Wait()
		close(done)
	}()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		for _, c := range g.snapshotConns(nil) {
			c.endIdle()
		}
		select {
		case <-done:
			g.closePools()
			return nil
		case <-poll.C:
			continue
		case <-limit.Done():
		}
		break
	}
	g.partWebSockets(done)
	g.giveUp()
	g.http2.server.Close() //nolint:errcheck // what is still open is cut off
	late := 0
	for _, c := range g.snapshotConns(nil) {
		if c.phase.Load() != phaseHTTP2 { // its streams count
			late++
		}
		c.end(endDrain)
	}
	<-done
	g.closePools()
	if late == 0 {
		return nil
	}
	return fmt.Errorf("drain: %d connections were cut off after %s", late, g.set().DrainTimeout)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// CloseListeners takes the connections that wait in the backlogs, then closes the listeners. Shutdown does it in its time;
// a process whose sockets another one serves by now does it at once. What is connected goes on.
func (g *Gateway) CloseListeners() {
	g.mu.Lock()
	listeners := g.listeners
	g.listeners = nil
	g.closed = true
	g.room.Broadcast()
	g.mu.Unlock()
	for _, l := range listeners {
		if d, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok && d.SetDeadline(time.Now().Add(20*time.Millisecond)) == nil {
			for {
				nc, err := l.Accept()
				if err != nil {
					break
				}
				g.start(l.wrap(g, nc))
			}
		}
		l.Close()
	}
}

// snapshotConns appends the connections that are open now.
func (g *Gateway) snapshotConns(list []*conn) []*conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		list = append(list, c)
	}
	return list
}

// closePools closes the idle connections to all nodes.
func (g *Gateway) closePools() {
	if v := g.view.Load(); v != nil {
		for _, pool := range v.pools {
			pool.Update(nil)
		}
	}
}
