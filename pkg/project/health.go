package project

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"
)

// Healthcheck asks the process on this host's HTTP port whether it lives, for three seconds at most:
// over TLS as secure says, which names whom to expect, or plain when it is nil. It is what containers without a
// shell use.
func Healthcheck(ctx context.Context, port int, secure *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	url := fmt.Sprintf("http://127.0.0.1:%d/livez", port)
	if secure != nil {
		url = fmt.Sprintf("https://127.0.0.1:%d/livez", port)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: secure}}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("check health: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("check health: %s answered %s", url, res.Status)
	}
	return nil
}
