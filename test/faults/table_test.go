//go:build linux

package faults_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// shown are the lines of the rows that were printed so far.
var shown []string

// show prints the line of a row.
func show(line string) {
	fmt.Println(line)
	shown = append(shown, line)
}

// columns are the figures that most rows have; what else a row says stands in the last one.
var columns = []string{"row", "fault", "met", "requests", "lost_get", "lost_post", "dup", "dup_post", "p99_ms", "max_ms", "seconds"}

// left are the figures that add nothing to those of the columns.
var left = []string{"lost", "not_run", "unmet"}

// table returns a table in Markdown of the lines of rows, in the order of their names.
func table(lines []string) string {
	lines = slices.Clone(lines)
	slices.Sort(lines)
	var b strings.Builder
	fmt.Fprintf(&b, "\n| %s | figures |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)+1))
	for _, line := range lines {
		keys, values := fields(line)
		b.WriteString("|")
		for _, c := range columns {
			b.WriteString(" " + cell(c, values) + " |")
		}
		for _, key := range keys {
			text := string(values[key])
			if slices.Contains(columns, key) || slices.Contains(left, key) || key == "wrong_body" && text == "0" || text == "{}" {
				continue
			}
			fmt.Fprintf(&b, " %s %s;", strings.ReplaceAll(key, "_", " "), strings.ReplaceAll(text, "|", "\\|"))
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// cell is what a row says in a column.
func cell(column string, values map[string]json.RawMessage) string {
	text := strings.Trim(string(values[column]), `"`)
	if column != "met" {
		return text
	}
	switch why := values["not_run"]; {
	case why != nil:
		return "not run: " + strings.Trim(string(why), `"`)
	case text == "true":
		return "yes"
	}
	return "NO: " + string(values["unmet"])
}

// fields returns what a line says, and the keys in their order.
func fields(line string) (keys []string, values map[string]json.RawMessage) {
	values = map[string]json.RawMessage{}
	d := json.NewDecoder(strings.NewReader(line))
	if _, err := d.Token(); err != nil {
		panic("BUG: a row's line is no JSON: " + line)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			break
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			break
		}
		keys = append(keys, key.(string))
		values[key.(string)] = value
	}
	return keys, values
}

// words makes "dns fails" of F48DNSFails, and "roll everything" of RollEverything.
func words(name string) string {
	if len(name) > 3 && name[1] >= '0' && name[1] <= '9' {
		name = name[3:]
	}
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func TestTable(t *testing.T) {
	got := table([]string{
		`{"row":"F02","fault":"stop of one","requests":9,"lost":1,"lost_get":1,"lost_post":0,"errors":{"a|b":1},"met":false,"unmet":["lost 1 GET"],"seconds":3}`,
		`{"row":"F01","fault":"clock","not_run":"no clock","seconds":0}`,
	})
	want := "\n| row | fault | met | requests | lost_get | lost_post | dup | dup_post | p99_ms | max_ms | seconds | figures |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n" +
		"| F01 | clock | not run: no clock |  |  |  |  |  |  |  | 0 | |\n" +
		"| F02 | stop of one | NO: [\"lost 1 GET\"] | 9 | 1 | 0 |  |  |  |  | 3 | errors {\"a\\|b\":1}; |\n"
	if got != want {
		t.Errorf("table = %s\nwant %s", got, want)
	}
	for name, want := range map[string]string{"F48DNSFails": "dns fails", "RollEverything": "roll everything", "F01": "f01", "F30HTTP2Abuse": "http2 abuse"} {
		if got := words(name); got != want {
			t.Errorf("words(%q) = %q, want %q", name, got, want)
		}
	}
}
