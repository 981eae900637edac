package etcd

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// health is what the loops of a registry report of the store. It logs the beginning of an outage and its end, and within it each
// new kind of trouble once.
type health struct {
	log   *slog.Logger
	addrs []string

	mu      sync.Mutex       // guards what follows
	failing map[string]error // the loops that have trouble now
	kinds   map[string]bool  // the kinds of trouble that this outage logged
	since   time.Time        // when this outage began
	contact time.Time
}

// ok notes an answer of the store to a loop.
func (h *health) ok(loop string) {
	h.mu.Lock()
	h.contact = time.Now()
	_, was := h.failing[loop]
	delete(h.failing, loop)
	over := was && len(h.failing) == 0
	outage := h.contact.Sub(h.since)
	h.mu.Unlock()
	if over {
		h.log.Info("registry available again", "addr", h.addrs, "duration", outage)
	}
}

// alive notes an answer that says nothing of the loops.
func (h *health) alive() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.contact = time.Now()
}

// fail notes trouble of a loop with the store.
func (h *health) fail(loop string, err error) {
	kind := kindOf(err)
	h.mu.Lock()
	if len(h.failing) == 0 {
		h.since, h.kinds = time.Now(), map[string]bool{}
	}
	h.failing[loop] = err
	news := !h.kinds[kind]
	h.kinds[kind] = true
	h.mu.Unlock()
	if news {
		h.log.Warn("registry unavailable", "reason", kind, "addr", h.addrs, "err", err)
	}
}

// forget removes a loop that ended.
func (h *health) forget(loop string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.failing, loop)
}

// read returns whether all is well, and when the store answered last.
func (h *health) read() (connected bool, contact time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.failing) == 0 && !h.contact.IsZero(), h.contact
}

// trouble returns the trouble of a loop, nil when there is none.
func (h *health) trouble(loop string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failing[loop]
}

// Kinds of trouble in which the store has said nothing.
const (
	unreachable = "unreachable"
	untrusted   = "untrusted" // a certificate, ours or its, is not taken
)

// away returns whether an error says that the store was not asked.
func away(err error) bool {
	kind := kindOf(err)
	return kind == unreachable || kind == untrusted
}

// kindOf says in a word what an error of the store means to an operator.
func kindOf(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errLost) {
		return unreachable
	}
	code := status.Code(err)
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		code = known.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		// gRPC has only the text of why it cannot connect. A connection that was cut in a handshake has neither of these.
		if text := err.Error(); strings.Contains(text, "tls: ") || strings.Contains(text, "x509: ") {
			return untrusted
		}
		return unreachable
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition:
		return "refused"
	case codes.ResourceExhausted:
		return "full"
	}
	return "failing"
}
