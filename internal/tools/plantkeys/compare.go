package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/scan/plant"
)

// report is what of a scan's JSON is compared.
type report struct {
	Started time.Time `json:"started"`
	Keys    []struct {
		Fingerprint string     `json:"fingerprint"`
		Family      string     `json:"family"`
		Kind        string     `json:"kind"`
		Grade       string     `json:"grade"`
		Places      []place    `json:"places"`
		Exposure    []exposure `json:"exposure"`
	} `json:"keys"`
}

type place struct {
	Path string `json:"path"`
	Part string `json:"part"`
}

type commit struct {
	ID string `json:"id"`
}

type exposure struct {
	First        *commit   `json:"first"`
	Last         *commit   `json:"last"`
	Removed      []commit  `json:"removed"`
	Reintroduced []commit  `json:"reintroduced"`
	Refs         []string  `json:"refs"`
	Tips         []string  `json:"tips"`
	MoreRefs     int       `json:"more_refs"`
	InHead       bool      `json:"in_head"`
	Pushed       string    `json:"pushed"`
	PushedTo     []string  `json:"pushed_to"`
	PushedAt     time.Time `json:"pushed_at"`
	Only         string    `json:"only"`
	From         time.Time `json:"from"`
	To           time.Time `json:"to"`
	Days         float64   `json:"days"`
}

// differences says, a line for each, in what a report differs from the truth.
func differences(t plant.Truth, r report) (bad []string) {
	say := func(place, format string, args ...any) { bad = append(bad, place+": "+fmt.Sprintf(format, args...)) }
	told := map[string]int{}
	for i, k := range r.Keys {
		told[k.Fingerprint] = i + 1
	}
	for _, row := range t.Keys {
		i := told[string(row.Fingerprint)]
		delete(told, string(row.Fingerprint))
		if i == 0 {
			say(row.Place, "not found")
			continue
		}
		k := r.Keys[i-1]
		grade := "exact"
		if row.Near {
			grade = "near"
		}
		if k.Family != row.Family || k.Kind != row.Kind || k.Grade != grade {
			say(row.Place, "told as %s %s %s, want %s %s %s", k.Grade, k.Family, k.Kind, grade, row.Family, row.Kind)
		}
		if row.Exposure == nil {
			if !slices.ContainsFunc(k.Places, func(p place) bool { return strings.HasSuffix(p.Path, "/"+row.Path) || strings.Contains(p.Path, "[kf_") }) {
				say(row.Place, "not told to be in its file, but in %v", k.Places)
			}
			continue
		}
		if got, want := parts(k.Places), wanted(row.Spots); got != want {
			say(row.Place, "in %s, want %s", got, want)
		}
		if len(k.Exposure) != 1 {
			say(row.Place, "%d exposures", len(k.Exposure))
			continue
		}
		for _, line := range k.Exposure[0].differences(row.Exposure, r.Started) {
			say(row.Place, "%s", line)
		}
	}
	for fingerprint := range told {
		say(fingerprint, "told and not planted")
	}
	slices.Sort(bad)
	return bad
}

func (e *exposure) differences(w *plant.Exposure, now time.Time) (bad []string) {
	same := func(what string, got, want any) {
		if fmt.Sprint(got) != fmt.Sprint(want) {
			bad = append(bad, fmt.Sprintf("%s is %v, want %v", what, got, want))
		}
	}
	one := func(c *commit) string {
		if c == nil {
			return ""
		}
		return c.ID
	}
	ids := func(list []commit) (all []string) {
		for _, c := range list {
			all = append(all, c.ID)
		}
		slices.Sort(all)
		return all
	}
	same("first", one(e.First), w.First)
	same("last", one(e.Last), w.Last)
	same("removed", ids(e.Removed), w.Removed)
	same("reintroduced", ids(e.Reintroduced), w.Reintroduced)
	if e.MoreRefs == 0 {
		same("refs", e.Refs, short(w.Refs))
		same("tips", e.Tips, short(w.Tips))
	}
	same("in HEAD", e.InHead, w.InHead)
	same("pushed", e.Pushed, w.Pushed)
	same("pushed to", e.PushedTo, w.PushedTo)
	same("pushed at", e.PushedAt.UTC(), w.PushedAt.UTC())
	same("only", e.Only, w.Only)
	same("from", e.From.UTC(), w.From.UTC())
	same("to", e.To.UTC(), w.To.UTC())
	if days := w.Days(now); math.Abs(days-e.Days) > 0.01 {
		bad = append(bad, fmt.Sprintf("%v days, want %v", e.Days, days))
	}
	return bad
}

// short gives the names of refs as reports have them.
func short(refs []string) (all []string) {
	for _, r := range refs {
		for _, prefix := range []string{"refs/heads/", "refs/remotes/", "refs/"} {
			if rest, ok := strings.CutPrefix(r, prefix); ok {
				r = rest
				break
			}
		}
		all = append(all, r)
	}
	return all
}

// parts sums up places: paths are masked and escaped in a report, so they are counted, and the other parts are named.
func parts(places []place) string {
	distinct := map[place]bool{}
	var all []string
	for _, p := range places {
		if !distinct[p] {
			distinct[p] = true
			all = append(all, part(p.Part))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func wanted(spots []plant.Spot) string {
	var all []string
	for _, s := range spots {
		all = append(all, part(s.Part))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func part(s string) string {
	if s == "" {
		return "a file"
	}
	return s
}
