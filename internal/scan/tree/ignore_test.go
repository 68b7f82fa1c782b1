package tree

import (
	"path"
	"strings"
	"testing"
)

// slowMatch is matchParts as the rules say it: "**" stands for any number of folders, and at the end for one name at least.
func slowMatch(pattern, parts []string) bool {
	if len(pattern) == 0 {
		return len(parts) == 0
	}
	if pattern[0] != "**" {
		if len(parts) == 0 {
			return false
		}
		ok, err := path.Match(pattern[0], parts[0])
		return ok && err == nil && slowMatch(pattern[1:], parts[1:])
	}
	if len(pattern) == 1 {
		return len(parts) > 0
	}
	for i := range len(parts) + 1 {
		if slowMatch(pattern[1:], parts[i:]) {
			return true
		}
	}
	return false
}

// FuzzIgnore reads what may be an ignore file: nothing panics, patterns match what the slow way says, and the last rule that matches decides.
func FuzzIgnore(f *testing.F) {
	f.Add("# remark\n*.log\n!keep.log\n/build/\n", "a/keep.log", false)
	f.Add("a/**/b\n**/c\nd/**\n\\#x \\ \n", "a/x/y/b", true)
	f.Add("[a-c]?/*\r\n[\n!\n/\n//\n", "b1/x", false)
	f.Fuzz(func(t *testing.T, text, name string, folder bool) {
		if name == "" || strings.Count(name, "/") > 8 || strings.Count(text, "**") > 8 {
			return
		}
		list := parseRules(text)
		rules := &ignoreRules{rules: list}
		parts := strings.Split(name, "/")
		want := false
		for _, r := range list {
			match := r.matches(parts)
			if r.anchored && match != slowMatch(r.parts, parts) {
				t.Fatalf("%q matches %q: %v", r.parts, parts, match)
			}
			if match && (folder || !r.folder) {
				want = !r.negate
			}
		}
		if got := rules.ignored(name, folder); got != want {
			t.Fatalf("%q ignores %q: %v, want %v", text, name, got, want)
		}
	})
}
