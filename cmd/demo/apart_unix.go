//go:build unix && !linux

package main

import (
	"os/exec"
	"syscall"
)

// apart keeps the terminal's Ctrl-C from the process, so that the demo stops all in order.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
