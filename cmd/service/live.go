package main

import (
	"fmt"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"

	"github.com/goms-io/goms/pkg/service"
)

// eventEvery is the pause between two events.
const eventEvery = time.Second

// events is a stream of server-sent events: one at once, then one a second until the client leaves or the node stops.
func events(c *gin.Context) {
	c.Header("Content-Type", "text/event-stream")
	c.Header("Cache-Control", "no-store")
	tick := time.NewTicker(eventEvery)
	defer tick.Stop()
	for id := 1; ; id++ {
		fmt.Fprintf(c.Writer, "id: %d\ndata: {\"now\":%q}\n\n", id, time.Now().UTC().Format(time.RFC3339))
		c.Writer.Flush()
		select {
		case <-tick.C:
		case <-c.Request.Context().Done():
			return
		}
	}
}

// chat greets a WebSocket client and then sends its messages back, of 32 KiB at most each, until one side closes.
func chat(s *service.Service) gin.HandlerFunc {
	return func(c *gin.Context) {
		// Whether the page may open it is for the gateway, or for a handler with sessions; this one has nothing to protect.
		ws, err := websocket.Accept(c.Writer, c.Request, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			s.Log().Debug("no WebSocket", "err", err)
			return
		}
		defer ws.CloseNow() //nolint:errcheck // it is closed either way
		ctx := c.Request.Context()
		if ws.Write(ctx, websocket.MessageText, []byte("hello from "+s.Name())) != nil {
			return
		}
		for {
			kind, message, err := ws.Read(ctx)
			if err != nil || ws.Write(ctx, kind, message) != nil {
				return
			}
		}
	}
}
