package route

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written "10MiB", "64KiB" or "512": units are powers of
// 1,024.
type Size int64

// units are the units of sizes, the largest first.
var units = []struct {
	name string
	size Size
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// UnmarshalText reads a whole number, of bytes or of the unit that follows it at once:
// KiB, MiB, GiB or TiB. Other text, a sign, and more than an int64 holds are errors, and
// leave s as it was.
func (s *Size) UnmarshalText(text []byte) error {
	digits, unit := string(text), Size(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(digits, u.name); ok {
			digits, unit = rest, u.size
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || Size(n) > math.MaxInt64/unit {
		return fmt.Errorf(`read size %q: want bytes, such as "512", "64KiB" or "10MiB"`, text)
	}
	*s = Size(n) * unit
	return nil
}

// MarshalText writes the size in the largest unit of which it is a whole number. The
// error is always nil.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String returns the size as MarshalText writes it.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
