package main

import (
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/scan/plant"
)

// A report that differs from the truth in one thing is told so, and one that does not is not.
func TestDifferencesAreTold(t *testing.T) {
	from := time.Unix(1_700_000_000, 0)
	truth := plant.Truth{Keys: []plant.Row{{
		Place: "somewhere", Fingerprint: "kf_1", Family: "anthropic", Kind: "API key", Spots: []plant.Spot{{Path: "a"}, {Part: "author"}},
		Exposure: &plant.Exposure{First: "c1", Last: "c2", Removed: []string{"c3"}, Refs: []string{"refs/heads/main"}, Pushed: "yes", PushedTo: []string{"origin"}, From: from, To: from.AddDate(0, 0, 2)},
	}}}
	right := func() report {
		var r report
		r.Started = from.AddDate(0, 0, 9)
		r.Keys = append(r.Keys, struct {
			Fingerprint string     `json:"fingerprint"`
			Family      string     `json:"family"`
			Kind        string     `json:"kind"`
			Grade       string     `json:"grade"`
			Places      []place    `json:"places"`
			Exposure    []exposure `json:"exposure"`
		}{"kf_1", "anthropic", "API key", "exact", []place{{Path: "a"}, {Path: "a"}, {Part: "author"}}, []exposure{{
			First: &commit{"c1"}, Last: &commit{"c2"}, Removed: []commit{{"c3"}}, Refs: []string{"main"}, Pushed: "yes", PushedTo: []string{"origin"}, From: from, To: from.AddDate(0, 0, 2), Days: 2,
		}}})
		return r
	}
	if bad := differences(truth, right()); len(bad) > 0 {
		t.Errorf("%q", bad)
	}
	for want, change := range map[string]func(r *report){
		"not found":             func(r *report) { r.Keys = nil },
		"told and not planted":  func(r *report) { r.Keys = append(r.Keys, r.Keys[0]); r.Keys[1].Fingerprint = "kf_2" },
		"told as near":          func(r *report) { r.Keys[0].Grade = "near" },
		"want a file, author":   func(r *report) { r.Keys[0].Places = r.Keys[0].Places[:1] },
		"0 exposures":           func(r *report) { r.Keys[0].Exposure = nil },
		"first is , want c1":    func(r *report) { r.Keys[0].Exposure[0].First = nil },
		"removed is [], want":   func(r *report) { r.Keys[0].Exposure[0].Removed = nil },
		"refs is [x], want":     func(r *report) { r.Keys[0].Exposure[0].Refs = []string{"x"} },
		"pushed is never":       func(r *report) { r.Keys[0].Exposure[0].Pushed = "never" },
		"3 days, want 2":        func(r *report) { r.Keys[0].Exposure[0].Days = 3 },
		"in HEAD is true, want": func(r *report) { r.Keys[0].Exposure[0].InHead = true },
	} {
		r := right()
		change(&r)
		if bad := differences(truth, r); len(bad) != 1 || !strings.Contains(bad[0], want) {
			t.Errorf("%q: %q", want, bad)
		}
	}
}

// A folder is planted once, with the truth beside it.
func TestSowRefusesWhatIsNotEmpty(t *testing.T) {
	dir := t.TempDir()
	if err := run(t.Context(), nil, "", dir, 3, 0); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), nil, "", dir, 3, 0); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("planted twice: %v", err)
	}
}
