// Command countnode is a node of a goms project for tests: it serves every shape of request and counts each one it accepts.
//
// It takes the flags of every node (see package service); -name gives it the name of another service. The environment variable
// COUNTS_FILE names the file with one line a request: method, path and the query's id.
package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"

	"github.com/goms-io/goms/pkg/service"
)

func main() {
	service.Main("count", setup)
}

func setup(s *service.Service) error {
	path := os.Getenv("COUNTS_FILE")
	if path == "" {
		return errors.New("COUNTS_FILE names no file")
	}
	counts, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open counts: %w", err)
	}
	c := newCounter(counts)
	for path, handler := range c.routes() {
		h := gin.WrapF(c.counted(handler))
		s.Any(path, h)
		s.Handle("PROPFIND", path, h)
	}
	return nil
}

// counted writes a line, then lets the handler answer.
func (c *counter) counted(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.open.Add(1)
		defer c.open.Add(-1)
		line := fmt.Sprintf("%s %s %s\n", r.Method, r.URL.Path, r.URL.Query().Get("id"))
		if _, err := c.counts.WriteString(line); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		handler(w, r)
	}
}
