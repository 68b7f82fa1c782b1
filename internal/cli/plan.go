package cli

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/rotation"
)

func (c *console) planCommand() *cobra.Command {
	var emergency, rollback bool
	cmd := &cobra.Command{
		Use: "plan KEY", Short: "print exactly what a rotation would do", GroupID: "main", Args: cobra.ExactArgs(1),
		Long: `Plan prints what a rotation of the key would do: where, in which waves, on what evidence, what undoes it, and what can
not be undone or verified. It changes nothing and asks neither the provider nor a place.`,
		Example: "  keywright plan prod-primary\n  keywright plan prod-primary --emergency --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.app(cmd.Context())
			if err != nil {
				return err
			}
			defer a.Close()
			wish := app.Wish{Key: apikey.Name(args[0]), Kind: rotation.Scheduled, Reason: rotation.ReasonScheduled}
			switch {
			case emergency:
				wish.Kind, wish.Reason = rotation.Emergency, rotation.ReasonCompromise
			case rollback:
				wish.Kind, wish.Reason = rotation.Rollback, rotation.ReasonUndo
			}
			p, err := a.Plan(cmd.Context(), wish)
			if err != nil {
				return err
			}
			look, err := a.Look(cmd.Context(), p)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]any{"plan": p, "hash": p.Hash(), "versions": look})
			}
			c.showPlan(a, p, look)
			c.printf("\nNothing has been changed.  Go: keywright %s %s\n", map[rotation.Kind]string{rotation.Scheduled: "rotate", rotation.Emergency: "emergency", rotation.Rollback: "rollback"}[p.Kind], p.Key)
			return nil
		},
	}
	cmd.Flags().BoolVar(&emergency, "emergency", false, "plan an emergency instead")
	cmd.Flags().BoolVar(&rollback, "rollback", false, "plan a rollback instead")
	cmd.MarkFlagsMutuallyExclusive("emergency", "rollback")
	return cmd
}

// showPlan prints a plan for people.
func (c *console) showPlan(a *app.App, p rotation.Plan, look app.Look) {
	head := []string{string(p.Key), p.Class}
	if look.Owner != "" {
		head = append(head, "owner "+look.Owner)
	}
	if look.Old != nil {
		head = append(head, string(look.Old.Fingerprint()))
		if !look.Old.Activated.IsZero() {
			head = append(head, age(a.Now().Sub(look.Old.Activated))+" old")
		}
		if !look.Due.IsZero() {
			head = append(head, dueWords(look.Due, a.Now()))
		}
	} else {
		head = append(head, "no current version: keywright key adopt "+string(p.Key))
	}
	c.printf("%s\n\n", strings.Join(head, " · "))
	l := layoutOf(p)
	row := func(step, format string, args ...any) {
		c.printf("  %-*s %s\n", l.step, step, fmt.Sprintf(format, args...))
	}
	switch p.Kind {
	case rotation.Emergency:
		row("choose", "%s", look.Candidates())
		row("switch", "all places at once, side by side:")
		c.planWaves(p, "")
		row("", "at the same time the old version is set inactive at the provider and people are told")
		row("verify", "every place is read again")
		row("undo", "none: an emergency never puts a compromised version back")
	case rotation.Rollback:
		row("check", "the provider accepts %s (set active again if it is not)", look.New.Fingerprint())
		waves := slices.Clone(p.Waves)
		slices.Reverse(waves)
		back := p
		back.Waves = waves
		c.planWaves(back, "deploy")
		row("settle", "%s becomes a spare again if the provider accepts it", look.Old.Fingerprint())
	default:
		if how := a.Unattended(p); how != "" {
			row("begin", "%s", how)
		}
		c.planOrdinary(p, look, row)
		if k, ok := a.Config.Keys[p.Key]; ok && p.Kind == rotation.Scheduled && len(k.Windows) > 0 {
			row("windows", "production waits for one of: %s", joinWords(k.Windows))
		}
	}
	for _, gap := range gaps(p) {
		c.printf("  ! %s\n", gap)
	}
}

// layout holds the widths of the columns of a plan.
type layout struct{ step, place, kind int }

// layoutOf makes the columns as wide as the longest name of a wave, place and kind.
func layoutOf(p rotation.Plan) layout {
	l := layout{10, 16, 20}
	for _, w := range p.Waves {
		l.step = max(l.step, utf8.RuneCountInString(w.Name))
	}
	for _, place := range p.Places {
		l.place, l.kind = max(l.place, utf8.RuneCountInString(place.Name)), max(l.kind, utf8.RuneCountInString(place.Kind))
	}
	return l
}

func (c *console) planOrdinary(p rotation.Plan, look app.Look, row func(step, format string, args ...any)) {
	if look.New != nil {
		row("acquire", "spare %s (%stested %s)", look.New.Fingerprint(), named(look.New.ProviderName), relative(look.New.Tested, p.Created))
	} else {
		row("acquire", "no spare: a person makes a key named %s and hands it in", p.ConsoleName)
	}
	tests := []string{"models, token count, smoke message; organization and workspace as pinned"}
	for _, t := range p.Tests {
		tests = append(tests, t.Name)
	}
	row("test", "%s", strings.Join(tests, " · "))
	c.planWaves(p, "")
	if p.Approvals > 0 {
		row("approve", "%d other person(s), before the first production wave", p.Approvals)
	}
	if look.Old == nil {
		row("record", "rotation log, audit, calendar")
		return
	}
	evidence := []string{"wanted nowhere"}
	if p.Usage {
		evidence = append(evidence, fmt.Sprintf("usage of %s zero in a report that is fresh and shows the new version", look.Old.Fingerprint()))
	}
	evidence = append(evidence, "every place that can be read holds the new version")
	row("soak", "%s, then evidence: %s", short(p.Soak), strings.Join(evidence, "; "))
	if p.Admin {
		row("retire", "inactive, %s watch (active again by itself if somebody is refused), then archived", short(p.Watch))
	} else {
		row("retire", "a person disables it in the Console and signs; %s watch; a person archives it and signs", short(p.Watch))
	}
	row("undo", "before the new version is current: keywright rotation cancel; then, until archived: keywright rollback %s", p.Key)
	row("no undo", "archiving the old version, and the removal of its value from places and custody")
}

// joinWords lists what can say itself.
func joinWords[T fmt.Stringer](list []T) string {
	words := make([]string, len(list))
	for i, x := range list {
		words[i] = x.String()
	}
	return strings.Join(words, ", ")
}

// named gives the name that a key has at the provider, with a comma, or nothing where it is not known.
func named(name string) string {
	if name == "" {
		return ""
	}
	return audit.Clean(name) + ", "
}

// planWaves prints every place of every wave with what is done there and on what evidence. An emergency knows no batches and no watch.
func (c *console) planWaves(p rotation.Plan, name string) {
	paced, l := p.Kind != rotation.Emergency, layoutOf(p)
	for _, w := range p.Waves {
		first := name
		if first == "" {
			first = w.Name
		}
		for i, batch := range w.Batches {
			for _, placeName := range batch {
				place, _ := p.Place(placeName)
				note := ""
				if paced && len(w.Batches) > 1 {
					note = fmt.Sprintf("  (batch %d of %d)", i+1, len(w.Batches))
				}
				c.printf("  %-*s %-*s %-*s %s%s\n", l.step, first, l.place, place.Name, l.kind, place.Kind, placeWords(p, place), note)
				first = ""
			}
		}
		if paced && w.Watch > 0 {
			c.printf("  %-*s watch %s, probe again\n", l.step, "", short(w.Watch))
		}
	}
}

func placeWords(p rotation.Plan, place rotation.Place) string {
	var words []string
	add := func(on bool, text string) {
		if on {
			words = append(words, text)
		}
	}
	can := place.Can
	add(can.Manual, "a person changes it and signs")
	add(can.Stage && p.Kind != rotation.Emergency, "staged, "+short(p.HealthWait)+" wait, promoted")
	add((!can.Stage || p.Kind == rotation.Emergency) && !can.Manual, "written")
	add(can.Read, "read back")
	add(!can.Read && !can.Manual, "cannot be read back")
	add(can.Reload, "reload")
	add(can.Confirm, "running consumers confirmed")
	add(can.Probe, "probed")
	add(place.Home != "", "gets the value of "+string(place.Home)+" back after the test")
	return strings.Join(words, " · ")
}

// gaps says what can not be verified.
func gaps(p rotation.Plan) []string {
	var gaps []string
	for _, place := range p.Places {
		switch {
		case place.Can.Manual:
		case !place.Can.Read && !place.Can.Probe && !place.Can.Confirm:
			gaps = append(gaps, place.Name+" can neither be read back nor watched: a person signs before the old version is retired")
		case !place.Can.Read:
			gaps = append(gaps, place.Name+" cannot be read back: the watch after the deactivation decides")
		case !place.Can.Reload && !place.Can.Confirm:
			gaps = append(gaps, place.Name+" has no reload and no confirm: its consumers take the new value up when they read it next")
		}
	}
	if !p.Admin {
		gaps = append(gaps, "there is no admin key: status and usage of keys cannot be seen, and a person signs for the retirement")
	}
	if len(gaps) == 0 && p.Backup == "" {
		gaps = append(gaps, "the key has no backup: an emergency would need a spare")
	}
	return gaps
}
