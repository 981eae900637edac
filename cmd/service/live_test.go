package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/goms-io/goms/pkg/registry"
)

func TestEvents(t *testing.T) {
	n := start(t, "user", registry.NewMemory(), io.Discard)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := n.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type = %q", got)
	}
	br := bufio.NewReader(res.Body)
	for _, want := range []string{"id: 1\n", "data: ", "\n", "id: 2\n"} {
		line, err := br.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, want) {
			t.Fatalf("line = %q %v, want %q", line, err, want)
		}
	}
}

func TestChat(t *testing.T) {
	n := start(t, "user", registry.NewMemory(), io.Discard)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, n.URL+"/chat", &websocket.DialOptions{HTTPClient: n.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if _, hello, err := ws.Read(ctx); err != nil || string(hello) != "hello from user" {
		t.Fatalf("first message = %q %v", hello, err)
	}
	if err := ws.Write(ctx, websocket.MessageBinary, []byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	if kind, back, err := ws.Read(ctx); err != nil || kind != websocket.MessageBinary || string(back) != "\x01\x02\x03" {
		t.Errorf("echo = %v %q %v", kind, back, err)
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("Close() = %v", err)
	}
}
