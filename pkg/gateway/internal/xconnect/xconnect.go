// Package xconnect makes net/http's HTTP/2 server take extended CONNECT (RFC 8441), which WebSocket over
// HTTP/2 needs. Importing it is all there is to it:
//
//	import _ "github.com/goms-io/goms/pkg/gateway/internal/xconnect"
//
// The server of net/http leaves extended CONNECT out unless the environment variable GODEBUG holds
// http2xconnect=1 when net/http is initialised, and offers no other way. This package puts it there. It is
// early enough, since the language initialises packages in the order of their import paths, each as soon as
// all it imports is initialised: what this package imports, net/http imports too, and "github.com/" sorts
// before "net/http". A test of the gateway looks for the setting that the server sends.
//
// What else the variable holds stays as it is, and http2xconnect=0 in it keeps the extension off.
package xconnect

import (
	"os"
	"strings"
)

func init() {
	const name, key = "GODEBUG", "http2xconnect="
	old := os.Getenv(name) //nolint:forbidigo // net/http can be told in no other way
	if strings.Contains(old, key) {
		return
	}
	if old != "" {
		old += ","
	}
	os.Setenv(name, old+key+"1") //nolint:errcheck,forbidigo // as above; neither name nor value can be refused
}
