package lb_test

import (
	"errors"
	"fmt"

	"github.com/goms-io/goms/pkg/lb"
)

func ExamplePool() {
	pool := lb.NewPool("user", lb.Options{})
	pool.Update([]lb.Spec{
		{ID: "a", Addr: "10.0.0.1:80", Weight: 2},
		{ID: "b", Addr: "10.0.0.2:80", Weight: 1},
	})
	send := func(addr string) error {
		if addr == "10.0.0.1:80" {
			return errors.New("connection refused")
		}
		return nil
	}

	var tried []*lb.Node
	for {
		node := pool.Pick(tried, 0)
		if node == nil {
			fmt.Println("no node")
			return
		}
		node.Begin()
		err := send(node.Addr())
		node.End()
		if err == nil {
			pool.Succeeded(node)
			pool.Done(node)
			fmt.Println("answered by", node.ID())
			break
		}
		pool.Failed(node)
		tried = append(tried, node)
	}
	fmt.Println("finished", pool.Status().RequestFinish)
	// Output:
	// answered by b
	// finished 1
}
