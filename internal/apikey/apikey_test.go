package apikey_test

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
)

func TestNames(t *testing.T) {
	for n, want := range map[apikey.Name]bool{
		"prod-primary": true, "a": true, "9": true, "": false, "-a": false, "a-": false, "A": false, "a_b": false, "a b": false, "a\n": false,
		apikey.Name(strings.Repeat("a", 63)): true, apikey.Name(strings.Repeat("a", 64)): false,
	} {
		if n.Valid() != want {
			t.Errorf("Valid(%q) = %v", n, !want)
		}
	}
}

func TestDigest(t *testing.T) {
	var zero apikey.Digest
	d := apikey.Digest(sha256.Sum256([]byte("x")))
	if zero.Same(zero) || zero.Known() || !d.Same(d) || zero.Fingerprint() != "" {
		t.Error("the zero digest must equal nothing")
	}
	if got, want := string(d.Fingerprint()), "kf_2d711642b726b044"; got != want {
		t.Errorf("Fingerprint = %q, want %q", got, want)
	}
	if got := d.Fingerprint().Short(); got != "kf_2d71…" {
		t.Errorf("Short = %q", got)
	}
	for _, in := range []apikey.Digest{zero, d} {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out apikey.Digest
		if err := json.Unmarshal(b, &out); err != nil || out != in {
			t.Errorf("round trip of %s: %v", b, err)
		}
	}
	var out apikey.Digest
	for _, bad := range []string{"00", strings.Repeat("g", 64)} {
		if out.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("UnmarshalText(%q) took it", bad)
		}
	}
}

func TestClassesHaveTheRunbookPeriods(t *testing.T) {
	want := map[string]int{"production-primary": 90, "production-secondary": 90, "staging": 180, "development": 365}
	for _, c := range apikey.Classes() {
		if got := int(c.RotateEvery / (24 * time.Hour)); got != want[c.Name] {
			t.Errorf("%s: %d days, want %d", c.Name, got, want[c.Name])
		}
		if c.Soak != 24*time.Hour || c.HealthWait != 30*time.Second {
			t.Errorf("%s: soak %v, health wait %v", c.Name, c.Soak, c.HealthWait)
		}
		delete(want, c.Name)
	}
	if len(want) != 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestConsoleName(t *testing.T) {
	at := time.Date(2026, 11, 18, 23, 30, 0, 0, time.FixedZone("west", -5*3600))
	if got, want := apikey.ConsoleName("zen-support", "prod-primary", at), "zen-support-prod-primary-20261119"; got != want {
		t.Errorf("ConsoleName = %q, want %q", got, want)
	}
}
