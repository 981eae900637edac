// Package docs_test runs what the README tells people to run.
//
// The convention, in README.md and README.zh-CN.md alike:
//
//   - A fenced block whose language is sh or bash is commands, without prompts. Anything else (console, text, yaml, go, json)
//     is there to be read.
//   - Blocks run in order, by bash -e, in a fresh copy of the tree. A command that fails fails the test.
//   - The blocks of one section (a heading of level two, "## …") share a shell. When the section ends, what it left running in the
//     background ("… &") gets SIGTERM and must end; the next section begins with nothing running, in the same copy of the tree.
//   - curl is tried again, for two minutes, while it cannot connect, and with -f while it gets an error: so a block may follow a
//     "go run … &" at once, as people wait until a program is up without being told.
//   - Words after the language say what a block needs. "docker" and "parse" blocks are never run, only checked for syntax
//     (```sh docker). Any other word is a program (```sh etcdctl): without it the block is not run, which CI does not allow.
//   - A block of "console expect" is what the commands before it print: its lines stand among their output in this order, white space
//     folded, "…" for anything.
//   - README.zh-CN.md has the same commands in the same order, comments aside, and expects the same. They run once.
//
// The check of syntax needs bash. The run takes minutes and the ports of the README: it is for CI=true and GOMS_TEST_DOCS=1.
package docs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const root = "../.."

// block is one fenced block of commands.
type block struct {
	file    string
	line    int // of the fence
	section string
	needs   []string // programs, or docker or parse
	text    string
	want    []string // lines of its output, "…" for anything
}

func (b block) at() string { return fmt.Sprintf("%s:%d", b.file, b.line) }

// run reports whether the block is to be run, not only read.
func (b block) run() bool {
	return !slices.Contains(b.needs, "docker") && !slices.Contains(b.needs, "parse")
}

var (
	fence   = regexp.MustCompile("^(\\s*)(```+|~~~+)\\s*(.*)$")
	heading = regexp.MustCompile(`^##\s+(.*)$`)
)

// blocks extracts the blocks of commands from Markdown.
func blocks(file, markdown string) ([]block, error) {
	var found []block
	var open *block
	section, closing, indent, inside, expect := "", "", "", false, false
	for i, line := range strings.Split(markdown, "\n") {
		switch m := fence.FindStringSubmatch(line); {
		case inside && strings.TrimSpace(line) == closing:
			if open != nil {
				found = append(found, *open)
			}
			open, inside, expect = nil, false, false
		case inside && open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		case inside && expect:
			b := &found[len(found)-1]
			b.want = append(b.want, line)
		case inside:
		case m != nil:
			inside, indent, closing = true, m[1], m[2]
			words := strings.Fields(m[3])
			if len(words) > 0 && (words[0] == "sh" || words[0] == "bash") {
				open = &block{file: file, line: i + 1, section: section, needs: words[1:]}
			} else if len(words) > 0 && (words[0] == "shell" || words[0] == "zsh") {
				return nil, fmt.Errorf("%s:%d: block of %s: write sh or bash if it is to be run, console if not", file, i+1, words[0])
			} else if expect = len(words) > 1 && words[0] == "console" && words[1] == "expect"; expect && (len(found) == 0 || found[len(found)-1].section != section || !found[len(found)-1].run()) {
				return nil, fmt.Errorf("%s:%d: no commands before it are run that could print this", file, i+1)
			}
		default:
			if h := heading.FindStringSubmatch(line); h != nil {
				section = h[1]
			}
		}
	}
	if inside {
		return nil, fmt.Errorf("%s: a fenced block does not end", file)
	}
	return found, nil
}

// read returns the blocks of a file of the tree.
func read(t *testing.T, file string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if errors.Is(err, os.ErrNotExist) && os.Getenv("CI") != "true" {
		t.Skipf("%s is not there", file)
	}
	if err != nil {
		t.Fatal(err)
	}
	found, err := blocks(file, string(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("%s has no block of commands", file)
	}
	return found
}

// have reports whether a program is here. CI must have it.
func have(t *testing.T, program string) bool {
	t.Helper()
	_, err := exec.LookPath(program)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("%s is not here and CI must have it", program)
	}
	return err == nil
}

func TestBlocks(t *testing.T) {
	const markdown = "# A\n```sh\na\n```\n```console expect\nx …\ny\n```\n## B\ntext\n- x\n  ```bash docker\n  b\n    c\n  ```\n```console\n$ no\n## no heading\n```\n````sh etcdctl\n```\n````\n"
	got, err := blocks("f", markdown)
	want := []block{
		{"f", 2, "", []string{}, "a\n", []string{"x …", "y"}},
		{"f", 12, "B", []string{"docker"}, "b\n  c\n", nil},
		{"f", 20, "B", []string{"etcdctl"}, "```\n", nil},
	}
	if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("blocks() = %+v, %v, want %+v", got, err, want)
	}
	const expect = "```console expect\nx\n```\n"
	for _, bad := range []string{"```sh\na\n", "```shell\na\n```\n", expect, "```sh\na\n```\n## B\n" + expect, "```sh parse\na\n```\n" + expect} {
		if got, err := blocks("f", bad); err == nil {
			t.Errorf("blocks(%q) = %+v, want an error", bad, got)
		}
	}
}

func TestSyntax(t *testing.T) {
	if !have(t, "bash") {
		t.Skip("bash is not here")
	}
	for _, file := range []string{"README.md", "README.zh-CN.md"} {
		for _, b := range read(t, file) {
			cmd := exec.Command("bash", "-n")
			cmd.Stdin = strings.NewReader(b.text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", b.at(), err, out)
			}
			if strings.HasPrefix(strings.TrimSpace(b.text), "$ ") {
				t.Errorf("%s: commands are written without a prompt", b.at())
			}
		}
	}
}

func TestSameCommandsInBothLanguages(t *testing.T) {
	english, chinese := read(t, "README.md"), read(t, "README.zh-CN.md")
	for i := range max(len(english), len(chinese)) {
		if i >= len(english) || i >= len(chinese) {
			t.Fatalf("README.md has %d blocks of commands, README.zh-CN.md %d", len(english), len(chinese))
		}
		e, c := english[i], chinese[i]
		if bare(e.text) != bare(c.text) || !slices.Equal(e.needs, c.needs) || !slices.Equal(e.want, c.want) {
			t.Errorf("%s and %s differ:\n%s%q\n%s%q", e.at(), c.at(), e.text, e.want, c.text, c.want)
		}
	}
}

var comment = regexp.MustCompile(`(?m)(?:^|\s)#.*$`)

// bare is a script without comments, empty lines and white space around lines.
func bare(script string) string {
	var lines []string
	for line := range strings.Lines(comment.ReplaceAllString(script, "")) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func TestCommandsRun(t *testing.T) {
	if os.Getenv("CI") != "true" && os.Getenv("GOMS_TEST_DOCS") == "" {
		t.Skip("runs with CI=true or GOMS_TEST_DOCS=1: it takes minutes and the ports of the README")
	}
	for _, program := range []string{"bash", "git", "curl"} {
		if !have(t, program) {
			t.Skipf("%s is not here", program)
		}
	}
	all := read(t, "README.md")
	lockPorts(t)
	tree := freshTree(t)
	for len(all) > 0 {
		section := all[0].section
		n := slices.IndexFunc(all, func(b block) bool { return b.section != section })
		if n < 0 {
			n = len(all)
		}
		ok := t.Run(section, func(t *testing.T) { runSection(t, tree, all[:n]) })
		if !ok {
			return // later sections stand on this one
		}
		all = all[n:]
	}
}

// lockPorts keeps the ports of the documentation for one test at a time, whatever package it is in.
func lockPorts(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "goms-test-ports.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatalf("lock %s: %v", f.Name(), err)
	}
}

// freshTree copies what git has or would add into a new directory.
func freshTree(t *testing.T) string {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatalf("list files: %v", err)
	}
	tree := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, not yet committed
		}
		info, statErr := os.Stat(filepath.Join(root, name))
		if err := errors.Join(err, statErr); err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, info.Mode().Perm())); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// prelude makes curl wait for a program that is coming up. After it every line is printed as it is read.
const prelude = `set -e
curl() {
	local tries=0 code=0
	while true; do
		code=0; command curl "$@" || code=$?
		case $code in 7|22|52|56) ;; *) return $code ;; esac
		tries=$((tries + 1)); [ $tries -ge 240 ] && return $code
		sleep 0.5
	done
}
set -v
`

// runSection runs the blocks of one section, and looks for what they were to print.
func runSection(t *testing.T, tree string, section []block) {
	script := ""
	var ran []block
	for _, b := range section {
		needs := slices.DeleteFunc(slices.Clone(b.needs), func(n string) bool { return n == "docker" || n == "parse" || have(t, n) })
		if !b.run() || len(needs) > 0 {
			t.Logf("%s is not run: it needs %v", b.at(), b.needs)
			continue
		}
		script += fmt.Sprintf("echo '%s'\n%s", b.mark(), b.text)
		ran = append(ran, b)
	}
	if script == "" {
		return
	}
	output, err := runScript(t, tree, script)
	if err != nil {
		t.Errorf("the section failed: %v\n%s", err, last(output, 80))
		return
	}
	for i, b := range ran {
		_, own, _ := strings.Cut(string(output), "\n"+b.mark()+"\n")
		if i+1 < len(ran) {
			own, _, _ = strings.Cut(own, "\n"+ran[i+1].mark()+"\n")
		}
		if line := missing(own, b.want); line != "" {
			t.Errorf("%s does not print %q, or not in its place:\n%s", b.at(), line, last([]byte(own), 80))
		}
	}
}

// mark is the line that the output of a block begins with.
func (b block) mark() string { return "=== " + b.at() }

// missing returns the first of the lines wanted that does not stand in the output behind those before it, "" when all do.
func missing(output string, want []string) string {
	lines := strings.Split(output, "\n")
	for _, w := range want {
		parts := strings.Split(strings.Join(strings.Fields(w), " "), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		line := regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
		i := slices.IndexFunc(lines, func(l string) bool { return line.MatchString(strings.Join(strings.Fields(l), " ")) })
		if i < 0 {
			return w
		}
		lines = lines[i+1:]
	}
	return ""
}

func TestMissing(t *testing.T) {
	const output = "a  1\n  12 200\nb x y z\na 1\n"
	f := func(missed string, want ...string) {
		t.Helper()
		if got := missing(output, want); got != missed {
			t.Errorf("missing(%q) = %q, want %q", want, got, missed)
		}
	}
	f("")
	f("", "a 1", "… 200", "b  …  z", "a 1")
	f("a 1", "b …", "a 1", "a 1")
	f("200", "200")
	f("b …z y", "a 1", "b …z y")
	f("b .*", "b .*")
}

// runScript runs one shell and stops what it leaves running.
func runScript(t *testing.T, dir, script string) (output []byte, err error) {
	path := filepath.Join(t.TempDir(), "section.sh")
	if err := os.WriteFile(path, []byte(prelude+script), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "output")) // a file: programs in the background keep it open
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "--noprofile", "--norc", path)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	err = cmd.Run()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if cmd.Process != nil && stopGroup(cmd.Process.Pid) {
		err = errors.Join(err, errors.New("a program in the background ignores SIGTERM"))
	}
	text, _ := os.ReadFile(file.Name()) // what there is
	return text, err
}

func TestRunner(t *testing.T) {
	if !have(t, "bash") {
		t.Skip("bash is not here")
	}
	f := func(script, output string, ok bool) {
		t.Helper()
		got, err := runScript(t, t.TempDir(), script)
		if !strings.Contains(string(got), output) || (err == nil) != ok {
			t.Errorf("runScript(%q) = %q, %v, want %q and success %v", script, got, err, output, ok)
		}
	}
	f("echo one\nsleep 1000 &\necho two", "one\nsleep 1000 &\necho two\ntwo", true) // lines as they are read, and what they print
	f("false\necho never", "", false)
	f("nosuchcommand", "nosuchcommand", false)
}

// stopGroup ends a process group by SIGTERM, after 40 seconds by SIGKILL. It reports whether it took SIGKILL.
func stopGroup(group int) (killed bool) {
	for deadline := time.Now().Add(40 * time.Second); alive(group) && time.Now().Before(deadline); {
		syscall.Kill(-group, syscall.SIGTERM) // again and again: what was starting may have missed the first
		for again := time.Now().Add(10 * time.Second); alive(group) && time.Now().Before(again); {
			time.Sleep(50 * time.Millisecond) // between two looks
		}
	}
	if alive(group) {
		syscall.Kill(-group, syscall.SIGKILL)
		return true
	}
	return false
}

// alive reports whether a process of the group runs. A zombie that nobody waits for does not.
func alive(group int) bool {
	if syscall.Kill(-group, 0) != nil {
		return false
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return true // no /proc
	}
	for _, stat := range stats {
		text, _ := os.ReadFile(stat) // it may have ended
		_, after, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(after); len(f) > 2 && f[0] != "Z" && f[2] == fmt.Sprint(group) {
			return true
		}
	}
	return false
}

func last(text []byte, lines int) []byte {
	all := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	return bytes.Join(all[max(0, len(all)-lines):], []byte("\n"))
}
