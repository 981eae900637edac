package gateway

import (
	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/route"
)

// forwarded lists the common ones of the methods that may reach a node. No route serves CONNECT and TRACE.
const forwarded = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"

// errConnect refuses CONNECT: this is a gateway, no forward proxy.
var errConnect = &route.MethodError{Allow: forwarded}

// unlimited is what Max-Forwards says when it is not there.
const unlimited = -1

// wholeServer reports whether the request is OPTIONS for no resource, but the server (RFC 9110 section 9.3.7).
func (x *exchange) wholeServer() bool { return len(x.req.Path) == 1 && x.req.Path[0] == '*' }

// options answers OPTIONS in place of a node.
func (x *exchange) options(allow string) *local {
	l := x.own(200, "application/json", nil)
	l.allow = allow
	return l
}

// siftForwards takes in Max-Forwards, which counts for OPTIONS only, since TRACE goes nowhere (RFC 9110 section 7.6.2).
// It says whether the line is passed on as it is.
func (x *exchange) siftForwards(value []byte) (keep bool, err error) {
	if string(x.req.Method) != "OPTIONS" {
		return true, nil
	}
	n := int64(0)
	for _, c := range value {
		if c < '0' || c > '9' || len(value) > 18 {
			return false, &failure{reason: ReasonBadRequest}
		}
		n = n*10 + int64(c-'0')
	}
	if len(value) == 0 || x.forwards != unlimited {
		return false, &failure{reason: ReasonBadRequest}
	}
	x.forwards = n
	return false, nil
}

// upgradeRequired reports whether the answer has to name the protocol that the client should ask for (RFC 9110 section
// 15.5.22), though Upgrade is a field of the hop.
func (x *exchange) upgradeRequired() bool {
	return x.res.Status == 426 && x.req.Minor == 1 && len(x.res.Upgrade) > 0
}

// meaningless reports whether a field of the answer says what its status rules out: the length of a 204, which is
// often sent as 0 and must not be (RFC 9110 section 8.6).
func (x *exchange) meaningless(f *http1.Field) bool {
	return f.Kind == http1.KindContentLength && x.res.Status == 204
}
