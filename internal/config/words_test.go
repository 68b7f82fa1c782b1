package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret/secrettest"
)

func TestDuration(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "90d": 90 * day, "1w": 7 * day, "1w2d": 9 * day, "1.5d": 36 * time.Hour, "24h": day, "250ms": 250 * time.Millisecond,
	} {
		if d, err := parseDuration(s); err != nil || d != want {
			t.Errorf("%s: %v %v", s, d, err)
		}
	}
	for _, s := range []string{"", "1", "d", "-1h", "1 h", "1x", "1d-2h", "200y", "99999w", "1e9d", "..d", "9999999999999h"} {
		if d, err := parseDuration(s); err == nil {
			t.Errorf("%q gives %v", s, d)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(36500*day)).Draw(t, "d"))
		if got, err := parseDuration(formatDuration(d)); err != nil || got != d {
			t.Fatalf("%v is written %q and read %v, %v", d, formatDuration(d), got, err)
		}
	})
	for d, want := range map[time.Duration]string{90 * day: "90d", day: "24h", 90 * time.Minute: "1h30m", 5 * time.Minute: "5m", time.Hour + time.Second: "1h0m1s"} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func TestBatch(t *testing.T) {
	names := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, string(rune('a'+i)))
		}
		return out
	}
	sizes := func(b Batch, n int) []int {
		var out []int
		for _, x := range b.Split(names(n)) {
			out = append(out, len(x))
		}
		return out
	}
	third := Batch{Shares: []int{34, 68, 100}}
	grow := Batch{Shares: []int{10, 50, 100}}
	for _, c := range []struct {
		b    Batch
		n    int
		want []int
	}{
		{Batch{}, 3, []int{3}}, {Batch{}, 0, nil}, {third, 3, []int{1, 1, 1}}, {third, 10, []int{3, 3, 4}}, {third, 1, []int{1}}, {third, 2, []int{1, 1}},
		{grow, 10, []int{1, 4, 5}}, {grow, 3, []int{1, 1, 1}}, {grow, 20, []int{2, 8, 10}}, {Batch{Size: 2}, 5, []int{2, 2, 1}},
	} {
		if got := sizes(c.b, c.n); !slices.Equal(got, c.want) {
			t.Errorf("%s of %d: %v", c.b, c.n, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 26).Draw(t, "n")
		shares := rapid.SliceOfNDistinct(rapid.IntRange(1, 99), 0, 6, rapid.ID[int]).Draw(t, "shares")
		slices.Sort(shares)
		b := Batch{Shares: append(shares, 100)}
		if got := slices.Concat(b.Split(names(n))...); !slices.Equal(got, names(n)) {
			t.Fatalf("%v of %d: %v", b, n, got)
		}
		for _, x := range b.Split(names(n)) {
			if len(x) == 0 {
				t.Fatal("an empty batch")
			}
		}
	})
	for text, want := range map[string]Batch{
		"34%": third, "2": {Size: 2}, "[10%, 50%, 100%]": grow, "10% / 50% / 100%": grow, "100%": {Shares: []int{100}},
	} {
		c := must(t, "organization: a\nkeys: { k: { class: staging, owner: x, waves: [{ name: w, locations: [l], batch: "+text+" }] } }\nlocations: { l: { kind: env-file, path: a, variable: A } }\n")
		if diff := cmp.Diff(want, c.Keys["k"].Waves[0].Batch); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for _, text := range []string{"0", "-1", "0%", "101%", "[50%, 40%]", "[10%, 20%]", "[]", "[1, 2]", "half", "{}"} {
		if _, _, err := load(t, "organization: a\nkeys: { k: { class: staging, owner: x, waves: [{ name: w, locations: [l], batch: "+text+" }] } }\nlocations: { l: { kind: env-file, path: a, variable: A } }\n"); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}

func window(t *testing.T, s string) Window {
	t.Helper()
	var w Window
	if err := w.UnmarshalText([]byte(s)); err != nil {
		t.Fatal(s, err)
	}
	return w
}

func TestWindow(t *testing.T) {
	w := window(t, "Mon-Thu 09:00-16:00 Europe/Berlin")
	at := func(s string) time.Time {
		x, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for s, open := range map[string]bool{
		"2026-11-23T08:00:00Z": true, "2026-11-23T07:59:59Z": false, "2026-11-23T14:59:59Z": true, "2026-11-23T15:00:00Z": false, // a Monday, UTC+1
		"2026-11-27T10:00:00Z": false, "2026-06-01T07:30:00Z": true, // a Friday; UTC+2 in June
	} {
		if w.Open(at(s)) != open {
			t.Errorf("%s: %v", s, !open)
		}
	}
	for s, want := range map[string]string{
		"2026-11-23T10:00:00Z": "2026-11-23T10:00:00Z", "2026-11-23T00:00:00Z": "2026-11-23T08:00:00Z", "2026-11-26T15:00:00Z": "2026-11-30T08:00:00Z",
	} {
		if got := NextOpen([]Window{w}, at(s)); !got.Equal(at(want)) {
			t.Errorf("after %s: %s", s, got)
		}
	}
	if now := at("2026-11-23T00:00:00Z"); !NextOpen(nil, now).Equal(now) || !NextOpen([]Window{{}}, now).IsZero() {
		t.Error("without windows")
	}
	// The hour does not exist on the day when clocks go forward.
	night := window(t, "daily 02:00-03:00 Europe/Berlin")
	if got := NextOpen([]Window{night}, at("2026-03-29T00:30:00Z")); !night.Open(got) || got.Sub(at("2026-03-29T00:30:00Z")) > 25*time.Hour {
		t.Errorf("%s", got)
	}
	for in, out := range map[string]string{
		"Mon-Thu 09:00-16:00 Europe/Berlin": "Mon-Thu 09:00-16:00 Europe/Berlin", "sat-sun 00:00-24:00": "Sat-Sun 00:00-24:00 UTC", "daily 01:00-02:00 UTC": "daily 01:00-02:00 UTC",
		"Fri-Mon 01:00-02:00 UTC": "Mon,Fri,Sat,Sun 01:00-02:00 UTC", "Wed,Mon 01:00-02:00 UTC": "Mon,Wed 01:00-02:00 UTC",
	} {
		got := window(t, in)
		if got.String() != out || window(t, got.String()).String() != out {
			t.Errorf("%s: %s", in, got)
		}
	}
	for _, s := range []string{"", "Mon", "Mon 9", "Mon 09:00-09:00", "Mon 10:00-09:00", "Mun 01:00-02:00", "Mon 01:00-25:00", "Mon 01:00-02:00 Mars/Base", "Mon 01:00-02:00 Local", "Mon 01:00-02:00 UTC x"} {
		if err := new(Window).UnmarshalText([]byte(s)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestStore(t *testing.T) {
	for _, s := range []string{"postgres://u:pw@h/d", "postgres://h/d?password=pw", "mysql://h/d", "", "env:", "postgres:///d"} {
		if err := new(Store).UnmarshalText([]byte(s)); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: %v", s, err)
		}
	}
	t.Setenv("KW_STORE", "postgres://u:pw@h/d")
	t.Setenv("KW_WRONG", "pw")
	for s, want := range map[Store]string{"": "/s/keywright.db", "a.db": "/d/a.db", "/a.db": "/a.db", "postgres://u@h/d": "postgres://u@h/d", "env:KW_STORE": "postgres://u:pw@h/d"} {
		if got, err := s.Resolve(t.Context(), "/d", "/s"); err != nil || got != want {
			t.Errorf("%q: %q %v", s, got, err)
		}
	}
	if _, err := Store("env:KW_WRONG").Resolve(t.Context(), "/d", "/s"); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "pw") {
		t.Error(err)
	}
	if _, err := Store("env:KW_NONE").Resolve(t.Context(), "/d", "/s"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"reload", "probe", "production", "path"}
	for in, want := range map[string]string{"relaod": "reload", "Reload": "reload", "prob": "probe", "prodution": "production", "pth": "path", "xyzzy": "", "": "", "a": ""} {
		if got := nearest(in, names); got != want {
			t.Errorf("%s: %q", in, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.StringMatching(`[a-z]{0,12}`).Draw(t, "a"), rapid.StringMatching(`[a-z]{0,12}`).Draw(t, "b")
		d := distance(a, b)
		if d != distance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Fatalf("%s %s: %d", a, b, d)
		}
	})
}

func TestMayBeValue(t *testing.T) {
	if v := secrettest.Fake(t).RevealString(); !mayBeValue(v) || !mayBeValue(v[20:60]) || strings.Contains(quote(v), v[:10]) {
		t.Error("a key is not known as a value")
	}
	for _, s := range []string{"zen-support/anthropic/api-key", "platform@zensupport.example", "/etc/zen/staging.env", "https://staging.zensupport.example/ai/health", "production-secondary", "https://api.anthropic.com"} {
		if mayBeValue(s) {
			t.Errorf("%s is taken for a value", s)
		}
	}
}
