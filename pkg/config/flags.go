package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// UsageError is a mistake on the command line, in words for the person who typed
// it.
type UsageError struct{ Err error }

// Error returns the text of Err.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UsageError) Unwrap() error { return e.Err }

// ParseFlags parses args, without the program's name, into fs. A long flag may have
// one dash or two, '_' or '-' between its words, and '=' or a blank before its
// value; flags are known by their names with '_' from here on. One-letter flags
// keep pflag's rules, but no letter that takes a value may begin a long flag's name.
//
// It returns nil, pflag.ErrHelp itself for -h and --help, after the usage was
// printed, or *UsageError. It never exits, whatever error handling fs was made
// with. What is no flag is left in fs.Args.
func ParseFlags(fs *pflag.FlagSet, args []string) error {
	before := fs.GetNormalizeFunc()
	fs.SetNormalizeFunc(func(fs *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(string(before(fs, name)), "-", "_"))
	})
	fs.Init(fs.Name(), pflag.ContinueOnError)
	err := fs.Parse(twoDashes(fs, args))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pflag.ErrHelp):
		return pflag.ErrHelp
	}
	return &UsageError{Err: explain(fs, err)}
}

// twoDashes returns args with -name written --name. pflag alone reads -http_port as
// a group of one-letter flags, beginning with -h for help. A word that is the value
// of the flag before it stays as it is.
func twoDashes(fs *pflag.FlagSet, args []string) []string {
	out := make([]string, len(args))
	copy(out, args)
	for i := 0; i < len(out); i++ {
		arg := out[i]
		if arg == "--" {
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			continue
		}
		if isLong(fs, arg) {
			arg = "--" + strings.TrimLeft(arg, "-")
			if !strings.HasPrefix(out[i], "--") {
				out[i] = arg
			}
		}
		if takesNext(fs, arg) {
			i++
		}
	}
	return out
}

// isLong says whether arg, which begins with a dash, is a flag of several letters.
func isLong(fs *pflag.FlagSet, arg string) bool {
	if strings.HasPrefix(arg, "--") {
		return true
	}
	name, _, _ := strings.Cut(arg[1:], "=")
	if len(name) < 2 {
		return false
	}
	// A typo of a long flag is to be called so, not taken for letters.
	return name == "help" || fs.Lookup(name) != nil || fs.ShorthandLookup(name[:1]) == nil
}

// takesNext says whether the value of the flag in arg is the word after it.
func takesNext(fs *pflag.FlagSet, arg string) bool {
	if long, ok := strings.CutPrefix(arg, "--"); ok {
		name, _, hasValue := strings.Cut(long, "=")
		f := fs.Lookup(name)
		return f != nil && !hasValue && f.NoOptDefVal == ""
	}
	for letters := arg[1:]; letters != ""; letters = letters[1:] {
		f := fs.ShorthandLookup(letters[:1])
		if f == nil || strings.HasPrefix(letters[1:], "=") {
			return false
		}
		if f.NoOptDefVal == "" {
			return len(letters) == 1
		}
	}
	return false
}

// explain says in our words what pflag found.
func explain(fs *pflag.FlagSet, err error) error {
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := e.GetSpecifiedName()
		if s := Suggest(name, flagNames(fs)); s != "" && len(name) > 1 {
			return fmt.Errorf("unknown flag -%s (did you mean -%s?)", plainly(name), s)
		}
		return fmt.Errorf("unknown flag -%s", plainly(name))
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Errorf("flag -%s needs a value", e.GetFlag().Name)
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		why := e.Unwrap()
		if ne, ok := errors.AsType[*strconv.NumError](why); ok {
			why = ne.Err
		}
		return fmt.Errorf("parse flag -%s: value %s: %w", e.GetFlag().Name, quote(e.GetValue()), why)
	}
	if e, ok := errors.AsType[*pflag.InvalidSyntaxError](err); ok {
		return fmt.Errorf("malformed flag %s", quote(e.GetSpecifiedFlag()))
	}
	return err
}

func plainly(name string) string { return printable(shorten(name, 60)) }

func flagNames(fs *pflag.FlagSet) []string {
	var list []string
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Deprecated == "" {
			list = append(list, f.Name)
		}
	})
	return list
}
