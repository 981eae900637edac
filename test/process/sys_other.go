//go:build !linux

package process

import "syscall"

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// ResetPeak reports that memory cannot be measured: there is no /proc.
func (p *Process) ResetPeak() bool { return false }

// Memory returns nothing: see ResetPeak.
func (p *Process) Memory() (now, peak int64) { return 0, 0 }

// Files returns nothing: there is no /proc.
func (p *Process) Files() int { return 0 }
