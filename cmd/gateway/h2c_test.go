package main

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

func TestServeH2C(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	for _, enabled := range []bool{false, true} {
		setting := ""
		if enabled {
			setting = "  h2c: true\n"
		}
		cfg := write(t, "c.yml", "etcd: {embedded: {addr: '127.0.0.1:0', dir: '"+filepath.Join(t.TempDir(), "etcd")+"'}}\ngateway:\n  drainDelay: 0s\n"+setting)
		ctx, cancel := context.WithCancel(context.Background())
		var out output
		done := make(chan error, 1)
		go func() {
			done <- run(ctx, []string{"-config", cfg, "-http_port=0", "-rpc_port=0", "-admin_port=0"}, &out, &out)
		}()
		port := awaitLine(t, &out, done, `Http Listen on port: (\d+)`)
		awaitLine(t, &out, done, `registry read`)
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		tr := &http.Transport{Protocols: protocols}
		res, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://127.0.0.1:" + port + "/livez")
		switch {
		case err == nil:
			res.Body.Close()
			if !enabled || res.StatusCode != 200 || res.ProtoMajor != 2 {
				t.Errorf("h2c %v: %s %s", enabled, res.Proto, res.Status)
			}
		case enabled:
			t.Errorf("h2c: true: %v", err)
		}
		tr.CloseIdleConnections()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("run() = %v", err)
			}
		case <-time.After(patience):
			t.Fatal("the gateway does not stop")
		}
	}
}
