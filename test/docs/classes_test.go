package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestNamedTestsExist: a test that SECURITY.md names is in the tree.
func TestNamedTestsExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z0-9][A-Za-z0-9]*)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 30 {
		t.Fatalf("SECURITY.md names %d tests: is its table gone?", len(named))
	}
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z0-9][A-Za-z0-9]*)\(`)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declared.FindAllStringSubmatch(string(source), -1) {
			there[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range named {
		if !there[m[1]] {
			t.Errorf("SECURITY.md names %s, which no file declares", m[1])
		}
	}
}

// TestNamedCodeExists: a file, or a name with a dot, that ARCHITECTURE.md names is in the tree.
func TestNamedCodeExists(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, code := map[string]bool{}, strings.Builder{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		files[d.Name()] = true
		if strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		code.Write(source)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, m := range regexp.MustCompile("`([A-Za-z0-9_./*]+)`").FindAllStringSubmatch(string(text), -1) {
		switch name := m[1]; {
		case strings.HasSuffix(name, ".go"):
			if named++; !files[filepath.Base(name)] {
				t.Errorf("ARCHITECTURE.md names %s, which is no file", name)
			}
		case strings.HasPrefix(name, "pkg/") || strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "internal/"):
			if found, _ := filepath.Glob(filepath.Join(root, name)); len(found) == 0 && !strings.HasPrefix(name, "internal/") {
				t.Errorf("ARCHITECTURE.md names %s, which is no directory", name)
			}
		case strings.Contains(name, ".") && !strings.HasPrefix(name, "."):
			named++
			word := regexp.QuoteMeta(name[strings.LastIndex(name, ".")+1:])
			declared := regexp.MustCompile(`(?m)^(func (\([^)]*\) )?` + word + `\b|type ` + word + `\b|\t+` + word + `\s)|yaml:"` + word + `"`)
			if !declared.MatchString(code.String()) {
				t.Errorf("ARCHITECTURE.md names %s, which nothing declares", name)
			}
		}
	}
	if named < 40 {
		t.Errorf("ARCHITECTURE.md names %d files and declarations: are they not in backquotes any more?", named)
	}
}
