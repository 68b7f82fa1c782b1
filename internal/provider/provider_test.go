package provider_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		hint, value string
		want        bool
	}{
		{"abc...xyz", "abc-in-between-xyz", true},
		{"abc…xyz", "abc-in-between-xyz", true},
		{"abc...xyz", "abcdxyz", true},
		{"abc...xyz", "abcxyz", false}, // nothing is hidden, so it is no hint
		{"abc...cde", "abcde", false},  // the ends overlap
		{"abc...xyz", "Abc-in-between-xyz", false},
		{"abc...xyz", "abc-in-between-xy", false},
		{"...xyz", "abc-in-between-xyz", false},
		{"abc...", "abc-in-between-xyz", false},
		{"...", "abc-in-between-xyz", false},
		{"abc", "abc-in-between-xyz", false},
		{"abc..xyz", "abc-in-between-xyz", false},
		{"", "abc-in-between-xyz", false},
		{"abc...xyz", "", false},
	} {
		k := provider.Key{Hint: provider.NewHint(c.hint)}
		if got := k.Matches(secret.New([]byte(c.value))); got != c.want {
			t.Errorf("hint %q, value %q: %v", c.hint, c.value, got)
		}
	}
	if !provider.NewHint("").IsZero() || provider.NewHint("abc...xyz").IsZero() {
		t.Error("IsZero")
	}
	if (provider.Key{}).Matches(secret.New([]byte("abc"))) {
		t.Error("a key without a hint fits")
	}
}

func TestHintsOfOtherKeysDoNotFit(t *testing.T) {
	v := secrettest.Fake(t)
	var text string
	v.Reveal(func(b []byte) { text = string(b) })
	hinted := provider.Key{Hint: provider.NewHint(text[:16] + "..." + text[len(text)-6:])}
	if !hinted.Matches(v) {
		t.Error("a key does not fit its own hint")
	}
	if hinted.Matches(secrettest.Fake(t)) {
		t.Error("another key fits")
	}
}

// TestHintIsNotPrinted also where fmt cannot call methods: in unexported fields.
func TestHintIsNotPrinted(t *testing.T) {
	k := provider.Key{ID: "apikey_01", Hint: provider.NewHint("first...last")}
	type inner struct{ k provider.Key }
	for _, v := range []any{k, &k, []provider.Key{k}, map[string]provider.Key{"a": k}, k.Hint, &k.Hint, inner{k}, &inner{k}, []inner{{k}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "first") || strings.Contains(s, "last") || strings.Contains(s, fmt.Sprintf("%x", "first")) {
				t.Errorf("%T by %s: %s", v, verb, s)
			}
		}
		if b, err := json.Marshal(v); err != nil || strings.Contains(string(b), "first") {
			t.Errorf("%T as JSON: %s, %v", v, b, err)
		}
	}
	if s := fmt.Sprintf("%+v", k); !strings.Contains(s, "apikey_01") || !strings.Contains(s, "a hint") {
		t.Errorf("a key shows as %s", s)
	}
	if s := fmt.Sprint(provider.Hint{}); s != "no hint" {
		t.Errorf("no hint shows as %q", s)
	}
}

func TestNeed(t *testing.T) {
	for _, c := range []struct {
		verdict provider.Verdict
		kind    fault.Kind
		text    string
	}{
		{provider.Verdict{Answer: provider.Dead, Status: 401, Reason: "why"}, fault.Unauthenticated, "test key: the provider refuses the value (why)"},
		{provider.Verdict{Answer: provider.Dead, Status: 400}, fault.Unauthenticated, "test key: the provider refuses the value"},
		{provider.Verdict{Answer: provider.Blocked, Status: 403, Reason: "why"}, fault.Forbidden, "test key: the value is genuine and its use is blocked (why)"},
		{provider.Verdict{Answer: provider.Blocked, Status: 429, RetryAfter: time.Minute}, fault.RateLimited, "test key: the value is genuine and its use is blocked"},
		{provider.Verdict{Answer: provider.Blocked, Status: 402}, fault.Unavailable, "test key: the value is genuine and its use is blocked"},
		{provider.Verdict{Answer: provider.Blocked, Status: 400}, fault.Unavailable, "test key: the value is genuine and its use is blocked"},
		{provider.Verdict{Answer: provider.Unknown, Status: 529, Reason: "why", RetryAfter: time.Second}, fault.Unavailable, "test key: the provider's answer says nothing about the value (why)"},
		{provider.Verdict{Answer: provider.Unknown}, fault.Unavailable, "test key: the provider's answer says nothing about the value"},
		{provider.Verdict{}, fault.Unavailable, "test key: the provider's answer says nothing about the value"},
	} {
		err := c.verdict.Need("test key")
		if !fault.Is(err, c.kind) || err.Error() != c.text || fault.HintOf(err) == "" || fault.RetryAfterOf(err) != c.verdict.RetryAfter {
			t.Errorf("%+v: %v (%v, hint %q, retry after %v)", c.verdict, err, fault.KindOf(err), fault.HintOf(err), fault.RetryAfterOf(err))
		}
	}
	if err := (provider.Verdict{Answer: provider.Live, Status: 200}).Need("test key"); err != nil {
		t.Errorf("a live value: %v", err)
	}
}
