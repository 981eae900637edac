package auth_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

// TestKeysAreComparedAsDigests holds how Valid and ValidBytes compare, since how long they take says little on a shared machine:
// digests, both of them always, by crypto/subtle; and nothing that looks at the bytes of a key in any other way.
func TestKeysAreComparedAsDigests(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "auth.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]int{}
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Name.Name != "Valid" && fn.Name.Name != "ValidBytes" {
			continue
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok {
						calls[x.Name+"."+s.Sel.Name]++
					}
				}
			case *ast.ForStmt, *ast.RangeStmt:
				t.Errorf("%s has a loop", fn.Name.Name)
			case *ast.BinaryExpr:
				for _, side := range []ast.Expr{n.X, n.Y} {
					if id, ok := side.(*ast.Ident); ok && (id.Name == "got" || id.Name == "digest") {
						t.Errorf("%s compares %s by %s", fn.Name.Name, id.Name, n.Op)
					}
				}
			}
			return true
		})
	}
	for call, n := range map[string]int{"sha256.Sum256": 1, "subtle.ConstantTimeCompare": 2} {
		if calls[call] != n {
			t.Errorf("%s is called %d times, want %d", call, calls[call], n)
		}
		delete(calls, call)
	}
	for call := range calls {
		if call != "k.keys" && call != "k.ValidBytes" {
			t.Errorf("%s is called: does its time depend on the key?", call)
		}
	}
}
