package gateway_test

import (
	"strings"
	"testing"
)

// TestVerbose asks for detail in each way in which people do.
func TestVerbose(t *testing.T) {
	b := start(t, nil, "127.0.0.1:1")
	_, plain := b.get("/cluster")
	for query, want := range map[string]bool{"?verbose": true, "?verbose=1": true, "?verbose=0": false, "?a=verbose": false, "?verbose=%zz": false} {
		if _, got := b.get("/cluster" + query); (got != plain) != want || strings.Contains(got, "404") {
			t.Errorf("GET /cluster%s has detail: %v, want %v: %s", query, got != plain, want, got)
		}
	}
}
