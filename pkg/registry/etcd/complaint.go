package etcd

import (
	"log/slog"
	"sync"
	"time"
)

// Bounds of what is logged of keys that cannot be used: so many, and once there were more, no further ones for so long.
const (
	maxComplaints   = 256
	complaintsPause = time.Hour
)

// complaints has each key that cannot be used logged once, and not more of them than somebody can read. All methods are safe for
// concurrent use.
type complaints struct {
	log  *slog.Logger
	kind string // of the keys

	mu    sync.Mutex          // guards what follows
	known map[string]struct{} // keys that were logged
	full  time.Time           // since when no further ones are; zero when they are
}

func newComplaints(log *slog.Logger, kind string) *complaints {
	return &complaints{log: log, kind: kind, known: map[string]struct{}{}}
}

// news reports whether key is to be logged. Where the bound is reached it says so, once.
func (c *complaints) news(key string) bool {
	news, last := c.note(key)
	if last {
		c.log.Warn("more entries of the registry are of no use, they are counted and not logged", "reason", c.kind, "duration", complaintsPause)
	}
	return news
}

// note returns whether key is to be logged, or that instead of it no further ones are.
func (c *complaints) note(key string) (news, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.known[key]; known {
		return false, false
	}
	if !c.full.IsZero() && time.Since(c.full) >= complaintsPause {
		clear(c.known)
		c.full = time.Time{}
	}
	switch {
	case len(c.known) < maxComplaints:
		c.known[key] = struct{}{}
		return true, false
	case c.full.IsZero():
		c.full = time.Now()
		return false, true
	}
	return false, false
}
