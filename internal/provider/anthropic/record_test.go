package anthropic

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestNamesAreMadeFit(t *testing.T) {
	key := "sk-" + "ant-" + "api03-" + strings.Repeat("x", 30)
	for in, want := range map[string]string{
		"billing-svc":             "billing-svc",
		"größer & 日本":             "größer & 日本",
		"a\x1b[31mred\r\n\tb":     "a[31mredb",
		"a\u202eevil\u200bb":      "aevilb",
		"pasted " + key + " here": "pasted [key] here",
		"\xff\xfe":                "\ufffd\ufffd",
		strings.Repeat("ä", 300):  strings.Repeat("ä", 200) + "…",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	if got := word(key[:40], idPattern); got != "unfamiliar" {
		t.Errorf("a word that looks like a value passes: %q", got)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(`{"id":"apikey_01A","status":"active","name":"x","created_at":"2026-10-02T08:15:00Z","scope":{"type":"workspace","workspace_id":"wrkspc_01A"}}`)
	f.Add(`{"id":"apikey_01A","status":"expired","principal":{"type":"user","id":"u"},"workspace_id":null,"expires_at":null}`)
	f.Add(`{"id":7}`)
	f.Fuzz(func(t *testing.T, raw string) {
		k, err := parseKey(raw)
		if err != nil {
			return
		}
		if !idPattern().MatchString(k.ID) || k.Status == "" {
			t.Errorf("%q gives %+v", raw, k)
		}
		for _, s := range []string{k.ID, k.Name, string(k.Status), k.Workspace, k.Principal, k.CreatedBy} {
			if keyShaped().MatchString(s) || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("%q gives the text %q", raw, s)
			}
		}
		if _, err := json.Marshal(k); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	})
}
