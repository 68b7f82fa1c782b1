package location

import (
	"fmt"
	"strings"

	"github.com/keywright/keywright/internal/fault"
)

// Meta is the prose about a kind: what stands in meta.toml. All of it is required.
type Meta struct {
	Title      string // in words, such as "Environment file"
	Summary    string // one sentence
	Maturity   string // how far it is tested
	Changes    string // what it changes, and what it leaves alone
	Notice     string // how consumers notice a new value
	Permission string // the smallest one that is enough
	Undo       string // what can and what cannot be undone
	Try        string // how to try it without risk
}

// ParseMeta reads meta.toml. It knows of TOML what prose needs: comments, and keys with strings in one line or in three
// quotes. The error is Invalid and names the line or the missing key.
func ParseMeta(b []byte) (Meta, error) {
	var m Meta
	fields := map[string]*string{
		"title": &m.Title, "summary": &m.Summary, "maturity": &m.Maturity, "changes": &m.Changes,
		"notice": &m.Notice, "permission": &m.Permission, "undo": &m.Undo, "try": &m.Try,
	}
	rest := strings.ReplaceAll(string(b), "\r\n", "\n")
	all := rest
	bad := func(format string, args ...any) (Meta, error) {
		line := 1 + strings.Count(all[:len(all)-len(rest)], "\n")
		return Meta{}, fault.Newf(fault.Invalid, "parse meta.toml: line %d: %s", line, fmt.Sprintf(format, args...))
	}
	for {
		rest = strings.TrimLeft(rest, " \t\n")
		if rest == "" {
			break
		}
		if rest[0] == '#' {
			_, rest, _ = strings.Cut(rest, "\n")
			continue
		}
		key, after, found := strings.Cut(rest, "=")
		if key = strings.TrimSpace(key); !found || strings.ContainsAny(key, "\n") {
			return bad("want KEY = \"text\"")
		}
		into := fields[key]
		switch {
		case into == nil:
			return bad("unknown key %q", key)
		case *into != "":
			return bad("%q stands there twice", key)
		}
		text, after, err := tomlString(strings.TrimLeft(after, " \t"))
		if err != nil {
			return bad("%s: %v", key, err)
		}
		if *into = strings.TrimSpace(text); *into == "" {
			return bad("%s: it is empty", key)
		}
		tail, next, _ := strings.Cut(after, "\n")
		if tail = strings.TrimSpace(tail); tail != "" && tail[0] != '#' {
			return bad("%s: something follows the text", key)
		}
		rest = next
	}
	for _, key := range []string{"title", "summary", "maturity", "changes", "notice", "permission", "undo", "try"} {
		if *fields[key] == "" {
			return Meta{}, fault.Newf(fault.Invalid, "parse meta.toml: %s is missing", key)
		}
	}
	return m, nil
}

// tomlString reads one string at the start of s, and gives what follows it.
func tomlString(s string) (text, rest string, err error) {
	for _, q := range []string{`"""`, `'''`} {
		if body, ok := strings.CutPrefix(s, q); ok {
			body = strings.TrimPrefix(body, "\n")
			text, rest, ok := strings.Cut(body, q)
			if !ok {
				return "", "", fmt.Errorf("no %s at its end", q)
			}
			if q == `"""` {
				text, err = unescape(text)
			}
			return text, rest, err
		}
	}
	if s == "" || s[0] != '"' && s[0] != '\'' {
		return "", "", fmt.Errorf("want a text in quotes")
	}
	for i := 1; i < len(s) && s[i] != '\n'; i++ {
		switch {
		case s[i] == '\\' && s[0] == '"':
			i++
		case s[i] == s[0]:
			text = s[1:i]
			if s[0] == '"' {
				text, err = unescape(text)
			}
			return text, s[i+1:], err
		}
	}
	return "", "", fmt.Errorf("no %c at its end", s[0])
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", fmt.Errorf("a backslash at its end")
		}
		switch s[i] {
		case '"', '\\':
			b.WriteByte(s[i])
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		default:
			return "", fmt.Errorf("unknown escape \\%c", s[i])
		}
	}
	return b.String(), nil
}
