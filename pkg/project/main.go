package project

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// oneSignal is how long signals count as the same one: timeout(1) and terminals send one to the process
// and one to its group.
const oneSignal = 500 * time.Millisecond

// UntilSignal returns a context that ends with the first SIGTERM or SIGINT. A second signal, half a
// second later or more, ends the process at once, with exit code 1. It is for main functions.
func UntilSignal(parent context.Context) context.Context {
	ctx, stop := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go stopOnSignal(signals, stop)
	return ctx
}

// OutliveLog keeps the process alive when nobody reads its output any more: SIGPIPE, which ends a Go program that writes to a closed
// standard output, is ignored from now on, and writing is an error instead. It is for main functions of processes that serve.
func OutliveLog() { signal.Ignore(syscall.SIGPIPE) }

// stopOnSignal lives as long as the process.
func stopOnSignal(signals <-chan os.Signal, stop context.CancelFunc) {
	<-signals
	stop()
	first := time.Now()
	for range signals {
		if time.Since(first) >= oneSignal {
			fmt.Fprintln(os.Stderr, "stop forced by a second signal")
			os.Exit(ExitFailure)
		}
	}
}
