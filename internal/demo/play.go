package demo

import (
	"context"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/anthropics/anthropic-sdk-go/v2"
	"github.com/anthropics/anthropic-sdk-go/v2/option"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// Exit codes that belong to the story.
var (
	wantsPerson = []int{8}
	left        = []int{130}
)

// play runs the acts.
func (d *demo) play(ctx context.Context) error {
	d.introduce()
	if err := d.takeStock(ctx); err != nil {
		return err
	}
	primary, err := d.rotateAndCrash(ctx)
	if err != nil {
		return err
	}
	leak, err := d.undoAndReplace(ctx)
	if err != nil {
		return err
	}
	if err := d.prove(ctx, primary); err != nil {
		return err
	}
	return d.account(ctx, leak)
}

func (d *demo) introduce() {
	d.line("keywright demo: a key is replaced in three places under live traffic, and keywright is killed in the middle")
	d.line("")
	for _, a := range d.apps {
		name := a.place
		d.line(fmt.Sprintf("  %-12s %-24s %d requests/s with %s by the official Go SDK", name, a.where, a.app.Rate, a.key))
	}
	if d.noMoto != "" {
		d.line("  " + d.noMoto + ": a second env file stands in for the Secrets Manager")
	}
	d.line("  The provider's API is simulated in this process; intervals are seconds instead of days. All else is real.")
}

// takeStock is act 1: what is deployed becomes known, and a person hands in what follows it.
func (d *demo) takeStock(ctx context.Context) error {
	d.act("1  what is deployed")
	primary, secondary := d.cast.Primary, d.cast.Secondary
	return d.inTurn(ctx,
		call{args: []string{"key", "adopt", primary.Name}},
		call{args: []string{"key", "add", primary.Name, "--spare"}, stdin: primary.New},
		call{args: []string{"key", "adopt", secondary.Name}, known: check},
		call{args: []string{"key", "add", secondary.Name, "--spare"}, known: check, stdin: secondary.New},
		call{args: []string{"status"}, fine: wantsPerson},
	)
}

// soaking is what a rotation says once every place has the new version.
const soaking = "soak: "

// rotateAndCrash is act 2: the rotation, killed while it changes production and taken up again. It returns the run that goes on with it.
func (d *demo) rotateAndCrash(ctx context.Context) (*running, error) {
	d.act("2  rotate, with kill -9 in the middle of production")
	name := d.cast.Primary.Name
	if _, err := d.keywright(ctx, call{args: []string{"plan", name}}); err != nil {
		return nil, err
	}
	web, agent := d.apps[1], d.apps[2]
	reloading := web.nextRestart()
	r, err := d.begin(call{args: []string{"rotate", name, "--yes"}, known: planned(), fine: []int{-1}})
	if err != nil {
		return nil, err
	}
	select {
	case <-reloading:
	case <-r.done:
		return nil, fault.Newf(fault.Unknown, "run keywright rotate: it ended before it reloaded %s", web.place)
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Canceled, context.Cause(ctx), "wait for the reload of "+web.place)
	}
	r.signal(syscall.SIGKILL)
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	d.line(fmt.Sprintf("$ kill -9 %d", r.pid))
	d.say(fmt.Sprintf("killed between the write to %s and the answer of its reload; %s has the old key. What stands:", web.place, agent.place))
	d.standing()
	if got, want := agent.fingerprint(), d.cast.Primary.Old.Fingerprint(); got != want {
		return nil, fault.Newf(fault.Conflict, "look at %s after the kill: it uses %s, want %s", agent.place, got, want)
	}
	if _, err := d.keywright(ctx, call{args: []string{"rotation", "list"}}); err != nil {
		return nil, err
	}
	before, _ := r.feed.after(0)
	if r, err = d.begin(call{args: []string{"rotation", "follow", name}, known: printed(before)}); err != nil {
		return nil, err
	}
	if err := r.see(ctx, soaking); err != nil {
		return nil, err
	}
	r.feed.hold()
	d.standing()
	d.say("soak and evidence go on in that process; the usage report counts whole minutes. Act 4 shows the rest.")
	return r, nil
}

// leak is what the emergency cost.
type leak struct {
	before tally // of the application, when the emergency was declared
	took   time.Duration
}

// undoAndReplace is act 3, on another key: rotated, left with Ctrl-C, rolled back, and replaced as leaked.
func (d *demo) undoAndReplace(ctx context.Context) (leak, error) {
	d.act("3  meanwhile, another key: rollback, then an emergency")
	batch, name := d.apps[3], d.cast.Secondary.Name
	r, err := d.begin(call{args: []string{"rotate", name, "--yes"}, fine: left})
	if err != nil {
		return leak{}, err
	}
	if err := r.see(ctx, soaking); err != nil {
		return leak{}, err
	}
	r.signal(syscall.SIGINT)
	if err := r.wait(ctx); err != nil {
		return leak{}, err
	}
	if _, err := d.keywright(ctx, call{args: []string{"rollback", name, "--yes", "--note", "error rate up"}}); err != nil {
		return leak{}, err
	}
	d.standing()
	if got, want := batch.fingerprint(), d.cast.Secondary.Old.Fingerprint(); got != want {
		return leak{}, fault.Newf(fault.Conflict, "look at %s after the rollback: it uses %s, want %s", batch.place, got, want)
	}
	l := leak{before: batch.total()}
	begun := time.Now()
	if _, err := d.keywright(ctx, call{args: []string{"emergency", name, "--yes", "--reason", "key in a public repository"}, fine: wantsPerson}); err != nil {
		return l, err
	}
	l.took = time.Since(begun)
	if err := d.refused(ctx, d.cast.Secondary.Old); err != nil {
		return l, err
	}
	d.standing()
	return l, nil
}

// prove is act 4: the end of the first rotation, with its evidence.
func (d *demo) prove(ctx context.Context, r *running) error {
	d.act("4  evidence, and the end of the old key")
	d.line("")
	d.line("$ keywright " + "rotation follow " + d.cast.Primary.Name + "   # goes on")
	r.feed.release()
	if err := r.wait(ctx); err != nil {
		return err
	}
	if _, err := d.keywright(ctx, call{args: []string{"rotation", "show", d.cast.Primary.Name, "--evidence"}}); err != nil {
		return err
	}
	return d.refused(ctx, d.cast.Primary.Old)
}

// account is act 5: the record, and who was served.
func (d *demo) account(ctx context.Context, l leak) error {
	d.act("5  the record")
	err := d.inTurn(ctx,
		call{args: []string{"rotation", "checklist", d.cast.Primary.Name}, fine: wantsPerson},
		call{args: []string{"rotation", "log"}},
		call{args: []string{"audit", "verify"}},
		call{args: []string{"status"}, fine: wantsPerson},
	)
	if err != nil {
		return err
	}
	for _, a := range d.apps {
		a.close()
	}
	return d.summary(l)
}

// refused makes a real request with a value and wants it refused.
func (d *demo) refused(ctx context.Context, v secret.Value) error {
	client := anthropic.NewClient(option.WithoutEnvironmentDefaults(), option.WithBaseURL(d.url), option.WithAPIKey(v.RevealString()), option.WithMaxRetries(0),
		option.WithHTTPClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}))
	_, err := client.Models.Get(ctx, model, anthropic.ModelGetParams{})
	status := statusOf(err)
	if err == nil {
		status = http.StatusOK
	}
	if ctx.Err() != nil {
		return fault.Wrap(fault.Canceled, context.Cause(ctx), "ask the provider about "+string(v.Fingerprint()))
	}
	d.line("")
	d.say(fmt.Sprintf("a request with %s: status %d", v.Fingerprint().Short(), status))
	if status != http.StatusUnauthorized {
		return fault.Newf(fault.Conflict, "ask the provider about %s: status %d, want 401", v.Fingerprint(), status)
	}
	return nil
}

// standing prints which key each application uses now, and how its requests ended so far.
func (d *demo) standing() {
	d.line("")
	for _, a := range d.apps {
		t := a.total()
		d.line(fmt.Sprintf("  %-12s uses %-10s %5d served  %2d failed", a.place, a.fingerprint().Short(), t.Served, t.failures()))
	}
}

// summary prints the account, and is an error when a rotation or a rollback cost a request.
func (d *demo) summary(l leak) error {
	d.act("what happened")
	d.line("")
	d.line(fmt.Sprintf("  %-12s %8s %9s   %s", "application", "served", "streamed", "failed in rotation, kill -9 and rollback"))
	var all tally
	failed := 0
	for i, a := range d.apps {
		t := a.total()
		all = all.plus(t)
		mine := t
		if i == 3 {
			mine = l.before
		}
		failed += mine.failures()
		d.line(fmt.Sprintf("  %-12s %8d %9d   %d %s", a.place, t.Served, t.Streamed, mine.failures(), mine.statuses()))
	}
	d.line(fmt.Sprintf("  %-12s %8d %9d   %d", "all", all.Served, all.Streamed, failed))
	d.line("  The provider's log has the same numbers.")
	d.line(fmt.Sprintf("  The team's channel, a webhook, got %d notices.", d.notices.Load()))
	d.line("")
	d.line("  the emergency's own gap, since the leaked key was cut off at once:")
	d.line("    " + d.gap(l))
	d.line("")
	d.line("  real       the program, worker processes and their restarts, files, HTTP, the official SDK, kill -9, SQLite,")
	d.line("             sealed custody, the audit chain")
	simulated := "  simulated  the provider's API and Console"
	if d.moto != "" {
		simulated += "; the Secrets Manager is moto"
	}
	d.line(simulated)
	d.line(fmt.Sprintf("  %s in all; nothing is left behind", time.Since(d.start).Round(time.Second)))
	served, refused := d.providerLog()
	if served != all.Served || refused != all.failures() {
		return fault.Newf(fault.Conflict, "count requests: the applications say %d served and %d failed, the provider's log says %d and %d", all.Served, all.failures(), served, refused)
	}
	if failed > 0 {
		return fault.Newf(fault.Conflict, "count requests: %d failed in a rotation or rollback", failed)
	}
	return nil
}

// providerLog counts the messages of the applications as the provider saw them.
func (d *demo) providerLog() (served, refused int) {
	for _, r := range d.sim.Requests() {
		switch {
		case r.UserAgent != userAgent || r.Path != "/v1/messages":
		case r.Status == http.StatusOK:
			served++
		default:
			refused++
		}
	}
	return served, refused
}

// gap says what the emergency cost its application.
func (d *demo) gap(l leak) string {
	t := d.apps[3].total()
	n := t.failures() - l.before.failures()
	if n == 0 {
		return fmt.Sprintf("%s: no request failed; done after %.1f s", d.apps[3].place, l.took.Seconds())
	}
	noun := "requests"
	if n == 1 {
		noun = "request"
	}
	return fmt.Sprintf("%s: %d %s failed, status %s, within %.2f s; done after %.1f s", d.apps[3].place, n, noun, t.statuses(), t.Last.Sub(t.First).Seconds(), l.took.Seconds())
}
