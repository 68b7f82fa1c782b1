package tree

import (
	"io"
	"path"
	"slices"
	"strings"
)

// largestIgnoreFile bounds what is read of a .gitignore file.
const largestIgnoreFile = 1 << 20

// ignoreRules are the patterns of a folder and, through up, of those above it. The nil rules ignore nothing.
type ignoreRules struct {
	up    *ignoreRules
	base  string // the folder of the file, "" for the root
	rules []ignoreRule
}

type ignoreRule struct {
	parts    []string // the pattern between slashes; "**" spans folders
	negate   bool
	folder   bool // matches folders alone
	anchored bool // matches from base on, not at any depth
}

// enter adds the rules that a folder brings: its .gitignore, and .git/info/exclude where it is the top of a work tree.
func (r *ignoreRules) enter(dir *folder, path string) *ignoreRules {
	var rules []ignoreRule
	for _, name := range []string{".git/info/exclude", ".gitignore"} {
		rules = append(rules, readRules(dir, name)...)
	}
	if rules == nil {
		return r
	}
	base := path
	if base == "." {
		base = ""
	}
	return &ignoreRules{up: r, base: base, rules: rules}
}

func readRules(dir *folder, name string) []ignoreRule {
	f, err := dir.file(name)
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // it was only read
	if _, regular, err := f.stat(); err != nil || !regular {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, largestIgnoreFile))
	if err != nil {
		return nil
	}
	return parseRules(string(b))
}

func parseRules(text string) []ignoreRule {
	var rules []ignoreRule
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		for strings.HasSuffix(line, " ") && !strings.HasSuffix(line, `\ `) {
			line = line[:len(line)-1]
		}
		if line == "" || line[0] == '#' {
			continue
		}
		var r ignoreRule
		line, r.negate = strings.CutPrefix(line, "!")
		line, r.folder = strings.CutSuffix(line, "/")
		r.anchored = strings.Contains(line, "/")
		line = strings.TrimPrefix(line, "/")
		if line == "" {
			continue
		}
		r.parts = strings.Split(line, "/")
		rules = append(rules, r)
	}
	return rules
}

// ignored reports whether the last rule that matches a path, from the deepest folder upwards, ignores it.
func (r *ignoreRules) ignored(name string, folder bool) bool {
	for ; r != nil; r = r.up {
		rel := name
		if r.base != "" {
			rel = strings.TrimPrefix(name, r.base+"/")
		}
		parts := strings.Split(rel, "/")
		for i := len(r.rules) - 1; i >= 0; i-- {
			if rule := r.rules[i]; (folder || !rule.folder) && rule.matches(parts) {
				return !rule.negate
			}
		}
	}
	return false
}

func (r ignoreRule) matches(parts []string) bool {
	if !r.anchored {
		ok, err := path.Match(r.parts[0], parts[len(parts)-1])
		return ok && err == nil
	}
	return matchParts(r.parts, parts)
}

// matchParts matches a pattern with "**" in time proportional to the product of the lengths.
func matchParts(pattern, parts []string) bool {
	reach := make([]bool, len(parts)+1)
	reach[0] = true
	for k, p := range pattern {
		next := make([]bool, len(parts)+1)
		if p == "**" {
			if k == len(pattern)-1 { // "a/**" matches what is in a, not a
				return slices.Contains(reach[:len(parts)], true)
			}
			on := false
			for i := range reach {
				on = on || reach[i]
				next[i] = on
			}
		} else {
			for i, part := range parts {
				if !reach[i] {
					continue
				}
				if ok, err := path.Match(p, part); ok && err == nil {
					next[i+1] = true
				}
			}
		}
		reach = next
	}
	return reach[len(parts)]
}
