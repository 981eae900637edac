package console_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
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

// fullDisk takes no more than some lines until there is room.
type fullDisk struct {
	mu   sync.Mutex // guards what follows
	room bool
	got  bytes.Buffer
}

func (d *fullDisk) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.room {
		return 0, errors.New("no space left on device")
	}
	return d.got.Write(b)
}

// TestQueueCountsWhatCannotBeWritten writes to a disk that is full and then is not.
func TestQueueCountsWhatCannotBeWritten(t *testing.T) {
	d := &fullDisk{}
	q := console.NewQueue(d)
	for range 10 {
		io.WriteString(q, "line\n")
	}
	for deadline := time.Now().Add(10 * time.Second); q.Dropped() < 10 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if q.Dropped() != 10 {
		t.Fatalf("Dropped() = %d, want 10", q.Dropped())
	}
	d.mu.Lock()
	d.room = true
	d.mu.Unlock()
	io.WriteString(q, "at last\n")
	q.Close(time.Minute)
	if got := d.got.String(); !strings.HasPrefix(got, "at last\n10 lines were dropped") {
		t.Errorf("the disk got %q", got)
	}
}
