package service_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/service"
)

// A WebSocket goes through, and lives longer than the timeouts of requests.
func TestWebSocket(t *testing.T) {
	n, log := start(t, "user", func(s *service.Service) error {
		s.GET("/ws", func(c *gin.Context) {
			ws, err := websocket.Accept(c.Writer, c.Request, nil)
			if err != nil {
				return
			}
			defer ws.CloseNow()
			for {
				kind, msg, err := ws.Read(c.Request.Context())
				if err != nil {
					return
				}
				if err := ws.Write(c.Request.Context(), kind, msg); err != nil {
					return
				}
			}
		})
		return nil
	}, func(c *service.Config) {
		c.Service.ReadTimeout, c.Service.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
		c.Service.ReadHeaderTimeout, c.Service.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond
	})
	ws, _, err := websocket.Dial(t.Context(), n.URL+"/ws", &websocket.DialOptions{HTTPClient: n.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := range 3 {
		<-tick.C
		if err := ws.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if _, msg, err := ws.Read(t.Context()); err != nil || string(msg) != "hello" {
			t.Fatalf("message %d: %q, %v", i, msg, err)
		}
	}
	ws.Close(websocket.StatusNormalClosure, "")
	poll(t, "a record", func() bool { return len(log.records(t, "request")) == 1 })
	if r := log.records(t, "request")[0]; r["status"] != 101.0 || r["route"] != "/ws" {
		t.Errorf("record of a WebSocket %v", r)
	}
}

// dialNode opens a raw connection to a node.
func dialNode(t *testing.T, url string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestSlowPeersAreDropped(t *testing.T) {
	n, _ := start(t, "user", func(s *service.Service) error {
		s.POST("/read", func(c *gin.Context) {
			if _, err := io.ReadAll(c.Request.Body); err != nil {
				service.Failure(c, http.StatusRequestTimeout, 1, "too slow")
			}
		})
		s.POST("/ignore", func(c *gin.Context) { service.Success(c, nil) })
		return nil
	}, func(c *service.Config) {
		c.Service.ReadHeaderTimeout = 100 * time.Millisecond
		c.Service.ReadTimeout = 100 * time.Millisecond
		c.Service.IdleTimeout = 100 * time.Millisecond
	})
	key := "Host: x\r\n" + auth.CallKeyHeader + ": " + canary + "\r\n"
	for name, sent := range map[string]string{
		"nothing":       "",
		"half a head":   "GET /read HTTP/1.1\r\nHost: x\r\n",
		"half a body":   "POST /read HTTP/1.1\r\n" + key + "Content-Length: 10\r\n\r\nhalf",
		"unread body":   "POST /ignore HTTP/1.1\r\n" + key + "Content-Length: 10\r\n\r\nhalf",
		"no key, body":  "POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
		"idle after it": "POST /ignore HTTP/1.1\r\n" + key + "Content-Length: 0\r\n\r\n",
	} {
		conn := dialNode(t, n.URL)
		if _, err := io.WriteString(conn, sent); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := io.ReadAll(conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: connection open after %v", name, time.Since(begin))
		}
	}
}

// A stream outlives every timeout as long as something moves.
func TestLongStreamIsNotCut(t *testing.T) {
	n, _ := start(t, "user", func(s *service.Service) error {
		s.GET("/stream", func(c *gin.Context) {
			tick := time.NewTicker(60 * time.Millisecond)
			defer tick.Stop()
			i := 0
			c.Stream(func(w io.Writer) bool {
				<-tick.C
				fmt.Fprintf(w, "%d\n", i)
				i++
				return i < 8
			})
		})
		s.GET("/think", func(c *gin.Context) {
			select {
			case <-time.After(400 * time.Millisecond):
				service.Success(c, "thought")
			case <-c.Request.Context().Done():
			}
		})
		return nil
	}, func(c *service.Config) {
		c.Service.ReadTimeout = 150 * time.Millisecond
		c.Service.WriteTimeout = 150 * time.Millisecond
		c.Service.ReadHeaderTimeout = 150 * time.Millisecond
	})
	resp, err := n.Client().Get(n.URL + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	count := 0
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); count++ {
	}
	if count != 8 {
		t.Errorf("stream had %d lines, want 8", count)
	}
	for range 2 { // twice on one connection: deadlines of the first must not cut the second
		r, _ := http.NewRequest("GET", n.URL+"/think", strings.NewReader("a body that is not read"))
		resp, err := n.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if body := bodyOf(t, resp); !strings.Contains(body, "thought") {
			t.Errorf("GET /think = %s", body)
		}
	}
}
