//go:build !linux

package e2e_test

import (
	"syscall"
	"testing"
)

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// resetPeakRSS reports that memory cannot be measured: there is no /proc.
func resetPeakRSS(*testing.T, int) bool { return false }

func rss(*testing.T, int) (now, peak int64) { return 0, 0 }
