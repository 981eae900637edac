package service

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// keyed remembers answers by the key of their request.
type keyed struct {
	o IdempotencyOptions

	mu      sync.Mutex // guards what follows
	entries map[[sha256.Size]byte]*keyedEntry
	recent  *list.List // of the answered ones, the one last asked for in front
	bytes   int
}

// keyedEntry is a request that runs or was answered. What follows done is written before
// done is closed, and read after.
type keyedEntry struct {
	id, sum [sha256.Size]byte
	done    chan struct{} // closed when it was answered
	place   *list.Element // in recent; keyed.mu guards it

	until   time.Time // then it is forgotten
	dropped bool      // nothing was done: whoever waits may do it
	status  int       // 0: there is no answer to give, for the reason in body
	header  http.Header
	body    []byte
}

func newKeyed(o IdempotencyOptions) *keyed {
	o.TTL = cmp.Or(max(o.TTL, 0), DefaultIdempotencyTTL)
	o.Wait = cmp.Or(max(o.Wait, 0), DefaultIdempotencyWait)
	o.MaxBytes = cmp.Or(max(o.MaxBytes, 0), defaultRememberedBytes)
	o.MaxAnswer = cmp.Or(max(o.MaxAnswer, 0), defaultAnswerBytes)
	o.MaxBody = cmp.Or(max(o.MaxBody, 0), defaultKeyedBody)
	if o.Caller == nil {
		o.Caller = func(c *gin.Context) string { return c.GetHeader("Authorization") }
	}
	return &keyed{o: o, entries: map[[sha256.Size]byte]*keyedEntry{}, recent: list.New()}
}

// claim returns the entry of a request: a new one, which the caller must finish, when it
// is the first of its key, else one that was answered. The error is errKeyOther or
// errKeyBusy.
func (k *keyed) claim(ctx context.Context, id, sum [sha256.Size]byte) (e *keyedEntry, first bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.o.Wait)
	defer cancel()
	for {
		e, first := k.entry(id, sum)
		if first {
			return e, true, nil
		}
		if e.sum != sum {
			return nil, false, errKeyOther
		}
		select {
		case <-e.done:
		default:
			select {
			case <-e.done:
			case <-ctx.Done():
				return nil, false, errKeyBusy
			}
		}
		if !e.dropped {
			return e, false, nil
		}
	}
}

// entry returns the entry of a request, a new one when there is none.
func (k *keyed) entry(id, sum [sha256.Size]byte) (e *keyedEntry, first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e = k.entries[id]
	if e != nil && e.place != nil && !time.Now().Before(e.until) {
		k.forget(e)
		e = nil
	}
	if e != nil {
		if e.place != nil {
			k.recent.MoveToFront(e.place)
		}
		return e, false
	}
	e = &keyedEntry{id: id, sum: sum, done: make(chan struct{})}
	k.entries[id] = e
	return e, true
}

// finish remembers the answer of a claimed entry, and lets go whoever waits for it.
func (k *keyed) finish(e *keyedEntry, status int, header http.Header, body []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer close(e.done)
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		e.dropped = true
		delete(k.entries, e.id)
		return
	}
	e.status, e.header, e.body, e.until = status, header, body, time.Now().Add(k.o.TTL)
	e.place = k.recent.PushFront(e)
	k.bytes += e.size()
	for now := time.Now(); k.recent.Len() > 0; {
		oldest := k.recent.Back().Value.(*keyedEntry) //nolint:forcetypeassert // nothing else is in it
		if k.bytes <= k.o.MaxBytes && now.Before(oldest.until) {
			break
		}
		k.forget(oldest)
	}
}

// forget removes an answered entry. k.mu is held.
func (k *keyed) forget(e *keyedEntry) {
	k.recent.Remove(e.place)
	delete(k.entries, e.id)
	k.bytes -= e.size()
}

// size is about what an answered entry takes of the memory.
func (e *keyedEntry) size() int {
	n := 512 + len(e.body)
	for name, values := range e.header {
		n += 64 + len(name)
		for _, v := range values {
			n += 16 + len(v)
		}
	}
	return n
}
