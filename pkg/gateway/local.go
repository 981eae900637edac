package gateway

import (
	"errors"
	"strconv"

	"github.com/goms-io/goms/pkg/route"
)

// local is an answer that the gateway gives itself.
type local struct {
	status      int
	reason      Reason
	contentType string
	allow       string
	retryAfter  string
	body        []byte
}

// refuse makes the answer to an error.
func (x *exchange) refuse(err error) *local {
	reason, status := statusOf(err)
	x.reason, x.status, x.cause = reason, status, err
	l := &local{status: status, reason: reason, contentType: "application/json"}
	if m, ok := errors.AsType[*route.MethodError](err); ok {
		l.allow = m.Allow
	}
	if status == 503 {
		l.retryAfter = "1"
	}
	l.body = appendErrorBody(nil, status, reason, x.id)
	return l
}

func appendErrorBody(dst []byte, status int, reason Reason, id []byte) []byte {
	dst = append(dst, `{"status":false,"code":`...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, `,"reason":"`...)
	dst = append(dst, reasons[reason].name...)
	dst = append(dst, `","msg":"`...)
	dst = append(dst, reasons[reason].msg...)
	dst = append(dst, `","requestId":"`...)
	dst = append(dst, id...) // letters, digits and "-_." only
	return append(dst, "\"}\n"...)
}

// appendLocal appends the whole of an answer of the gateway's own.
func (x *exchange) appendLocal(dst []byte, l *local) []byte {
	if x.gw.draining.Load() {
		x.close = true
	}
	x.status = l.status
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(l.status), 10)
	dst = append(dst, ' ')
	dst = append(dst, statusText(l.status)...)
	dst = append(dst, "\r\nContent-Type: "...)
	dst = append(dst, l.contentType...)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(l.body)), 10)
	dst = append(dst, "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"...)
	dst = append(dst, x.gw.date.Load().line...)
	if l.allow != "" {
		dst = append(dst, "Allow: "...)
		dst = append(dst, l.allow...)
		dst = append(dst, "\r\n"...)
	}
	if l.retryAfter != "" {
		dst = append(dst, "Retry-After: "...)
		dst = append(dst, l.retryAfter...)
		dst = append(dst, "\r\n"...)
	}
	if len(x.id) > 0 {
		dst = append(dst, "X-Request-Id: "...)
		dst = append(dst, x.id...)
		dst = append(dst, "\r\n"...)
	}
	switch {
	case x.close:
		dst = append(dst, "Connection: close\r\n"...)
	case x.req.Minor == 0:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	dst = append(dst, "\r\n"...)
	if !x.head {
		dst = append(dst, l.body...)
	}
	return dst
}
