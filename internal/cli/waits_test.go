package cli

import (
	"testing"
	"time"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/rotation"
)

// TestWaits: a rotation that stands at several places names each that has not answered for some time, the longest first.
func TestWaits(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	line := func(place, state string, ago time.Duration) rotation.Line {
		return rotation.Line{Effect: rotation.Effect{Verb: rotation.Reload, Place: place}, State: state, At: now.Add(-ago)}
	}
	v := app.View{At: now}
	v.Move.Steps = []rotation.Progress{{Lines: []rotation.Line{line("web", "running", 40*time.Second), line("batch", "done", time.Hour), line("mail", "running", time.Second)}},
		{Lines: []rotation.Line{line("site", "running", 3*time.Minute)}}}
	verb := verbs[rotation.Reload][0]
	if got, want := waits(v), "no answer yet: site  "+verb+" (3m), web  "+verb+" (40s)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	v.Move.Steps = v.Move.Steps[:1]
	v.Move.Steps[0].Lines = v.Move.Steps[0].Lines[1:]
	if got := waits(v); got != "" {
		t.Errorf("nothing takes long, but: %q", got)
	}
}
