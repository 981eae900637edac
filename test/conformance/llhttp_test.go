//go:build linux

package conformance_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/http1"

	"github.com/goms-io/goms/test/process"
)

// message is one request as a parser understood it.
type message struct {
	Method  string `json:"method"`
	Target  string `json:"target"`
	Minor   int    `json:"minor"`
	Keep    bool   `json:"keep"` // another request may follow
	Upgrade bool   `json:"upgrade"`
	Chunked bool   `json:"chunked"`
	Length  int64  `json:"length,string"` // -1: none said
	Marker  string `json:"marker"`        // of X-Marker
	Head    int    `json:"head"`          // offset of the end of the head
	Body    []byte `json:"body"`
	End     int    `json:"end"` // offset of the end of the message, or of what is taken of it
}

// reading is what a parser made of one connection's bytes: requests, possibly the head of another whose body is not
// whole, and what ended it.
type reading struct {
	Messages []message `json:"messages"`
	Partial  *message  `json:"partial"`
	Error    string    `json:"error"`
	At       int       `json:"at"` // offset of the error
}

// llhttp has Node's parser read each case.
func llhttp(t testing.TB, cases []string) (methods []string, readings []reading) {
	t.Helper()
	node := process.Need(t, "node (Debian package nodejs)", "node", "nodejs")
	var in bytes.Buffer
	for _, c := range cases {
		fmt.Fprintf(&in, ".%s\n", base64.StdEncoding.EncodeToString([]byte(c)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	script := filepath.Join(process.RepoRoot(), "test/conformance/testdata/llhttp.js")
	cmd := exec.CommandContext(ctx, node, script)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = &in, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run %s: %v\n%s", script, err, stderr.String())
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	var about struct {
		Node, Llhttp string
		Methods      []string
	}
	if err := dec.Decode(&about); err != nil {
		t.Fatal(err)
	}
	t.Logf("node %s, llhttp %s", about.Node, about.Llhttp)
	readings = make([]reading, len(cases))
	for i := range readings {
		if err := dec.Decode(&readings[i]); err != nil {
			t.Fatalf("answer to case %d: %v", i, err)
		}
	}
	return about.Methods, readings
}

var limits = http1.Limits{Head: 32 << 10, Lines: 100, Target: 8 << 10}

// ours reads a connection's bytes as the gateway does, with pkg/http1. What follows an upgrade is another protocol, unless
// the node declines it.
func ours(text []byte, declined bool) (out reading) {
	for off := 0; off < len(text); {
		m, err := one(text, off)
		if err != nil {
			var fault *http1.Error
			if errors.As(err, &fault) {
				out.Error = fault.Detail
			}
			out.Partial = m
			return out
		}
		out.Messages = append(out.Messages, *m)
		if !m.Keep || m.Upgrade && !declined || m.Method == "CONNECT" {
			return out
		}
		off = m.End
	}
	return out
}

var errMore = errors.New("the message goes on")

// one reads the message at an offset. The message is nil when its head was refused or is not whole, and comes with an
// error when its body was or is not.
func one(text []byte, off int) (*message, error) {
	var s http1.Scanner
	end, err := s.Scan(text[off:])
	if err != nil {
		return nil, err
	}
	if end == 0 {
		return nil, errMore
	}
	var r http1.Request
	if err := r.Parse(text[off:], &s, limits); err != nil {
		return nil, err
	}
	off += end
	m := &message{
		Method: string(r.Method), Target: string(r.Target), Minor: int(r.Minor), Keep: !r.Close, Upgrade: r.Upgrade != nil,
		Chunked: r.Chunked, Length: r.ContentLength, Head: off,
	}
	for _, f := range r.Fields {
		if m.Marker == "" && strings.EqualFold(string(f.Name), "X-Marker") {
			m.Marker = string(f.Value)
		}
	}
	if !r.Chunked {
		n := max(0, r.ContentLength)
		if int64(len(text)-off) < n {
			return m, errMore
		}
		m.Body, m.End = text[off:off+int(n)], off+int(n)
		return m, nil
	}
	var c http1.Chunks
	c.Reset()
	for !c.Done() {
		n, data, err := c.Next(text[off:])
		if err != nil {
			return m, err
		}
		if n == 0 {
			return m, errMore
		}
		m.End = off + n
		m.Body = append(m.Body, data...)
		off += n
	}
	m.End = off
	return m, nil
}

// stricter are the reasons for which llhttp may refuse what the gateway takes. Each is a place where RFC 9110 or 9112
// lets the gateway take it, and where what is sent on differs from what came, or cannot be misread.
var stricter = []struct {
	why   string
	allow func(methods []string, r reading, m message, text string) bool
}{
	{"a method that llhttp has no name for; RFC 9110 section 9.1 leaves them open", func(methods []string, r reading, m message, _ string) bool {
		i := slices.Index(methods, m.Method)
		rtsp := i >= 0 && (m.Method == "SOURCE" || m.Method == "PRI" || i >= slices.Index(methods, "DESCRIBE") && i <= slices.Index(methods, "FLUSH"))
		return (i < 0 || rtsp) && r.At < m.Head
	}},
	{"a tab around chunked; RFC 9110 section 5.6.3 allows it, and the gateway writes the field anew", func(_ []string, r reading, _ message, text string) bool {
		return r.Error == "HPE_INVALID_TRANSFER_ENCODING" && tabbedCoding.MatchString(text[:min(len(text), r.At+1)])
	}},
	{"white space in a chunk extension; RFC 9112 section 7.1.1 has receivers take it, and no extension is sent on", func(_ []string, r reading, m message, text string) bool {
		begin := strings.LastIndexByte(text[:min(len(text), r.At)], '\n') + 1
		line, _, ok := strings.Cut(text[begin:], "\r\n")
		return ok && begin >= m.Head && strings.ContainsAny(line, " \t") && extended.MatchString(line)
	}},
}

var (
	tabbedCoding = regexp.MustCompile(`(?i)\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n`)
	// extended is the line of a chunk's size by the grammar of RFC 9112 section 7.1.1.
	extended = regexp.MustCompile("^[0-9A-Fa-f]+([ \t]*;[ \t]*" + token + "([ \t]*=[ \t]*(" + token + `|"([\t !#-\[\]-~\x{80}-\x{ff}]|\\[\t -~\x{80}-\x{ff}])*"))?)*$`)
)

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"

// excused reports whether llhttp's refusal of m is one of stricter.
func excused(used map[string]int, methods []string, r reading, m message, text string) bool {
	if r.Error == "" {
		return false
	}
	for _, s := range stricter {
		if s.allow(methods, r, m, text) {
			used[s.why]++
			return true
		}
	}
	return false
}

// TestAgainstLlhttp holds pkg/http1 against the parser of Node: what it takes, llhttp takes and understands alike, to
// the byte where each message ends. The reverse need not hold.
func TestAgainstLlhttp(t *testing.T) {
	r := rand.New(rand.NewPCG(9112, 1))
	pool := slices.Concat(seeds("/x"), found(t, "pkg/http1"), found(t, "pkg/gateway"))
	cases := slices.Clone(pool)
	for len(cases) < 20_000 {
		cases = append(cases, mutated(r, pool))
	}
	methods, readings := llhttp(t, cases)
	used, taken, heads, shown := map[string]int{}, 0, 0, 0
	for i, text := range cases {
		mine := ours([]byte(text), false)
		taken += len(mine.Messages)
		complaint := compare(used, methods, mine, readings[i], text)
		if mine.Partial != nil {
			heads++
		}
		if complaint == "" {
			continue
		}
		t.Errorf("case %d: %s\n%q", i, complaint, text)
		if shown++; shown == 30 {
			t.Fatal("and more")
		}
	}
	t.Logf("%d connections: %d requests taken whole, %d heads alone; excused: %v", len(cases), taken, heads, used)
	if taken < 3000 || heads < 500 {
		t.Errorf("only %d of %d requests were taken whole and %d heads alone: the corpus tests too little", taken, len(cases), heads)
	}
}

// compare returns "" when theirs agrees with every request that mine took.
func compare(used map[string]int, methods []string, mine, theirs reading, text string) string {
	for i, m := range mine.Messages {
		if i >= len(theirs.Messages) {
			if excused(used, methods, theirs, m, text) {
				return ""
			}
			return fmt.Sprintf("request %d (%s %.40q, bytes up to %d) is taken, llhttp: %s at %d, partial %v", i, m.Method, m.Target, m.End, theirs.Error, theirs.At, theirs.Partial != nil)
		}
		if d := differ(m, theirs.Messages[i], true); d != "" {
			return fmt.Sprintf("request %d: %s", i, d)
		}
	}
	if mine.Partial == nil {
		return ""
	}
	// The head of the last one was taken: so it must be there, framed alike, whatever becomes of its body.
	n := len(mine.Messages)
	switch {
	case n < len(theirs.Messages):
		if mine.Error == "" && !theirs.Messages[n].Upgrade {
			return fmt.Sprintf("request %d goes on, llhttp ends it at %d", n, theirs.Messages[n].End)
		}
		if d := differ(*mine.Partial, theirs.Messages[n], false); d != "" {
			return fmt.Sprintf("head of request %d: %s", n, d)
		}
	case theirs.Partial != nil:
		if d := differ(*mine.Partial, *theirs.Partial, false); d != "" {
			return fmt.Sprintf("head of request %d: %s", n, d)
		}
		// In a line or a trailer section that is not whole yet llhttp sees a fault earlier: it is not taken before it ends.
		if mine.Error == "" && theirs.Error != "" && theirs.At < mine.Partial.End && !excused(used, methods, theirs, *mine.Partial, text) {
			return fmt.Sprintf("body of request %d is waited for, llhttp: %s at %d", n, theirs.Error, theirs.At)
		}
	case !excused(used, methods, theirs, *mine.Partial, text):
		return fmt.Sprintf("head of request %d (%s %.40q, up to %d) is taken, llhttp: %s at %d", n, mine.Partial.Method, mine.Partial.Target, mine.Partial.Head, theirs.Error, theirs.At)
	}
	return ""
}

// differ says in what two parsers understood a request differently; whole compares the body too.
func differ(mine, theirs message, whole bool) string {
	var out []string
	f := func(what string, a, b any) {
		if a != b {
			out = append(out, fmt.Sprintf("%s %v, llhttp %v", what, a, b))
		}
	}
	f("method", mine.Method, theirs.Method)
	f("target", mine.Target, theirs.Target)
	f("minor version", mine.Minor, theirs.Minor)
	f("chunked", mine.Chunked, theirs.Chunked)
	f("length", mine.Length, theirs.Length)
	f("end of head", mine.Head, theirs.Head)
	if mine.Keep && !theirs.Keep {
		out = append(out, "the connection goes on, for llhttp it does not")
	}
	if whole {
		f("end", mine.End, theirs.End)
		f("body", string(mine.Body), string(theirs.Body))
	}
	return strings.Join(out, "; ")
}
