package gateway

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/lb"
)

// What hash can go by.
const (
	hashClient = "clientAddress"
	hashPath   = "path"
	hashHeader = "header:"
	hashCookie = "cookie:"
)

// hashOn is what the key of a request is made of.
type hashOn struct {
	path   bool
	header string // in lower case; with cookie, at most one of them: none of all is the client's address
	cookie []byte
}

// parseHashOn reads what hash goes by.
func parseHashOn(s string) (hashOn, error) {
	header, isHeader := strings.CutPrefix(s, hashHeader)
	cookie, isCookie := strings.CutPrefix(s, hashCookie)
	switch {
	case s == hashClient:
		return hashOn{}, nil
	case s == hashPath:
		return hashOn{path: true}, nil
	case isHeader && token(header):
		return hashOn{header: strings.ToLower(header)}, nil
	case isCookie && token(cookie):
		return hashOn{cookie: []byte(cookie)}, nil
	}
	return hashOn{}, fmt.Errorf("%q is nothing to go by: there are clientAddress, path, header:NAME, cookie:NAME", s)
}

// token reports whether s may be the name of a field or a cookie (RFC 9110 section 5.6.2).
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r)
	})
}

// key returns the key of a request, for lb.Pool.
func (h *hashOn) key(x *exchange) uint64 {
	switch {
	case h.path:
		return lb.HashKey(x.path)
	case h.header != "":
		for i := range x.req.Fields {
			if f := &x.req.Fields[i]; http1.EqualFold(f.Name, h.header) {
				return lb.HashKey(f.Value)
			}
		}
	case h.cookie != nil:
		for i := range x.req.Fields {
			f := &x.req.Fields[i]
			if !http1.EqualFold(f.Name, "cookie") {
				continue
			}
			if value, ok := cookie(f.Value, h.cookie); ok {
				return lb.HashKey(value)
			}
		}
	}
	return addressKey(x)
}

func addressKey(x *exchange) uint64 {
	addr := x.client
	if !addr.IsValid() {
		addr = x.peer.Addr()
	}
	if !addr.IsValid() { // a client over a Unix socket
		return 0
	}
	b := addr.As16()
	return lb.HashKey(b[:])
}

// cookie returns the value of the named cookie in a Cookie field (RFC 6265 section 4.2.1).
func cookie(field, name []byte) (value []byte, ok bool) {
	for len(field) > 0 {
		pair, rest, _ := bytes.Cut(field, semicolon)
		field = rest
		pair = bytes.TrimLeft(pair, " \t")
		if len(pair) > len(name) && pair[len(name)] == '=' && bytes.Equal(pair[:len(name)], name) {
			return bytes.TrimRight(pair[len(name)+1:], " \t"), true
		}
	}
	return nil, false
}

var semicolon = []byte(";")
