package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestUpgradeAfterParent: that the process before has not exited passes; whatever else is wrong does not.
func TestUpgradeAfterParent(t *testing.T) {
	early, broken := errors.New("parent hasn't exited"), errors.New("child exited")
	f := func(want error, calls int, answers ...error) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			n := 0
			err := afterParent(ctx, func() error {
				n++
				return answers[min(n, len(answers))-1]
			})
			if err != want || calls > 0 && n != calls {
				t.Errorf("after %v: %v by %d calls, want %v by %d", answers, err, n, want, calls)
			}
		})
	}
	f(nil, 1, nil)
	f(nil, 3, early, early, nil)
	f(broken, 1, broken)
	f(broken, 2, early, broken)
	f(early, 0, early) // until the time is over
}
