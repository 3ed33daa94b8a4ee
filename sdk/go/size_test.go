package cable_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// As in the other clients, blank lines, comments, generated code and the server for tests do not count.
func TestTheLibraryStaysSmall(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	isCode, lines := regexp.MustCompile(`(?m)^\s*([^\s/]|/[^/])`), map[string]int{}
	total := 0
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines[path] = len(isCode.FindAll(text, -1))
		total += lines[path]
	}
	if total < 500 || total > 900 {
		t.Fatalf("%d lines of code, at most 900: %v", total, lines)
	}
}
