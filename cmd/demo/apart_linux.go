package main

import (
	"os/exec"
	"runtime"
	"syscall"
)

func init() {
	// Pdeathsig is sent when the thread that started a child ends: start them from the main thread.
	runtime.LockOSThread()
}

// apart keeps the terminal's Ctrl-C from the process, so that the demo stops all in order, and lets
// the kernel stop it should the demo itself be killed.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
