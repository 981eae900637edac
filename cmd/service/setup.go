package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/goms-io/goms/cmd/service/pb"
	"github.com/goms-io/goms/pkg/service"
)

// maxBody is the largest body in bytes that is echoed.
const maxBody = 10 << 20

// failed is the code in the envelope of a request that could not be served.
const failed = 1

// setup gives the node the routes of its name.
func setup(s *service.Service) error {
	switch s.Name() {
	case "user":
		s.Any("/register", echo)
		s.Any("/login", echo)
		s.GET("/events", events)
		s.GET("/chat", chat(s))
		pb.RegisterUserServer(s.RPC(), userRPC{})
	case "order":
		s.Any("/order/submit", submit(s))
		pb.RegisterOrderServer(s.RPC(), orderRPC{users: pb.NewUserClient(s.Dial("user"))})
	default:
		return echoAll(s)
	}
	return nil
}

// echoAll serves what the configuration says of a service this program does not know.
func echoAll(s *service.Service) error {
	actions := s.Config().Services[s.Name()]
	if len(actions) == 0 {
		return fmt.Errorf("service %q has no actions in the configuration", s.Name())
	}
	var paths []string
	for _, a := range actions {
		paths = append(paths, a.Path)
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		s.Any(path, echo)
	}
	return nil
}

// received is what a node was sent, as it shows it.
type received struct {
	Body     any               `json:"body"`
	Headers  map[string]string `json:"headers"`
	Method   string            `json:"method"`
	URLParam string            `json:"urlParam"`

	raw []byte
}

func echo(c *gin.Context) {
	r, err := receive(c)
	if err != nil {
		refuse(c, err)
		return
	}
	service.Success(c, r)
}

// submit shows what order was sent and what user's login made of the same.
func submit(s *service.Service) gin.HandlerFunc {
	return func(c *gin.Context) {
		r, err := receive(c)
		if err != nil {
			refuse(c, err)
			return
		}
		resp, err := s.Call(c, "user", "login", &service.Request{
			Method: http.MethodPost,
			Query:  c.Request.URL.Query(),
			Header: http.Header{"Content-Type": {c.ContentType()}},
			Body:   bytes.NewReader(r.raw),
		})
		if err != nil {
			s.Log().Warn("login failed", "err", err)
			service.Failure(c, statusOf(err), failed, "user login failed")
			return
		}
		var login json.RawMessage
		if err := resp.Decode(&login); err != nil {
			s.Log().Warn("login failed", "err", err)
			service.Failure(c, http.StatusBadGateway, failed, "user login failed")
			return
		}
		service.Success(c, gin.H{"order": r, "login": login})
	}
}

// statusOf says whose fault a failed call is.
func statusOf(err error) int {
	if errors.Is(err, service.ErrNoNode) {
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

func refuse(c *gin.Context, err error) {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		service.Failure(c, http.StatusRequestEntityTooLarge, failed, "body is too large")
		return
	}
	service.Failure(c, http.StatusBadRequest, failed, "body could not be read")
}

func receive(c *gin.Context) (received, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	if err != nil {
		return received{}, fmt.Errorf("read body: %w", err)
	}
	r := received{Body: shown(body), Headers: map[string]string{}, Method: c.Request.Method, raw: body}
	for name := range c.Request.Header {
		r.Headers[name] = c.Request.Header.Get(name)
	}
	if c.Request.URL.RawQuery != "" {
		r.URLParam = "?" + c.Request.URL.RawQuery
	}
	return r, nil
}

// shown is a JSON object as it is, anything else as text.
func shown(body []byte) any {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err == nil && object != nil {
		return json.RawMessage(body)
	}
	return string(body)
}
