package location_test

import (
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
)

const meta = `# a comment
title = "A \"place\""  # another
summary = 'C:\dir'
maturity = "new"
changes = """
One.

Two = "x".
"""
notice = '''it's \n'''
permission = """none"""
undo = "a\nb"
try = "x"
`

func TestParseMeta(t *testing.T) {
	m, err := location.ParseMeta([]byte(meta))
	want := location.Meta{Title: `A "place"`, Summary: `C:\dir`, Maturity: "new", Changes: "One.\n\nTwo = \"x\".", Notice: `it's \n`, Permission: "none", Undo: "a\nb", Try: "x"}
	if err != nil || m != want {
		t.Errorf("%+v, %v", m, err)
	}
	if crlf, err := location.ParseMeta([]byte(strings.ReplaceAll(meta, "\n", "\r\n"))); err != nil || crlf != want {
		t.Errorf("with carriage returns: %+v, %v", crlf, err)
	}
	for text, message := range map[string]string{
		"": "title is missing",
		strings.Replace(meta, "try = \"x\"\n", "", 1): "try is missing",
		meta + "more = \"x\"\n":                       "line 14: unknown key \"more\"",
		meta + "try = \"x\"\n":                        "line 14: \"try\" stands there twice",
		"title = x":                                   "line 1: title: want a text in quotes",
		"title = \"x":                                 "line 1: title: no \" at its end",
		"title = \"\"\"x":                             "line 1: title: no \"\"\" at its end",
		"title = \"x\" y":                             "line 1: title: something follows the text",
		"title = \"\\q\"":                             "line 1: title: unknown escape \\q",
		"title = \" \"":                               "line 1: title: it is empty",
		"\n[table]\n":                                 "line 2: want KEY = \"text\"",
		"title = \"\"\"x\\\"\"\"\n":                   "line 1: title: a backslash at its end",
	} {
		if _, err := location.ParseMeta([]byte(text)); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), message) {
			t.Errorf("%q: %v, want %q", text, err, message)
		}
	}
}

func FuzzParseMeta(f *testing.F) {
	f.Add(meta)
	f.Add("title = \"")
	f.Add("title = '''\n\\")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := location.ParseMeta([]byte(text))
		if err == nil && (m.Title == "" || m.Try == "") {
			t.Errorf("%q: accepted without all keys: %+v", text, m)
		}
	})
}
