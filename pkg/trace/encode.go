package trace

import (
	"net"
	"net/netip"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/openzipkin/zipkin-go/model"
)

// appendSpan appends s as a Zipkin v2 JSON object.
func appendSpan(dst []byte, s *Span, local endpoint) []byte {
	dst = appendIDs(dst, s.TraceID, s.SpanID, s.ParentID)
	if s.Kind == Client {
		dst = append(dst, `,"kind":"CLIENT"`...)
	} else {
		dst = append(dst, `,"kind":"SERVER"`...)
	}
	if s.Name != "" {
		dst = append(dst, `,"name":`...)
		dst = appendString(dst, s.Name, true)
	}
	dst = appendTimestamp(dst, s.Start)
	dst = appendDuration(dst, s.Duration)
	if s.Sampling == Debug {
		dst = append(dst, `,"debug":true`...)
	}
	dst = append(dst, local...)
	dst = appendEndpoint(dst, "remoteEndpoint", s.RemoteService, s.RemoteAddr)
	dst = appendTags(dst, s)
	return append(dst, '}')
}

func appendTags(dst []byte, s *Span) []byte {
	const open = `,"tags":{`
	mark := len(dst)
	dst = append(dst, open...)
	if s.Method != "" {
		dst = append(dst, `"http.method":`...)
		dst = append(appendString(dst, s.Method, false), ',')
	}
	if s.Route != "" {
		dst = append(dst, `"http.route":`...)
		dst = append(appendString(dst, s.Route, false), ',')
	}
	if s.Status > 0 {
		dst = append(dst, `"http.status_code":"`...)
		dst = append(strconv.AppendInt(dst, int64(s.Status), 10), '"', ',')
	}
	if s.Error != "" {
		dst = append(dst, `"error":`...)
		dst = append(appendString(dst, s.Error, false), ',')
	}
	if s.Attempt > 0 {
		dst = append(dst, `"attempt":"`...)
		dst = append(strconv.AppendInt(dst, int64(s.Attempt), 10), '"', ',')
	}
	if len(dst) == mark+len(open) {
		return dst[:mark]
	}
	dst[len(dst)-1] = '}'
	return dst
}

// appendModel appends a span of zipkin-go as a Zipkin v2 JSON object. It differs from
// the model's own MarshalJSON in that it knows no error: what Zipkin would refuse, such
// as a time before 1970, is left out.
func appendModel(dst []byte, s *model.SpanModel) []byte {
	var parent SpanID
	if s.ParentID != nil {
		parent = SpanID(*s.ParentID)
	}
	dst = appendIDs(dst, TraceID{Hi: s.TraceID.High, Lo: s.TraceID.Low}, SpanID(s.ID), parent)
	if s.Kind != model.Undetermined {
		dst = append(dst, `,"kind":`...)
		dst = appendString(dst, string(s.Kind), false)
	}
	if s.Name != "" {
		dst = append(dst, `,"name":`...)
		dst = appendString(dst, s.Name, true)
	}
	dst = appendTimestamp(dst, s.Timestamp)
	if s.Duration != 0 { // a span that was flushed before its end has none
		dst = appendDuration(dst, s.Duration)
	}
	if s.Debug {
		dst = append(dst, `,"debug":true`...)
	}
	if s.Shared {
		dst = append(dst, `,"shared":true`...)
	}
	dst = appendModelEndpoint(dst, "localEndpoint", s.LocalEndpoint)
	dst = appendModelEndpoint(dst, "remoteEndpoint", s.RemoteEndpoint)
	dst = appendAnnotations(dst, s.Annotations)
	if len(s.Tags) > 0 {
		dst = append(dst, `,"tags":{`...)
		for key, value := range s.Tags {
			dst = append(appendString(dst, key, false), ':')
			dst = append(appendString(dst, value, false), ',')
		}
		dst[len(dst)-1] = '}'
	}
	return append(dst, '}')
}

func appendAnnotations(dst []byte, all []model.Annotation) []byte {
	const open = `,"annotations":[`
	mark := len(dst)
	dst = append(dst, open...)
	for i := range all {
		if all[i].Timestamp.Unix() < 0 {
			continue
		}
		dst = append(dst, `{"timestamp":`...)
		dst = strconv.AppendInt(dst, max(all[i].Timestamp.UnixMicro(), 1), 10)
		dst = append(dst, `,"value":`...)
		dst = append(appendString(dst, all[i].Value, false), '}', ',')
	}
	if len(dst) == mark+len(open) {
		return dst[:mark]
	}
	dst[len(dst)-1] = ']'
	return dst
}

// appendIDs opens the object.
func appendIDs(dst []byte, id TraceID, span, parent SpanID) []byte {
	dst = append(dst, `{"traceId":"`...)
	dst = id.AppendHex(dst)
	dst = append(dst, `","id":"`...)
	dst = span.AppendHex(dst)
	if parent != 0 {
		dst = append(dst, `","parentId":"`...)
		dst = parent.AppendHex(dst)
	}
	return append(dst, '"')
}

func appendTimestamp(dst []byte, t time.Time) []byte {
	micros := t.UnixMicro()
	if micros < 1 {
		return dst
	}
	dst = append(dst, `,"timestamp":`...)
	return strconv.AppendInt(dst, micros, 10)
}

func appendDuration(dst []byte, d time.Duration) []byte {
	dst = append(dst, `,"duration":`...)
	return strconv.AppendInt(dst, max(d.Microseconds(), 1), 10)
}

// appendEndpoint appends ,"key":{…}, or nothing when the endpoint says nothing.
func appendEndpoint(dst []byte, key, service string, addr netip.AddrPort) []byte {
	ip, port := addr.Addr().Unmap().WithZone(""), addr.Port()
	if service == "" && !ip.IsValid() && port == 0 {
		return dst
	}
	dst = append(dst, ',', '"')
	dst = append(dst, key...)
	dst = append(dst, '"', ':', '{')
	if service != "" {
		dst = append(dst, `"serviceName":`...)
		dst = append(appendString(dst, service, true), ',')
	}
	if ip.Is4() {
		dst = append(dst, `"ipv4":"`...)
		dst = append(ip.AppendTo(dst), '"', ',')
	} else if ip.IsValid() {
		dst = append(dst, `"ipv6":"`...)
		dst = append(ip.AppendTo(dst), '"', ',')
	}
	if port != 0 {
		dst = append(dst, `"port":`...)
		dst = append(strconv.AppendUint(dst, uint64(port), 10), ',')
	}
	dst[len(dst)-1] = '}'
	return dst
}

func appendModelEndpoint(dst []byte, key string, e *model.Endpoint) []byte {
	if e == nil {
		return dst
	}
	ip, ok := netip.AddrFromSlice(e.IPv4)
	if !ok {
		ip, _ = netip.AddrFromSlice(e.IPv6)
	}
	return appendEndpoint(dst, key, e.ServiceName, netip.AddrPortFrom(ip, e.Port))
}

// modelEndpoint is the reverse of appendModelEndpoint, without the text.
func modelEndpoint(service string, addr netip.AddrPort) *model.Endpoint {
	e := &model.Endpoint{ServiceName: service, Port: addr.Port()}
	if ip := addr.Addr().Unmap(); ip.Is4() {
		e.IPv4 = net.IP(ip.AsSlice())
	} else {
		e.IPv6 = net.IP(ip.AsSlice())
	}
	return e
}

// appendString appends s as a JSON string, valid for any s: what is not UTF-8 becomes
// U+FFFD. With lower, letters become lower case.
func appendString(dst []byte, s string, lower bool) []byte {
	dst = append(dst, '"')
	start := 0 // of what is not appended yet
	i := plainLength(s)
	for i < len(s) {
		b := s[i]
		if b >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			small := r
			if lower {
				small = unicode.ToLower(r)
			}
			if small != r || r == utf8.RuneError && size == 1 {
				dst = append(dst, s[start:i]...)
				dst = utf8.AppendRune(dst, small)
				start = i + size
			}
			i += size
			continue
		}
		switch {
		case b < ' ' || b == '"' || b == '\\':
			dst = append(dst, s[start:i]...)
			dst = appendEscaped(dst, b)
			start = i + 1
		case lower && 'A' <= b && b <= 'Z':
			dst = append(dst, s[start:i]...)
			dst = append(dst, b+'a'-'A')
			start = i + 1
		}
		i++
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// plainLength returns how much of s, from its beginning, is in a JSON string as it is, and in lower case.
func plainLength(s string) int {
	for i := range len(s) {
		if !plain[s[i]] {
			return i
		}
	}
	return len(s)
}

var plain = func() (t [256]bool) {
	for b := byte(' '); b < utf8.RuneSelf; b++ {
		t[b] = b != '"' && b != '\\' && (b < 'A' || b > 'Z')
	}
	return t
}()

func appendEscaped(dst []byte, b byte) []byte {
	switch b {
	case '"', '\\':
		return append(dst, '\\', b)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&0xf])
}
