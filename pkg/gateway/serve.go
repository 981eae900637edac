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
	g.accepting.Add(1)
	g.mu.Unlock()
	defer g.accepting.Done()
	if l.TLS != nil || l.H2C {
		g.http2.start()
	}
	defer ln.Close()
	pause := time.Duration(0)
	for {
		if !g.waitForRoom() {
			g.emptyBacklog(l)
			return nil
		}
		nc, err := ln.Accept()
		if err == nil {
			pause = 0
			g.start(l.wrap(g, nc))
			continue
		}
		if g.stopped() {
			g.emptyBacklog(l)
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
	g.stopAccepting(func(ln net.Listener) {
		if d, ok := ln.(interface{ SetDeadline(time.Time) error }); !ok || d.SetDeadline(past) != nil {
			ln.Close()
		}
	})
	g.accepting.Wait()
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
	opened := time.Now().Add(openedTime)
	for {
		for _, c := range g.snapshotConns(nil) {
			c.endIdle(time.Now().After(opened))
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

// CloseListeners closes the listeners at once, and with them the connections that wait in their backlogs. It is for a
// process whose sockets another one serves by now: the backlogs are that one's too. What is connected goes on.
func (g *Gateway) CloseListeners() {
	g.handed.Store(true)
	g.stopAccepting(func(ln net.Listener) { ln.Close() })
}

// stopAccepting makes the Serves end: wake is what makes an Accept return.
func (g *Gateway) stopAccepting(wake func(net.Listener)) {
	g.mu.Lock()
	listeners := g.listeners
	g.listeners = nil
	g.closed = true
	g.room.Broadcast()
	g.mu.Unlock()
	for _, l := range listeners {
		wake(l.Listener)
	}
}

// Of a listener that is about to be closed.
const (
	backlogPause = 25 * time.Millisecond // without a new connection: handshakes under way have ended
	backlogLimit = 2 * time.Second       // in all
)

// emptyBacklog takes the connections that wait in a backlog, because closing the listener would reset them after their
// clients have sent a request. New ones are kept out meanwhile where the system can, which is plain TCP on Linux, not
// Multipath TCP: a client that connects now tries again a second later, and is refused then.
func (g *Gateway) emptyBacklog(l Listener) {
	if l.Closing != nil {
		l.Closing()
	}
	d, ok := l.Listener.(interface{ SetDeadline(time.Time) error })
	if !ok || g.handed.Load() { // what is set on a socket holds for all processes that have it
		return
	}
	keepOut(l.Listener)
	for end := time.Now().Add(backlogLimit); time.Now().Before(end); {
		if d.SetDeadline(time.Now().Add(backlogPause)) != nil {
			return // it is closed
		}
		nc, err := l.Accept()
		switch {
		case err == nil:
			g.start(l.wrap(g, nc))
		case !waiting(l.Listener): // a late look: a busy machine may let the pause pass before Accept is tried
			return
		}
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

// serves reports whether c is open still.
func (g *Gateway) serves(c *conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.conns[c]
	return ok
}

// onlyHTTP2 reports whether all that is open are HTTP/2 connections without streams.
func (g *Gateway) onlyHTTP2() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		if c.phase.Load() != phaseHTTP2 {
			return false
		}
	}
	return true
}

// closePools closes the idle connections to all nodes.
func (g *Gateway) closePools() {
	if v := g.view.Load(); v != nil {
		for _, pool := range v.pools {
			pool.Update(nil)
		}
	}
}
