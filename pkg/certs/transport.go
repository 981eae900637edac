package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	acmeTimeout  = 30 * time.Second // of one request to the authority
	acmeMaxBody  = 1 << 20
	acmeMaxPause = 10 * time.Second // between two looks at an order, whatever the authority wishes
	acmeTries    = 4                // of a request that the authority answers with a failure of its own
)

// transport carries the requests to the authority. autocert gives them no context of its caller, and drops
// the reason when the authority could not verify a host: this ends them and keeps it.
type transport struct {
	base    *http.Transport
	run     context.Context // Run's, of which there is one; set before the first request
	reasons sync.Map        // "host challenge" to a text
}

func newTransport(roots *x509.CertPool) *transport {
	return &transport{base: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: acmeTimeout, IdleConnTimeout: acmeTimeout, ForceAttemptHTTP2: true,
	}}
}

// RoundTrip reads the whole answer, so that the deadline is for all of it.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), acmeTimeout)
	defer cancel()
	defer context.AfterFunc(t.run, cancel)()
	res, err := t.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, acmeMaxBody+1))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	if len(body) > acmeMaxBody {
		return nil, fmt.Errorf("read answer of %q: more than %d bytes", r.URL.Host, acmeMaxBody)
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	if s := res.Header.Get("Retry-After"); s != "" {
		res.Header.Set("Retry-After", retryAfter(s))
	}
	t.explain(body)
	return res, nil
}

// retryAfter returns a header's value, seconds or a date, as seconds up to acmeMaxPause.
func retryAfter(s string) string {
	seconds, err := strconv.Atoi(s)
	if at, dateErr := http.ParseTime(s); dateErr == nil {
		seconds, err = int(time.Until(at)/time.Second)+1, nil
	}
	if longest := int(acmeMaxPause / time.Second); err != nil || seconds > longest {
		seconds = longest
	}
	return strconv.Itoa(max(seconds, 1))
}

// explain keeps why the authority could not verify a host.
func (t *transport) explain(body []byte) {
	var authorization struct {
		Status     string
		Identifier struct{ Value string }
		Challenges []struct {
			Type  string
			Error struct{ Detail string }
		}
	}
	if json.Unmarshal(body, &authorization) != nil || authorization.Status != "invalid" {
		return
	}
	for _, c := range authorization.Challenges {
		if detail := c.Error.Detail; detail != "" {
			t.reasons.Store(authorization.Identifier.Value+" "+c.Type, c.Type+": "+detail[:min(len(detail), 500)])
		}
	}
}

// reason returns why the authority could not verify a host the last time, by either challenge; "" if it did
// not say.
func (t *transport) reason(host string) string {
	var all []string
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		if s, ok := t.reasons.LoadAndDelete(host + " " + challenge); ok {
			all = append(all, s.(string))
		}
	}
	return strings.Join(all, "; ")
}

// backoff is acme.Client's RetryBackoff. A refusal for too many requests is not tried again here: keep
// does, much later.
func (t *transport) backoff(n int, _ *http.Request, res *http.Response) time.Duration {
	if n >= acmeTries || t.run.Err() != nil || res.StatusCode == http.StatusTooManyRequests {
		return 0
	}
	if res.StatusCode == http.StatusBadRequest { // a nonce that has grown old, there is a new one now
		return 100 * time.Millisecond
	}
	return time.Duration(n) * time.Second
}
