//go:build !linux || !amd64

package process

import (
	"errors"
	"os/exec"
	"time"
)

type clock struct{}

func startClock(*exec.Cmd) (*clock, error) {
	return nil, errors.New("the code that would do so is for Linux on amd64")
}

func (*clock) set(time.Duration) error { return nil }

func (*clock) close() {}
