package http1

import "bytes"

// Kind names the fields that this package itself understands.
type Kind uint8

// The kinds. Hop-by-hop kinds (RFC 9110 section 7.6.1) lie between KindConnection and KindUpgrade.
const (
	KindOther Kind = iota
	KindHost
	KindContentLength
	KindExpect
	KindDate
	KindConnection
	KindKeepAlive
	KindProxyConnection
	KindTE
	KindTransferEncoding
	KindUpgrade
)

// HopByHop reports whether the field is for this connection only and must not be forwarded.
func (k Kind) HopByHop() bool { return k >= KindConnection }

// Field is one field line: views of the head's buffer.
type Field struct {
	Name, Value []byte
	Start, End  int // the whole line in the buffer, with its CRLF
	Kind        Kind
	Nominated   bool // named by a Connection field: hop-by-hop too
}

func kindOf(name []byte) Kind {
	switch len(name) {
	case 2:
		if EqualFold(name, "te") {
			return KindTE
		}
	case 4:
		if EqualFold(name, "host") {
			return KindHost
		}
		if EqualFold(name, "date") {
			return KindDate
		}
	case 6:
		if EqualFold(name, "expect") {
			return KindExpect
		}
	case 7:
		if EqualFold(name, "upgrade") {
			return KindUpgrade
		}
	case 10:
		if EqualFold(name, "connection") {
			return KindConnection
		}
		if EqualFold(name, "keep-alive") {
			return KindKeepAlive
		}
	case 14:
		if EqualFold(name, "content-length") {
			return KindContentLength
		}
	case 16:
		if EqualFold(name, "proxy-connection") {
			return KindProxyConnection
		}
	case 17:
		if EqualFold(name, "transfer-encoding") {
			return KindTransferEncoding
		}
	}
	return KindOther
}

// parse reads one field line, which begins at start: a token, a colon, optional white space, a value without control
// characters (RFC 9112 section 5). f is new, and of no use after an error.
func (f *Field) parse(line []byte, start int) error {
	if line[0] == ' ' || line[0] == '\t' {
		return ErrFold
	}
	colon := 0 // the name ends at what is no token, which has to be a colon: one look at each byte
	for colon < len(line) && class[line[colon]]&isToken != 0 {
		colon++
	}
	if colon == 0 || colon == len(line) || line[colon] != ':' {
		if bytes.IndexByte(line, ':') < 0 {
			return ErrNoColon
		}
		return ErrFieldName
	}
	f.Name, f.Value = line[:colon], trim(line[colon+1:])
	for _, c := range f.Value {
		if class[c]&isValue == 0 {
			if c == '\r' {
				return ErrBareCR
			}
			return ErrControl
		}
	}
	f.Kind, f.Nominated = kindOf(f.Name), false
	if f.Kind == KindTransferEncoding && bytes.IndexByte(line, '\t') >= 0 {
		return ErrCodingSyntax // allowed, never sent, and not understood by all
	}
	// What trim took away was SP and HTAB only, so the whole line is clean.
	f.Start, f.End = start, start+len(line)+2
	return nil
}

// message is what the heads of requests and answers share.
type message struct {
	Fields        []Field
	ContentLength int64 // -1 when there is none
	Chunked       bool  // Transfer-Encoding: chunked
	Minor         uint8 // of HTTP/1.x: 0 or 1
	Close         bool  // the sender wants, or the version implies, no further message on the connection
	Upgrade       []byte
	TETrailers    bool // TE: trailers
	HasDate       bool
	host          []byte
	hosts         int
	codings       int
	expect        bool
	keepAlive     bool
	upgradeOption bool
}

func (m *message) reset() {
	fields := m.Fields[:0]
	*m = message{ContentLength: -1, Fields: fields}
}

// fields parses the field lines from line first on.
func (m *message) fields(buf []byte, s *Scanner, first int, lim Limits) error {
	if n := s.count - first; lim.Lines > 0 && n > lim.Lines {
		return ErrLines
	}
	connections := false
	for i := first; i < s.count; i++ {
		line, start := s.line(buf, i)
		f := m.field()
		if err := f.parse(line, start); err != nil {
			m.Fields = m.Fields[:len(m.Fields)-1]
			return err
		}
		if f.Kind != KindOther {
			if err := m.note(f); err != nil {
				return err
			}
			connections = connections || f.Kind == KindConnection
		}
	}
	if m.codings > 0 {
		if m.ContentLength >= 0 {
			return ErrLengthAndCoding
		}
		if m.Minor == 0 {
			return ErrCodingVersion
		}
		if !m.Chunked {
			return ErrCodingOrder
		}
	}
	if connections {
		if err := m.connection(); err != nil {
			return err
		}
	}
	if !m.upgradeOption {
		m.Upgrade = nil
	}
	if m.Minor == 0 && !m.keepAlive {
		m.Close = true
	}
	return nil
}

// field makes room for one more field and returns it.
func (m *message) field() *Field {
	if n := len(m.Fields); n < cap(m.Fields) {
		m.Fields = m.Fields[:n+1]
	} else {
		m.Fields = append(m.Fields, Field{})
	}
	return &m.Fields[len(m.Fields)-1]
}

// note takes in a field of a known kind.
func (m *message) note(f *Field) error {
	switch f.Kind {
	case KindHost:
		m.hosts++
		m.host = f.Value
	case KindContentLength:
		if m.ContentLength >= 0 {
			return ErrLengthTwice
		}
		n, ok := parseLength(f.Value)
		if !ok {
			return ErrLength
		}
		m.ContentLength = n
	case KindTransferEncoding:
		return m.coding(f.Value)
	case KindUpgrade:
		m.Upgrade = f.Value
	case KindDate:
		m.HasDate = true
	case KindTE:
		for rest := f.Value; ; {
			e, r, ok := NextToken(rest)
			if !ok {
				break
			}
			rest = r
			m.TETrailers = m.TETrailers || EqualFold(e, "trailers")
		}
	case KindExpect:
		if !EqualFold(f.Value, "100-continue") {
			return ErrExpect
		}
		m.expect = true
	}
	return nil
}

// coding takes in a Transfer-Encoding line. Only a single chunked is understood.
func (m *message) coding(value []byte) error {
	for rest := value; ; {
		e, r, ok := NextToken(rest)
		if !ok {
			return nil
		}
		rest = r
		if len(e) == 0 {
			return ErrCodingSyntax
		}
		m.codings++
		switch {
		case m.Chunked:
			return ErrCodingOrder // chunked twice, or not last
		case EqualFold(e, "chunked"):
			m.Chunked = true
		case !all(e, isToken):
			return ErrCodingSyntax
		default:
			return ErrCodingUnknown
		}
	}
}

// connection takes in every Connection line and marks the fields they name.
func (m *message) connection() error {
	for i := range m.Fields {
		if m.Fields[i].Kind != KindConnection {
			continue
		}
		for rest := m.Fields[i].Value; ; {
			e, r, ok := NextToken(rest)
			if !ok {
				break
			}
			rest = r
			if err := m.option(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *message) option(e []byte) error {
	switch {
	case len(e) == 0:
		return nil
	case EqualFold(e, "close"):
		m.Close = true
	case EqualFold(e, "keep-alive"):
		m.keepAlive = true
	case EqualFold(e, "upgrade"):
		m.upgradeOption = true
	case !all(e, isToken):
		return ErrConnectionToken
	default:
		switch kindOf(e) {
		case KindHost, KindContentLength, KindTransferEncoding, KindConnection:
			return ErrConnection
		}
		for i := range m.Fields {
			f := &m.Fields[i]
			if len(f.Name) == len(e) && bytes.EqualFold(f.Name, e) {
				f.Nominated = true
			}
		}
	}
	return nil
}

// parseLength reads a Content-Length: digits only, below 2^62 (RFC 9110 section 8.6).
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
