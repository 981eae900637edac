package gateway

import (
	"strings"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/http1"
)

// owned names the fields that the gateway vouches for: whatever a client sends under such a name, in
// any spelling, is not what a node sees under it.
type owned uint8

const (
	ownNone        owned = iota
	ownCallKey           // never a client's
	ownForwarded         // X-Forwarded-For
	ownProto             // X-Forwarded-Proto
	ownHost              // X-Forwarded-Host
	ownProxy             // other statements of a proxy: passed on from trusted ones, else dropped
	ownRequestID         // X-Request-Id
	ownTrace             // B3 and W3C trace context
	ownVia               // kept, and added to
	ownForwards          // Max-Forwards
	ownHere              // for this hop, though not named so: proxy credentials, HTTP2-Settings. They go no further
	ownGoms              // Goms-*: what gateways and nodes tell one another
	ownTimeout           // X-Request-Timeout-Ms: how long the request may take
	ownGRPCTimeout       // Grpc-Timeout: the same, of a call
)

var callKeyAlias = strings.ToLower(auth.CallKeyHeader)

// ownedField says whether the gateway vouches for the named field. Spellings with '_' or '.' for '-'
// count, since some servers fold them into one.
func ownedField(name []byte) owned {
	switch name[0] | 0x20 {
	case 'b':
		if len(name) == 2 && name[1] == '3' {
			return ownTrace
		}
	case 'c':
		if http1.EqualAlias(name, callKeyAlias) {
			return ownCallKey
		}
	case 'f':
		if http1.EqualAlias(name, "forwarded") {
			return ownProxy
		}
	case 'g':
		switch {
		case len(name) >= 5 && http1.EqualAlias(name[:5], "goms-"):
			return ownGoms
		case http1.EqualAlias(name, "grpc-timeout"):
			return ownGRPCTimeout
		}
	case 'h':
		if http1.EqualAlias(name, "http2-settings") {
			return ownHere
		}
	case 'm':
		if http1.EqualFold(name, "max-forwards") {
			return ownForwards
		}
	case 'p':
		if http1.EqualAlias(name, "proxy-authorization") || http1.EqualAlias(name, "proxy-authenticate") {
			return ownHere
		}
	case 't':
		if http1.EqualAlias(name, "traceparent") || http1.EqualAlias(name, "tracestate") {
			return ownTrace
		}
	case 'v':
		if http1.EqualAlias(name, "via") {
			return ownVia
		}
	case 'x':
		return ownedX(name)
	}
	return ownNone
}

func ownedX(name []byte) owned {
	switch {
	case len(name) >= 12 && http1.EqualAlias(name[:12], "x-forwarded-"):
		switch {
		case http1.EqualAlias(name[12:], "for"):
			return ownForwarded
		case http1.EqualAlias(name[12:], "proto"):
			return ownProto
		case http1.EqualAlias(name[12:], "host"):
			return ownHost
		}
		return ownProxy
	case http1.EqualAlias(name, "x-request-id"):
		return ownRequestID
	case http1.EqualAlias(name, timeoutAlias):
		return ownTimeout
	case http1.EqualAlias(name, "x-real-ip"):
		return ownProxy
	case len(name) >= 5 && http1.EqualAlias(name[:5], "x-b3-"):
		return ownTrace
	}
	return ownNone
}

// alias reports whether a name is spelt with '_' or '.', so that it is not the header it looks like.
func alias(name []byte) bool {
	for _, c := range name {
		if c == '_' || c == '.' {
			return true
		}
	}
	return false
}

// ownedSecret reports whether a field of an answer is kept from clients.
func ownedSecret(name []byte) bool {
	switch ownedField(name) {
	case ownCallKey, ownHere, ownGoms:
		return true
	}
	return false
}
