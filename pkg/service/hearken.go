package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

const (
	hearkenAfter = 500 * time.Millisecond // a node is not left out for its silence before that
	hearkenEvery = 100 * time.Millisecond
)

var errSilent = errors.New("nothing is heard of it")

// hearken is the watch over an attempt that another node may take over: it ends ctx when
// the node is found to be silent before the head of its answer is there.
type hearken struct {
	ctx    context.Context // that of the attempt; this type is one attempt
	cancel context.CancelFunc
	pool   *lb.Pool
	node   *lb.Node
	began  time.Time

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	over   bool // the answer is there, or was given up
	silent bool
}

// hearken begins to listen, if the call may go on elsewhere though the node may have begun it.
func (c *call) hearken(ctx context.Context, node *lb.Node, others bool) *hearken {
	h := &hearken{ctx: ctx, cancel: func() {}, pool: c.pool, node: node, began: time.Now()}
	if !others || !idempotent(c.method) || !c.body.inMem {
		return h
	}
	h.ctx, h.cancel = context.WithCancel(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(hearkenAfter, h.look)
	return h
}

// look looks whether the node was found to be silent, and looks again later.
func (h *hearken) look() {
	h.pool.Tick(nil)
	silent := h.node.InVain(time.Since(h.began), upstreamOf(h.node).unheard.Load())
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.over:
	case silent:
		h.over, h.silent = true, true
		h.cancel()
	default:
		h.timer.Reset(hearkenEvery)
	}
}

// answered says that the attempt has ended or the head of its answer is there, after which
// nobody gives it up. It reports false when it was given up before.
func (h *hearken) answered() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if h.timer != nil {
		h.timer.Stop()
	}
	return !h.silent
}

// end frees what the watch holds, when the answer was read.
func (h *hearken) end() { h.cancel() }
