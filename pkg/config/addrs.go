package config

import "strings"

// SplitAddrs splits s at '|' and ',' into trimmed, non-empty addresses:
// "a:1|b:2, c:3" is three of them. The order stays.
func SplitAddrs(s string) []string {
	var addrs []string
	for _, a := range strings.FieldsFunc(s, func(r rune) bool { return r == '|' || r == ',' }) {
		if a = strings.TrimSpace(a); a != "" {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
