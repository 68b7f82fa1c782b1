package secret_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

// The prefixes are put together here, so that no line of this file looks like a key to a scanner.
var (
	family = strings.Join([]string{"sk", "ant", ""}, "-")
	body   = strings.Repeat("fake-example", 8)[:93] + "AA"
)

func TestCheckAPIKeyTakesKeys(t *testing.T) {
	if f, err := secret.CheckAPIKey(secrettest.Fake(t)); err != nil || f.Sort != secret.SortAPIKey || len(f.Warnings) != 0 {
		t.Errorf("a key of the usual shape: %+v, %v", f, err)
	}
	for text, want := range map[string]struct {
		sort     secret.Sort
		warnings []string
	}{
		family + "api03-" + body[:93] + "AB": {secret.SortAPIKey, []string{"the last two characters are unusual"}},
		family + "api03-" + body[:90]:        {secret.SortAPIKey, []string{"103 characters instead of the usual 108"}},
		family + "api04-" + body:             {secret.SortNear, []string{"the prefix is newer than this version of Keywright knows"}},
		family + "api11-" + body + "x":       {secret.SortNear, []string{"the prefix is newer than this version of Keywright knows", "109 characters instead of the usual 108"}},
	} {
		f, err := secret.CheckAPIKey(secret.New([]byte(text)))
		if err != nil || f.Sort != want.sort || !slices.Equal(f.Warnings, want.warnings) {
			t.Errorf("%d characters: %+v, %v", len(text), f, err)
		}
	}
}

func TestCheckAPIKeyRefuses(t *testing.T) {
	good := family + "api03-" + body
	for _, c := range []struct{ text, want string }{
		{"", "it is empty"},
		{" " + good, "a blank at offset 0 (before the key)"},
		{"\n" + good, "a line feed at offset 0 (before the key)"},
		{`"` + good + `"`, "a quote at offset 0 (before the key)"},
		{"\ufeff" + good, "a character outside ASCII at offset 0 (before the key)"},
		{good + "\n", "a line feed at offset 108 (after the key)"},
		{good + "\r\n", "a carriage return at offset 108 (after the key)"},
		{good + ";", "a character that no key contains at offset 108 (after the key)"},
		{good + "\t# mine", "a tab at offset 108 (inside)"},
		{good[:50] + "\n" + good[50:], "a line feed at offset 50 (inside)"},
		{good[:50] + "\x00" + good[50:], "a zero byte at offset 50 (inside)"},
		{good[:50] + "\x1b" + good[50:], "a control character at offset 50 (inside)"},
		{good[:50] + "\u2013" + good[50:], "a character outside ASCII at offset 50 (inside)"},
		{"x-api-key:" + good, "a character that no key contains at offset 9 (inside)"},
		{good[:50], "50 characters, and a key has 108: it was cut short"},
		{good[:52], "52 characters, and a key has 108: it was cut short"},
		{good[:12], "12 characters, and a key has 108: it was cut short"}, // the prefix without its dash
		{good[:8], "8 characters, and a key has 108: it was cut short"},
		{family + "api04-" + body[:20], "33 characters, and a key has 108: it was cut short"},
		{good + good, "it holds 2 keys in a row"},
		{family + "api04-" + body + good, "it holds 2 keys in a row"},
		{good + strings.Repeat("a", 512), "620 characters: more than one key, or no key"},
		{family + "api02-" + body, "retired sort"},
		{family + "api00-" + body, "retired sort"},
		{family + "new01-" + body, "unfamiliar sort"},
		{family + "apikey" + body, "unfamiliar sort"},
		{family + "admin01-" + body, "admin key, which must never be deployed"},
		{family + "api01-" + body, "wrong sort: scoped key"},
		{family + "oat01-" + body, "wrong sort: OAuth access token"},
		{family + "ort01-" + body, "wrong sort: OAuth refresh token"},
		{family + "sid01-" + body, "wrong sort: session key"},
		{family + "sid02-" + body, "wrong sort: session key"},
		{"sk-proj-" + body, "key of another provider"},
		{body, "it does not start with"},
	} {
		v := secret.New([]byte(c.text))
		_, err := secret.CheckAPIKey(v)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) || fault.HintOf(err) == "" {
			t.Errorf("want %q, got: %v (hint %q)", c.want, err, fault.HintOf(err))
			continue
		}
		if strings.Contains(err.Error()+fault.HintOf(err), "fake-example") {
			t.Errorf("%q: the error quotes the value", c.want)
		}
	}
}

func FuzzCheckAPIKey(f *testing.F) {
	f.Add([]byte(family + "api03-" + body))
	f.Add([]byte(family + "api03-" + body + "\n"))
	f.Add([]byte(family + "api99-" + body))
	f.Add([]byte("sk-\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		text := string(b)
		format, err := secret.CheckAPIKey(secret.New(b))
		if err != nil {
			if !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
				t.Errorf("%q: %v without kind or hint", text, err)
			}
			if len(text) > 24 && strings.Contains(err.Error()+fault.HintOf(err), text) {
				t.Errorf("%q: the error quotes the value", text)
			}
			return
		}
		// What is accepted is one bare word of one family member of a plausible length.
		if format.Sort != secret.SortAPIKey && format.Sort != secret.SortNear || !strings.HasPrefix(text, family+"api") ||
			strings.ContainsAny(text, " \t\r\n\"'`\x00") || len(text) < 53 || len(text) > 512 || strings.Count(text, family) != 1 {
			t.Errorf("%q was accepted as %v", text, format)
		}
		if format.Sort == secret.SortNear && len(format.Warnings) == 0 {
			t.Errorf("%q was accepted without a warning", text)
		}
	})
}
