// Command demo builds and runs one gateway, with an etcd inside it, and three nodes of the service
// user, as processes of their own, and says what to try. It needs nothing but Go.
//
//	go run ./cmd/demo
//
// Run it at the top of the source tree. It takes the ports of the documentation (8080, 8180, 8280,
// 9080 to 9082, 9180 to 9182, 2379) where they are free, and others where they are not. The
// call-service key is made at random. SIGINT and SIGTERM stop everything; no process and no file stays.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run is main without the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q: the demo takes none", args[0])
	}
	dir, err := os.MkdirTemp("", "goms-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if e := os.RemoveAll(dir); err == nil {
			err = e
		}
	}()
	d := &demo{dir: dir, stdout: &lines{w: stdout}, stderr: &lines{w: stderr}}
	defer d.stop()
	if err := d.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it was up
		}
		return err
	}
	d.explain()
	return d.wait(ctx)
}
