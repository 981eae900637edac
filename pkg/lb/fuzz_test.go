package lb_test

import (
	"testing"

	"github.com/goms-io/goms/pkg/lb"
)

// FuzzParseReport holds that whatever a node says is understood as something that it could say.
func FuzzParseReport(f *testing.F) {
	f.Add([]byte("draining, load=12"))
	f.Add([]byte(" load=3 ,\tdraining,"))
	f.Add([]byte("load=x, load=99999999999"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := lb.ParseReport(text)
		if r.Load < 0 || r.Load > 999_999_999 {
			t.Fatalf("ParseReport(%q) has load %d", text, r.Load)
		}
		if again := lb.ParseReport(r.Append(nil)); again != r {
			t.Fatalf("ParseReport(%q) = %+v, which says %q, which is %+v", text, r, r.Append(nil), again)
		}
	})
}
