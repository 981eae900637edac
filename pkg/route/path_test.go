package route_test

import (
	"bytes"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/route"
)

func TestCanonical(t *testing.T) {
	f := func(raw, want string) {
		t.Helper()
		in := []byte(raw)
		got, err := route.Canonical(nil, in)
		if err != nil || string(got) != want {
			t.Errorf("Canonical(%q) = %q, %v, want %q", raw, got, err, want)
			return
		}
		if string(in) != raw {
			t.Errorf("Canonical(%q) changed its argument to %q", raw, in)
		}
		if same := &got[0] == &in[0]; same != (raw == want) {
			t.Errorf("Canonical(%q) returns its argument: %t, want %t", raw, same, raw == want)
		}
		if again, err := route.Canonical(nil, got); err != nil || string(again) != want {
			t.Errorf("Canonical(%q) = %q, %v, want itself", got, again, err)
		}
		if placed, err := route.Canonical(in[:0], in); err != nil || string(placed) != want {
			t.Errorf("Canonical(%q) in place = %q, %v, want %q", raw, placed, err, want)
		}
	}
	// What is canonical stays.
	f("/", "/")
	f("/a", "/a")
	f("/a/", "/a/")
	f("/api/user/login", "/api/user/login")
	f("/API/User", "/API/User")
	f("/.a/..b/c../d.e/...", "/.a/..b/c../d.e/...")
	f("/a;v=1/b;x", "/a;v=1/b;x")
	f("/a;../b;.", "/a;../b;.")
	f("/!$&'()*+,;=:@-._~", "/!$&'()*+,;=:@-._~")
	f("/%20%22%3C%3E%5E%60%7B%7C%7D%5B%5D", "/%20%22%3C%3E%5E%60%7B%7C%7D%5B%5D")
	f("/%3F%23%25%3B%3A%40%26%3D%2B%24%2C", "/%3F%23%25%3B%3A%40%26%3D%2B%24%2C")
	f("/%E4%BD%A0", "/%E4%BD%A0")
	f("/%252E%252F", "/%252E%252F")
	f("/.%20", "/.%20")
	// Unreserved characters are decoded.
	f("/%61", "/a")
	f("/%41%5a%7E", "/AZ~")
	f("/api/%75ser/%6c%6F%67in", "/api/user/login")
	f("/a%2eb%2Dc%5f%7e", "/a.b-c_~")
	f("/%30%39", "/09")
	f("/%2e%2e%2e", "/...")
	f("/%2ehidden", "/.hidden")
	f("/x%2e", "/x.")
	// Other encodings are in upper case.
	f("/%e4%bd%a0", "/%E4%BD%A0")
	f("/%3f%3F%3b", "/%3F%3F%3B")
	f("/a%20b%c3%A9/%7b%7D", "/a%20b%C3%A9/%7B%7D")
	f("/%252e%252f", "/%252e%252f") // decoded once it is "%2e%2f"
	f("/%c0%ae", "/%C0%AE")
}

// hostile are paths that some server, somewhere, took for "/api/user/login", for a path
// outside of it, or for two requests.
var hostile = map[string][]string{
	`does not begin with "/"`: {
		"", "*", "a", "api/user/login", " /a", "?", ".", "..", "%2Fapi", "http://h/a", "\\a", ";/a", "user:80",
	},
	"holds an invalid percent-encoding": {
		"/%", "/%4", "/a%", "/a%6", "/%zz", "/%4g", "/%g4", "/%%41", "/%%", "/% 41", "/%u002e", "/%u2215", "/%-1",
		"/%0x41", "/%+1", "/%/a", "/%\x00", "/%2", "/a/%e", "/%2%65", "/%\xff\xff", "/%c0%a",
	},
	"holds an encoded slash": {
		"/%2f", "/%2F", "/a%2fb", "/api%2fuser%2flogin", "/api/user%2Flogin", "/..%2f", "/%2e%2e%2f", "/.%2e%2F",
		"/api/user/..%2f..%2fadmin", "/a%2f%2fb", "/%2f%2e%2e", "/a%2F..;/b",
	},
	"holds a backslash": {
		"/\\", "/a\\b", "/%5c", "/%5C", "/..\\", "/..%5c", "/%2e%2e%5c", "/api\\user\\login", "/api/user%5clogin",
		"/\\..\\a", "/a/..%5C..%5Cadmin", "\x2f\x5c\x5c",
	},
	"holds a control character": {
		"/%00", "/a%00", "/api/user/login%00", "/api/user/login%00.html", "/%0a", "/%0d%0a", "/a%0D%0AHost:%20x",
		"/%09", "/%1f", "/%7f", "/%7F", "/a\x00b", "/a\tb", "/a\r\nb", "/a\nb", "/\x1f", "/\x7f", "/a\x0bb", "/..%00",
		"/..%00/", "/\x00..", "/%01", "/%1B[0m",
	},
	"holds a dot segment": {
		"/.", "/..", "/./", "/../", "/a/.", "/a/..", "/./a", "/../a", "/a/./b", "/a/../b", "/api/user/../admin",
		"/%2e", "/%2E", "/%2e%2e", "/.%2e", "/%2e.", "/a/%2e%2E/b", "/a/%2e/b", "/%2e/", "/%2e%2e/",
		"/.;", "/..;", "/..;/", "/..;a=b/c", "/a/..;/b", "/a/.;x/b", "/a/..;;/b", "/%2e%2e;/b", "/%2e;v/b", "/.%2e;/x",
		"/..%3b/x", "/..%3B", "/.%3bx", "/%2e%2e%3b/x", "/a/..%3ba;b/c", "/a/..;b%3bc", "/api/..;/admin/x",
	},
	"holds an empty segment": {
		"//", "//a", "/a//b", "/a//", "///", "/api//user/login", "/api/user//login", "//api/user/login",
		"/api/user/login//", "//example.com/a", "//%61", "/a/;/b", "/;", "/;x", "/;x/a", "/a/;b", "/%3b", "/%3B/a",
		"/a/;%2e%2e/b", "/;/..a",
	},
	"holds a byte outside ASCII that is not percent-encoded": {
		"/\x80", "/é", "/你", "/\xff", "/a\xc0\xaeb", "/\xc0\xaf", "/\xe2\x88\x95", "/ａ", "/\xef\xbc\x8e", "/a\u2028b",
	},
	`holds "?" or "#"`: {
		"/?", "/a?b=1", "/a#b", "/#", "/api/user/login?", "/api/user/login#/admin", "/a?/../b",
	},
	"holds a character that must be percent-encoded": {
		"/ ", "/a b", "/\"", "/<a>", "/^", "/`", "/{a}", "/|", "/[::1]", "/a]", "/a b/c", "/api/user/login ", "/>",
		"/a HTTP/1.1",
	},
}

func TestCanonicalRefuses(t *testing.T) {
	count := 0
	for reason, paths := range hostile {
		for _, raw := range paths {
			count++
			got, err := route.Canonical(nil, []byte(raw))
			e, ok := errors.AsType[*route.PathError](err)
			if !ok || e.Reason != reason || !errors.Is(err, route.ErrPath) || got != nil {
				t.Errorf("Canonical(%q) = %q, %v, want nil and: it %s", raw, got, err, reason)
			}
		}
	}
	if count < 100 {
		t.Errorf("only %d hostile paths", count)
	}
}

// TestHostilePathsDoNotMatch sends variants of a protected path through both steps: what
// is not refused must be, to the letter, the path of the rule that it matches.
func TestHostilePathsDoNotMatch(t *testing.T) {
	table := newTable(t, "/api", route.Services{
		"admin": {"drop": {Path: "/drop"}, "drop/all": {Path: "/all"}},
		"user":  {"login": {Path: "/login"}},
	})
	inserts := []string{
		"", "/", "//", ".", "/.", "/./", "/..", "/../", "..;", "/..;/", ";", ";x", "/;", "%2f", "%2F", "%5c", "\\",
		"%2e", "/%2e", "/%2e/", "/%2e%2e/", "/%2e%2e", "%252f", "%252e", "%c0%af", "%c0%ae", "%e0%80%af", "%00", "%0a",
		"%20", " ", "\t", "?", "#", "%3f", "%23", "%3b", "%", "%61", "A", "é", "%EF%BC%8F", "..%2f", "..%5c", "/user/..",
		"/user/../", "%u002f", "&", ":", "@",
	}
	const path = "/api/admin/drop"
	variants, matched := 0, 0
	for at := range len(path) + 1 {
		for _, in := range inserts {
			raw := path[:at] + in + path[at:]
			variants++
			canonical, err := route.Canonical(nil, []byte(raw))
			if err != nil {
				continue
			}
			rule, err := table.Match([]byte("GET"), canonical)
			if err != nil {
				continue
			}
			matched++
			if rule.Name != string(canonical) {
				t.Errorf("%q matched %s as %q", raw, rule.Name, canonical)
			}
			if decoded, err := url.PathUnescape(raw); err != nil || decoded != rule.Name {
				t.Errorf("%q matched %s, but decodes to %q", raw, rule.Name, decoded)
			}
		}
	}
	if variants < 700 || matched == 0 {
		t.Errorf("%d variants, %d matches: the test tests nothing", variants, matched)
	}
}

func TestCanonicalUsesDst(t *testing.T) {
	raw := []byte("/%61/%62")
	dst := make([]byte, 3, 64)
	got, err := route.Canonical(dst, raw)
	if err != nil || string(got) != "/a/b" || &got[0] != &dst[0] {
		t.Errorf("Canonical(dst) = %q, %v, want /a/b at the beginning of dst", got, err)
	}
	small := make([]byte, 0, 1)
	if got, err := route.Canonical(small, raw); err != nil || string(got) != "/a/b" {
		t.Errorf("Canonical(small) = %q, %v, want /a/b", got, err)
	}
	f := func(what, raw string) {
		t.Helper()
		in := []byte(raw)
		if n := testing.AllocsPerRun(1000, func() { _, _ = route.Canonical(dst, in) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", what, n)
		}
	}
	f("canonical", "/api/user/login")
	f("canonical with encodings", "/api/user/%E4%BD%A0")
	f("to be decoded", "/api/%75ser/login")
	f("to be refused", "/api/../user/login")
}

// grammar is the form of canonical paths: absolute, no empty segment but the last.
var grammar = regexp.MustCompile(`^/(?:(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})+/)*(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})*$`)

func FuzzCanonical(f *testing.F) {
	for _, paths := range hostile {
		for _, p := range paths {
			f.Add([]byte(p))
		}
	}
	for _, p := range []string{"/", "/api/%75ser/login", "/a;b=c/%e4%bd%a0/", "/%252e%252E/.a/...", "/%3F%23%25"} {
		f.Add([]byte(p))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		kept := bytes.Clone(raw)
		got, err := route.Canonical(nil, raw)
		if !bytes.Equal(raw, kept) {
			t.Fatalf("Canonical(%q) changed its argument", kept)
		}
		if err != nil {
			if !errors.Is(err, route.ErrPath) || got != nil {
				t.Fatalf("Canonical(%q) = %q, %v, want nil and ErrPath", raw, got, err)
			}
			return
		}
		if !grammar.Match(got) {
			t.Fatalf("Canonical(%q) = %q: not a canonical path", raw, got)
		}
		if len(got) > len(raw) {
			t.Fatalf("Canonical(%q) = %q: longer", raw, got)
		}
		if again, err := route.Canonical(nil, got); err != nil || &again[0] != &got[0] {
			t.Fatalf("Canonical(%q) = %q, %v, want its argument", got, again, err)
		}
		if placed, err := route.Canonical(kept[:0], kept); err != nil || !bytes.Equal(placed, got) {
			t.Fatalf("Canonical(%q) in place = %q, %v, want %q", raw, placed, err, got)
		}
		// It means the same as before, and to a node that decodes it no more than that.
		before, err := url.PathUnescape(string(raw))
		if err != nil {
			t.Fatalf("unescape %q: %v", raw, err)
		}
		after, err := url.PathUnescape(string(got))
		if err != nil || after != before {
			t.Fatalf("unescape %q = %q, %v, want %q", got, after, err, before)
		}
		if strings.Count(after, "/") != strings.Count(string(raw), "/") || strings.ContainsAny(after, "\x00\r\n\\") {
			t.Fatalf("Canonical(%q) = %q decodes to %q", raw, got, after)
		}
		for segment := range strings.SplitSeq(after, "/") {
			name, _, _ := strings.Cut(segment, ";")
			if slices.Contains([]string{".", ".."}, name) {
				t.Fatalf("Canonical(%q) = %q decodes to a dot segment", raw, got)
			}
		}
	})
}

func BenchmarkCanonical(b *testing.B) {
	dst := make([]byte, 0, 256)
	for _, c := range []struct{ name, raw string }{
		{"canonical", "/api/user/login"},
		{"canonical100", "/api/user/" + strings.Repeat("orders/", 12) + "latest"},
		{"encoded", "/api/%75ser/%6cogin"},
		{"refused", "/api/user/../login"},
	} {
		raw := []byte(c.raw)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				_, _ = route.Canonical(dst, raw)
			}
		})
	}
}
