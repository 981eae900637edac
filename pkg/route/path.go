package route

import (
	"bytes"
	"errors"
	"slices"
)

// ErrPath is what every error of Canonical is, by errors.Is.
var ErrPath = errors.New("bad path")

// PathError says why a path was refused. It holds nothing of the path.
type PathError struct {
	// Reason completes the sentence "the path …".
	Reason string
}

// Error returns the message.
func (e *PathError) Error() string { return "bad path: it " + e.Reason }

// Unwrap returns ErrPath.
func (e *PathError) Unwrap() error { return ErrPath }

// The errors are made once: refusing a path must not cost more than serving it.
var (
	errRelative  = &PathError{`does not begin with "/"`}
	errEscape    = &PathError{"holds an invalid percent-encoding"}
	errSlash     = &PathError{"holds an encoded slash"}
	errBackslash = &PathError{"holds a backslash"}
	errControl   = &PathError{"holds a control character"}
	errDots      = &PathError{"holds a dot segment"}
	errEmpty     = &PathError{"holds an empty segment"}
	errNonASCII  = &PathError{"holds a byte outside ASCII that is not percent-encoded"}
	errDelimiter = &PathError{`holds "?" or "#"`}
	errCharacter = &PathError{"holds a character that must be percent-encoded"}
)

// Canonical returns the one form of a path that tables match and nodes are sent, or a
// *PathError. raw is the path of a request target without its query.
//
// Percent-encoded letters, digits and "-._~" are decoded, the digits of other encodings
// are put in upper case (RFC 3986, 6.2.2), and nothing else is changed: what could be
// read in two ways is refused. That is
//   - an invalid percent-encoding, an encoded slash, and a backslash or a control
//     character whether encoded or not
//   - "." and ".." as a segment, encoded or not, also before a path parameter ("..;a")
//   - an empty segment ("//", "/;a"), except that a path may end in a slash
//   - any other character that RFC 3986 does not allow in a path
//
// An encoding of an encoding ("%252e") stays one: canonical paths are to be decoded once.
//
// A path that is canonical already is returned itself: the result is raw. Otherwise
// the result is in dst's array, from its beginning, or in a new one when dst is too
// small. dst may be raw[:0]; raw is then overwritten, also when there is an error. The
// result is never longer than raw, and Canonical of it is itself.
func Canonical(dst, raw []byte) ([]byte, error) {
	if len(raw) == 0 || raw[0] != '/' {
		return nil, errRelative
	}
	path := raw
	if i := bytes.IndexByte(raw, '%'); i >= 0 {
		var err *PathError
		if path, err = recode(dst, raw, i); err != nil {
			return nil, err
		}
	}
	if err := check(path); err != nil {
		return nil, err
	}
	return path, nil
}

// recode gives each percent-encoding in raw its canonical form; the first is at i.
func recode(dst, raw []byte, i int) ([]byte, *PathError) {
	out := dst[:0]
	done := 0 // raw[:done] is in out; nothing was changed while it is 0
	for i < len(raw) {
		if raw[i] != '%' {
			i++
			continue
		}
		if i+2 >= len(raw) || !hex(raw[i+1]) || !hex(raw[i+2]) {
			return nil, errEscape
		}
		c := value(raw[i+1])<<4 | value(raw[i+2])
		if err := encoded(c); err != nil {
			return nil, err
		}
		if unreserved(c) || raw[i+1] >= 'a' || raw[i+2] >= 'a' {
			hi, lo := raw[i+1], raw[i+2]
			if done == 0 {
				out = slices.Grow(out, len(raw))
			}
			out = append(out, raw[done:i]...)
			if unreserved(c) {
				out = append(out, c)
			} else {
				out = append(out, '%', upper(hi), upper(lo))
			}
			done = i + 3
		}
		i += 3
	}
	if done == 0 {
		return raw, nil
	}
	return append(out, raw[done:]...), nil
}

// check holds a path whose encodings are canonical against the grammar.
func check(path []byte) *PathError {
	start := 1
	for i := 1; i < len(path); i++ {
		switch c := path[i]; {
		case inSegment[c]:
		case c == '/':
			if err := checkSegment(path[start:i]); err != nil {
				return err
			}
			start = i + 1
		default:
			return misplaced(c)
		}
	}
	if start == len(path) {
		return nil // the root, or a trailing slash
	}
	return checkSegment(path[start:])
}

// checkSegment refuses segments that a node might take for another path, because it
// resolves dots or drops path parameters.
func checkSegment(s []byte) *PathError {
	if len(s) == 0 {
		return errEmpty
	}
	if s[0] != '.' && s[0] != ';' && s[0] != '%' {
		return nil
	}
	if i := bytes.IndexByte(s, ';'); i >= 0 {
		s = s[:i]
	}
	if i := bytes.Index(s, []byte("%3B")); i >= 0 {
		s = s[:i]
	}
	switch string(s) {
	case "":
		return errEmpty
	case ".", "..":
		return errDots
	}
	return nil
}

// encoded returns why c must not be in a path even when it is encoded, or nil.
func encoded(c byte) *PathError {
	switch {
	case c == '/':
		return errSlash
	case c == '\\':
		return errBackslash
	case c < ' ' || c == 0x7f:
		return errControl
	}
	return nil
}

// misplaced returns why c, which is not allowed in a path, is not.
func misplaced(c byte) *PathError {
	switch {
	case c == '\\':
		return errBackslash
	case c < ' ' || c == 0x7f:
		return errControl
	case c >= 0x80:
		return errNonASCII
	case c == '?' || c == '#':
		return errDelimiter
	}
	return errCharacter
}

// inSegment tells the characters of a segment: pchar of RFC 3986, 3.3, and the percent
// sign, which recode has dealt with.
var inSegment = func() (in [256]bool) {
	for c := range in {
		in[c] = unreserved(byte(c))
	}
	for _, c := range "!$&'()*+,;=:@%" {
		in[c] = true
	}
	return in
}()

// unreserved reports whether c needs no encoding anywhere in a URI (RFC 3986, 2.3).
func unreserved(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '-' || c == '.' || c == '_' || c == '~'
}

func hex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// value returns the value of a hexadecimal digit.
func value(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// upper returns a hexadecimal digit in upper case.
func upper(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 'A'
	}
	return c
}
