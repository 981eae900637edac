package process

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// console collects what a process writes and lets others wait for lines.
type console struct {
	mu      sync.Mutex // guards what follows
	buf     bytes.Buffer
	changed chan struct{} // closed and replaced at every write
	closed  bool
}

func newConsole() *console { return &console{changed: make(chan struct{})} }

// Write implements io.Writer.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
	return c.buf.Write(b)
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	close(c.changed)
	c.changed = make(chan struct{})
}

// String returns all that was written.
func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

// find returns the complete lines that match.
func (c *console) find(re *regexp.Regexp) []string {
	var found []string
	for line := range strings.Lines(c.String()) {
		if text, complete := strings.CutSuffix(line, "\n"); complete && re.MatchString(text) {
			found = append(found, text)
		}
	}
	return found
}

func (c *console) wait(within time.Duration, re *regexp.Regexp) (string, error) {
	timeout := time.After(within)
	for {
		c.mu.Lock()
		changed, closed := c.changed, c.closed
		c.mu.Unlock()
		if found := c.find(re); len(found) > 0 {
			return found[0], nil
		}
		if closed {
			return "", errors.New("the process has ended")
		}
		select {
		case <-changed:
		case <-timeout:
			return "", fmt.Errorf("none within %v", within)
		}
	}
}
