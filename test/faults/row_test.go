//go:build linux

package faults_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
)

// row is one line of the fault matrix.
type row struct {
	*testing.T
	name   string
	keys   []string // in the order in which they were set
	values map[string]any
	unmet  []string
	why    string // the row cannot run here
	prefix string // of the keys: which part they are of

	printed bool // by somebody else
}

// Skipf notes why the row cannot run on this machine.
func (r *row) Skipf(format string, args ...any) {
	r.Helper()
	r.why = fmt.Sprintf(format, args...)
	r.T.Skip(r.why)
}

// Fatalf notes what ends the row before its time.
func (r *row) Fatalf(format string, args ...any) {
	r.Helper()
	what := fmt.Sprintf(format, args...)
	r.unmet = append(r.unmet, what)
	r.T.Fatal(what)
}

// begin begins the row that the test is named for. Its line is printed when the test ends, whatever ends it.
func begin(t *testing.T) *row {
	t.Helper()
	name, fault := strings.TrimPrefix(t.Name(), "Test"), ""
	if len(name) > 3 && name[0] == 'F' && name[1] >= '0' && name[1] <= '9' {
		name, fault = name[:3], name[3:]
	}
	r := &row{T: t, name: name, values: map[string]any{}}
	r.set("fault", words(name+fault))
	began := time.Now()
	t.Cleanup(func() { r.print(time.Since(began)) })
	return r
}

// part runs a part of the row that has a scene of its own: its figures are named for it, and what it starts ends with it.
func (r *row) part(name string, do func(r *row)) {
	r.Helper()
	whole := r.T
	defer func() { r.T, r.prefix = whole, "" }()
	whole.Run(name, func(t *testing.T) {
		r.T, r.prefix = t, name+"_"
		do(r)
	})
}

// set notes a figure of the row.
func (r *row) set(key string, value any) {
	key = r.prefix + key
	if d, ok := value.(time.Duration); ok {
		value = d.Milliseconds()
	}
	if _, there := r.values[key]; !there {
		r.keys = append(r.keys, key)
	}
	r.values[key] = value
}

// must notes that a criterion is not met, unless it is.
func (r *row) must(met bool, format string, args ...any) {
	r.Helper()
	if !met {
		what := fmt.Sprintf(format, args...)
		r.unmet = append(r.unmet, what)
		r.Error(what)
	}
}

// losses are how many requests may be lost and how many GETs may arrive more than once.
type losses struct{ get, post, twice int }

// witness can tell how often each id arrived: a node.
type witness interface{ count(seen map[string]int) }

// account notes what became of a load's requests, by what their sender and the nodes say, and wants no more lost than allowed. In every
// row a POST arrives at most once, no answer is another's, and what was answered has arrived.
func (r *row) account(res *load.Result, most losses, witnesses ...witness) {
	r.Helper()
	seen := map[string]int{}
	for _, n := range witnesses {
		n.count(seen)
	}
	dup, dupPost, unseen := 0, 0, 0
	for id, n := range seen {
		if n > 1 {
			if dup++; id[0] == 'p' {
				dupPost++
			}
		}
	}
	for _, id := range res.Answered() {
		if seen[id] == 0 {
			unseen++
		}
	}
	r.set("requests", res.Requests)
	r.set("lost", res.Lost)
	r.set("lost_get", res.LostGET)
	r.set("lost_post", res.LostPOST)
	r.set("wrong_body", res.WrongBody)
	r.set("dup", dup)
	r.set("dup_post", dupPost)
	r.set("errors", res.Errors)
	r.set("max_ms", res.Max)
	r.set("p99_ms", res.P99)
	r.must(res.LostGET <= most.get && res.LostPOST <= most.post, "lost %d GET and %d POST, at most %d and %d may be:\n%s",
		res.LostGET, res.LostPOST, most.get, most.post, res.LostBy(10))
	r.must(dup-dupPost <= most.twice, "%d GETs arrived more than once, at most %d may", dup-dupPost, most.twice)
	r.must(dupPost == 0, "%d POSTs arrived more than once", dupPost)
	r.must(res.WrongBody == 0, "%d answers were another request's", res.WrongBody)
	r.must(unseen == 0, "%d requests were answered by nobody", unseen)
}

func (r *row) print(took time.Duration) {
	if r.printed {
		return
	}
	var b strings.Builder
	field := func(key string, value any) {
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		if err := e.Encode(value); err != nil {
			panic("BUG: " + err.Error())
		}
		fmt.Fprintf(&b, ",%q:%s", key, bytes.TrimSpace(text.Bytes()))
	}
	for _, key := range r.keys {
		field(key, r.values[key])
	}
	if r.Skipped() || r.why != "" {
		field("not_run", r.why)
	} else {
		field("met", !r.Failed())
	}
	if len(r.unmet) > 0 {
		for i, what := range r.unmet {
			r.unmet[i], _, _ = strings.Cut(what, "\n")
		}
		field("unmet", r.unmet)
	}
	show(fmt.Sprintf("{%q:%q%s,\"seconds\":%.0f}", "row", r.name, b.String(), took.Seconds()))
}
