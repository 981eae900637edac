package console_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/console"
)

func TestQueueKeepsOrder(t *testing.T) {
	var out bytes.Buffer
	q := console.NewQueue(&out)
	var want strings.Builder
	for i := range 1000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		if n, err := io.WriteString(q, line); n != len(line) || err != nil {
			t.Fatalf("Write() = %d %v", n, err)
		}
	}
	q.Close(time.Minute)
	q.Close(time.Minute)
	if out.String() != want.String() || q.Dropped() != 0 {
		t.Errorf("wrote %d bytes, want %d; %d dropped", out.Len(), want.Len(), q.Dropped())
	}
	io.WriteString(q, "late\n")
	if q.Dropped() != 1 {
		t.Errorf("Dropped() after Close = %d, want 1", q.Dropped())
	}
}

// TestQueueDoesNotBlock writes to a pipe that nobody reads, then reads it.
func TestQueueDoesNotBlock(t *testing.T) {
	r, w := io.Pipe()
	q := console.NewQueue(w)
	for range 10000 {
		io.WriteString(q, "line\n")
	}
	if q.Dropped() == 0 {
		t.Fatal("10000 lines fitted: the test tests nothing")
	}
	q.Close(time.Millisecond) // gives up on the reader
	done := make(chan string)
	go func() {
		all, _ := io.ReadAll(r)
		done <- string(all)
	}()
	q.Close(time.Minute)
	w.Close()
	if all := <-done; !strings.Contains(all, "lines were dropped") || !strings.HasPrefix(all, "line\nline\n") {
		t.Errorf("the reader got %.40q…", all)
	}
}
