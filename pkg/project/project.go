// Package project holds what all programs of one goms project have in common: the part of the
// configuration that gateways and services share, what is made of it, and the exit codes.
//
//	type Config struct {
//		Project project.Config `yaml:",inline"`
//		…
//	}
//	cfg := Config{Project: project.Default()}
//	err := config.Load("configs", &cfg, config.Options{EnvPrefix: project.EnvPrefix})
//	keys, err := cfg.Project.Keys()
//
// It knows nothing of what gateways or services do with it.
package project

import (
	"errors"

	"github.com/goms-io/goms/pkg/config"
)

// The exit codes of all programs.
const (
	ExitFailure = 1 // it could not start, or broke
	ExitUsage   = 2 // unknown flag or bad value of one
	ExitConfig  = 3 // invalid configuration
)

// CodeError is an error that has an exit code of its own, because a program's 1 says something else.
type CodeError struct {
	Code int
	Err  error
}

// Error returns the text of Err.
func (e *CodeError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *CodeError) Unwrap() error { return e.Err }

// ExitCode returns the code a program should exit with after it returned err: 0 for nil, that of a [CodeError], 2 for a wrong
// command line, 3 for an invalid configuration, else 1.
func ExitCode(err error) int {
	if coded, ok := errors.AsType[*CodeError](err); ok {
		return coded.Code
	}
	switch {
	case err == nil:
		return 0
	case is[*config.UsageError](err):
		return ExitUsage
	case is[*config.Errors](err), is[*config.Error](err), is[*ConfigError](err):
		return ExitConfig
	}
	return ExitFailure
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
