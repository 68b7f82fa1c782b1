package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"

	"github.com/keywright/keywright/internal/app"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// drawEvery is how often the screen is drawn anew on a terminal.
const drawEvery = 200 * time.Millisecond

// follow drives a rotation, or watches another driver do it, and shows what happens until it ends, wants a person, or the user leaves with Ctrl-C. It
// gives a silent error of kind Findings when a person is wanted, and Canceled when the user left.
func (c *console) follow(ctx context.Context, a *app.App, id string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	show := &follower{console: c, app: a, id: id, shown: map[string]string{}}
	driven := make(chan error, 1)
	var driving sync.WaitGroup
	driving.Go(func() { driven <- a.Runner.Follow(ctx, id, func(rotation.Row) {}) })
	defer driving.Wait()
	defer cancel()
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	for {
		view, err := a.Rotation(context.WithoutCancel(ctx), id)
		if err != nil {
			return err
		}
		show.draw(view)
		if view.Row.Status.Ended() {
			return c.ended(view)
		}
		asleep := view.Row.WakeAt.After(a.Now()) // otherwise a signal is about to be taken up
		if stands := view.Row.Status; asleep && (stands == rotation.Paused || stands == rotation.Waiting && !c.terminal()) {
			c.wants(view)
			return silent(fault.Findings)
		}
		select {
		case <-ctx.Done():
			c.detached(id)
			return silent(fault.Canceled)
		case err := <-driven:
			if err != nil && ctx.Err() == nil {
				return err
			}
		case <-tick.C:
		}
	}
}

// ended prints the last word, and gives the kind for the exit code: a rotation that did not do what was asked is Findings.
func (c *console) ended(v app.View) error {
	r := v.Row
	if r.Status == rotation.Done {
		c.printf("\n%s is done: %s\nrecord: keywright rotation show %s\n", r.ID, audit.Clean(r.Note), r.ID)
		return nil
	}
	c.printf("\n%s ended as %q: %s\n", r.ID, r.Status, audit.Clean(r.Note))
	if r.Hint != "" {
		c.printf("next: %s\n", audit.Clean(r.Hint))
	}
	return silent(fault.Findings)
}

func (c *console) wants(v app.View) {
	c.printf("\n%s is %s: %s\n", v.Row.ID, v.Row.Status, audit.Clean(v.Row.Note))
	if v.Row.Hint != "" {
		c.printf("next: %s\n", audit.Clean(v.Row.Hint))
	}
}

func (c *console) detached(id string) {
	fmt.Fprintf(c.err, "\nkeywright: left %s as it is; nothing is half done\nit goes on in: keywright serve, or: keywright resume\ncome back with: keywright rotation follow %s\n", id, id)
}

// follower draws one rotation: on a terminal as a block that is redrawn, elsewhere as lines that are added.
type follower struct {
	*console
	app   *app.App
	id    string
	drawn int
	shown map[string]string
	said  string
}

func (f *follower) draw(v app.View) {
	if !f.terminal() {
		f.add(v)
		return
	}
	lines := append([]string{title(v), ""}, f.stepLines(v)...)
	if note := f.note(v); note != "" {
		lines = append(lines, "")
		lines = append(lines, strings.Split(note, "\n")...)
	}
	if !v.Row.Status.Ended() {
		lines = append(lines, "", "Ctrl-C leaves it; come back with: keywright rotation follow "+f.id)
	}
	var b strings.Builder
	if f.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", f.drawn)
	}
	width := f.width()
	for _, l := range lines {
		b.WriteString(ansi.Truncate(l, width, "…") + "\n")
	}
	f.drawn = len(lines)
	f.printf("%s", b.String())
}

// title names a rotation, its kind, and its reason where that says more.
func title(v app.View) string {
	text := fmt.Sprintf("rotation %s   %s", v.Row.ID, v.Row.Kind)
	if reason := string(v.Row.Plan.Reason); reason != string(v.Row.Kind) {
		text += ", " + reason
	}
	return text
}

// width is that of the terminal, or 100.
func (c *console) width() int {
	if f, ok := c.out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return 100
}

// note is what the rotation waits for, with the time that is left.
func (f *follower) note(v app.View) string {
	m := v.Move
	if m.Note == "" || len(m.Do) > 0 || m.Status.Ended() {
		return ""
	}
	text := m.Note
	if left := m.Until.Sub(f.app.Now()); m.Status == rotation.Running && left > 0 {
		text += " (" + short(left) + ")"
	}
	if m.Hint != "" {
		text += "\nnext: " + m.Hint
	}
	return audit.Clean(text)
}

// add prints what changed since the last look, a line each, with the time of the journal.
func (f *follower) add(v app.View) {
	if len(f.shown) == 0 {
		f.printf("%s\n", title(v))
		f.shown[""] = "begun"
	}
	for _, p := range v.Move.Steps {
		for _, l := range p.Lines {
			key := l.State
			if l.Fault != nil {
				key += l.Fault.Message
			}
			if l.State == "next" || l.State == "running" || f.shown[l.Effect.ID] == key {
				continue
			}
			f.shown[l.Effect.ID] = key
			f.printf("%s %s %-10s %s\n", l.At.Local().Format(time.TimeOnly), f.mark(l.State), p.Step, lineText(v, l))
		}
	}
	if m := v.Move; len(m.Do) == 0 && m.Note != "" && m.Note != f.said && !m.Status.Ended() {
		f.said = m.Note
		f.printf("%s · %s\n", f.app.Now().Local().Format(time.TimeOnly), audit.Clean(m.Note))
	}
}
