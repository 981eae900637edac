package http1

// Classes of octets (RFC 9110 section 5.6.2 and 5.5, RFC 3986 section 2).
const (
	isToken  = 1 << iota // tchar
	isValue              // field-vchar, SP, HTAB, obs-text
	isTarget             // visible ASCII: what a request target may hold
	isHost               // reg-name, IP literal and port
	isHex
)

var class = func() (t [256]uint8) {
	for c := 0x21; c < 0x7f; c++ {
		t[c] |= isValue | isTarget
	}
	t[' '] |= isValue
	t['\t'] |= isValue
	for c := 0x80; c < 0x100; c++ {
		t[c] |= isValue
	}
	for c := '0'; c <= '9'; c++ {
		t[c] |= isToken | isHost | isHex
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c] |= isToken | isHost
		t[c-'a'+'A'] |= isToken | isHost
	}
	for c := 'a'; c <= 'f'; c++ {
		t[c] |= isHex
		t[c-'a'+'A'] |= isHex
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= isToken
	}
	for _, c := range "-._~!$&'()*+,;=%:[]" {
		t[c] |= isHost
	}
	for _, c := range "\"#<>\\^`{|}" { // never in a URI (RFC 3986); some parsers still pass them on
		t[c] &^= isTarget
	}
	return t
}()

func all(b []byte, mask uint8) bool {
	for _, c := range b {
		if class[c]&mask == 0 {
			return false
		}
	}
	return true
}

// lower maps ASCII letters to lower case and leaves the rest.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// EqualFold reports whether b is s when ASCII case is ignored. s must be lower case.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(b) {
		if lower(b[i]) != s[i] {
			return false
		}
	}
	return true
}

// EqualAlias reports whether b is s when ASCII case is ignored and '_' and '.' count as '-': the
// spellings that some servers fold into one variable. s must be lower case.
func EqualAlias(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(b) {
		c := lower(b[i])
		if c == '_' || c == '.' {
			c = '-'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// trim cuts optional white space (SP, HTAB) from both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// NextToken cuts the first element off a comma-separated list (RFC 9110 section 5.6.1) and returns
// it trimmed, with the rest of the list. Empty elements come back empty. ok is false at the end.
func NextToken(list []byte) (element, rest []byte, ok bool) {
	if list == nil {
		return nil, nil, false
	}
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:], true
		}
	}
	return trim(list), nil, true
}
