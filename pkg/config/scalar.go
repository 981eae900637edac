package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setNumber sets v, a number, boolean or duration, and returns what is wrong with
// the text, without the text itself.
func setNumber(v reflect.Value, text string) string {
	switch {
	case v.Type() == durationType:
		return setDuration(v, text)
	case v.Kind() == reflect.Bool:
		return setBool(v, text)
	case v.CanInt():
		return setInt(v, text)
	case v.CanUint():
		return setUint(v, text)
	}
	return setFloat(v, text)
}

func setBool(v reflect.Value, text string) string {
	switch text {
	case "true", "True", "TRUE":
		v.SetBool(true)
	case "false", "False", "FALSE":
		v.SetBool(false)
	default:
		return "must be true or false"
	}
	return ""
}

func setDuration(v reflect.Value, text string) string {
	if isDecimal(strings.TrimLeft(text, "+-")) {
		return `needs a unit, like "10s"`
	}
	dur, err := time.ParseDuration(text)
	if err != nil {
		return `must be a duration like "10s"`
	}
	v.SetInt(int64(dur))
	return ""
}

func setInt(v reflect.Value, text string) string {
	digits := strings.TrimPrefix(strings.TrimPrefix(text, "-"), "+")
	if !isWhole(digits) || strings.HasPrefix(text, "-+") {
		return "must be a whole number"
	}
	bits := v.Type().Bits()
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		limit := int64(math.MaxInt64) >> (64 - bits)
		return fmt.Sprintf("must be between %d and %d", -limit-1, limit)
	}
	v.SetInt(n)
	return ""
}

func setUint(v reflect.Value, text string) string {
	digits := strings.TrimPrefix(text, "+")
	if !isWhole(strings.TrimPrefix(digits, "-")) {
		return "must be a whole number"
	}
	bits := v.Type().Bits()
	n, err := strconv.ParseUint(digits, 10, bits)
	if err != nil {
		return fmt.Sprintf("must be between 0 and %d", uint64(math.MaxUint64)>>(64-bits))
	}
	v.SetUint(n)
	return ""
}

func setFloat(v reflect.Value, text string) string {
	if !isDecimal(strings.TrimPrefix(strings.TrimPrefix(text, "-"), "+")) {
		return "must be a number"
	}
	f, err := strconv.ParseFloat(text, v.Type().Bits())
	if errors.Is(err, strconv.ErrRange) {
		return "is too large a number"
	}
	if err != nil {
		return "must be a number"
	}
	v.SetFloat(f)
	return ""
}

// isWhole says whether s is decimal digits only. A leading zero is refused: some
// YAML readers take 010 for eight.
func isWhole(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == "" && (len(s) == 1 || s[0] != '0')
}

// isDecimal says whether s may be an unsigned number like 1, 0.5 or 1e6. It keeps
// out Inf, NaN, hexadecimal and underscores.
func isDecimal(s string) bool {
	return s != "" && strings.Trim(s, "0123456789.eE+-") == "" && strings.ContainsAny(s[:1], "0123456789.")
}

// guess returns the value of a scalar that nobody gave a type.
func guess(text string, plain bool) any {
	if !plain {
		return text
	}
	var b bool
	var i int
	var f float64
	switch {
	case setBool(reflect.ValueOf(&b).Elem(), text) == "":
		return b
	case setInt(reflect.ValueOf(&i).Elem(), text) == "":
		return i
	case setFloat(reflect.ValueOf(&f).Elem(), text) == "":
		return f
	}
	return text
}
