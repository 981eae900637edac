package config

import (
	"fmt"
	"strings"
)

// expand replaces ${NAME}, ${NAME:-text} and $$ in s. A dollar sign before anything
// else stays. msg is what is wrong; it names nothing of a secret but the
// variable that is all of it.
func expand(s string, env func(string) (string, bool), secret bool) (text string, expanded bool, msg string) {
	if !strings.Contains(s, "$") {
		return s, false, ""
	}
	var b strings.Builder
	for rest := s; rest != ""; {
		before, after, found := strings.Cut(rest, "$")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), expanded, ""
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			rest = after[1:]
		case strings.HasPrefix(after, "{"):
			inner, tail, closed := strings.Cut(after[1:], "}")
			if !closed {
				return "", false, "has ${ without } (write $${ for the text itself)"
			}
			value, problem := lookup(inner, env)
			if problem != "" {
				if secret && len(inner)+len("${}") != len(s) {
					problem = "has a ${…} that is malformed or not set (write $${ for the text itself)"
				}
				return "", false, problem
			}
			b.WriteString(value)
			expanded, rest = true, tail
		default:
			b.WriteByte('$')
			rest = after
		}
	}
	return b.String(), expanded, ""
}

// lookup returns the value for what is between the braces.
func lookup(inner string, env func(string) (string, bool)) (value, problem string) {
	name, fallback, hasFallback := strings.Cut(inner, ":-")
	if !isVariable(name) || strings.Contains(fallback, "${") {
		return "", "has a malformed variable: write ${NAME} or ${NAME:-text}, without another ${ inside"
	}
	value, ok := env(name)
	switch {
	case hasFallback && value == "":
		return fallback, ""
	case !ok:
		return "", fmt.Sprintf("variable %s is not set (write ${%s:-text} for a default)", shorten(name, 60), shorten(name, 60))
	}
	return value, ""
}

func isVariable(s string) bool {
	for i, r := range s {
		if r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}
