package route_test

import (
	"fmt"

	"github.com/goms-io/goms/pkg/route"
)

func Example() {
	table, err := route.New(route.DefaultPrefix, route.Services{
		"user": {"login": {Path: "/login", Methods: []string{"POST"}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, request := range []struct{ method, path string }{
		{"POST", "/api/%75ser/login"},
		{"GET", "/api/user/login"},
		{"POST", "/api/user/../login"},
	} {
		path, err := route.Canonical(nil, []byte(request.path))
		if err != nil {
			fmt.Println(err)
			continue
		}
		rule, err := table.Match([]byte(request.method), path)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(rule.SpanName([]byte(request.method)), "goes to", rule.Service, rule.Path)
	}
	// Output:
	// POST /api/user/login goes to user /login
	// method not allowed: the route serves POST
	// bad path: it holds a dot segment
}
