package service_test

import (
	"context"
	"fmt"

	"github.com/gin-gonic/gin"

	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/service"
)

// A node: its routes, and a call to another service on the way.
func ExampleMain() {
	service.Main("order", func(s *service.Service) error {
		s.POST("/order/submit", func(c *gin.Context) {
			resp, err := s.Call(c, "user", "login", &service.Request{JSON: gin.H{"name": "ann"}})
			if err != nil {
				service.Failure(c, 502, 1, "login is not possible now")
				return
			}
			var user struct{ Name string }
			if err := resp.Decode(&user); err != nil {
				service.Failure(c, 401, 2, "login refused")
				return
			}
			service.Success(c, user)
		})
		return nil
	})
}

// Run is for programs and tests that keep control; without a key a node does not start.
func ExampleRun() {
	err := service.Run(context.Background(), service.Options{
		Name: "user",
		Env:  func(string) (string, bool) { return "", false },
		Args: []string{"-http_port", "0", "-rpc_port", "0"},
	}, nil)
	fmt.Println(project.ExitCode(err))
	// Output: 3
}
