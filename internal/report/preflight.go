package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/rotation"
)

// ci and stores list the kinds of places that the runbook's prerequisites ask for by sort.
var (
	ci     = []string{"github-actions", "gitlab", "gitlab-ci", "circleci", "jenkins", "bitbucket", "gitea"}
	stores = []string{"aws-secrets-manager", "aws-ssm", "vault", "gcp-secret-manager", "azure-key-vault", "1password"}
)

// Preflight gives the four boxes of the runbook's pre-rotation checklist and its prerequisites, in its words.
func Preflight(in Input) []Box {
	f := digest(in)
	box := func(id, text string, b Box) Box { return f.entitle(SubjectPreflight, id, text, b) }
	sort := func(kinds []string) func(rotation.Place) bool {
		return func(p rotation.Place) bool { return slices.Contains(kinds, p.Kind) }
	}
	production := f.inWaves(true)
	return []Box{
		box("window", "Verify new key generation window with Anthropic", f.window()),
		box("staging", "Ensure staging environment is ready for testing", f.checked("wave before production", f.inWaves(false))),
		box("rollback", "Confirm rollback procedure is documented", f.undo()),
		box("on-call", "Alert on-call team of rotation window", f.alerted()),
		box("works", "Verify current key works", f.works()),
		box("knowledge", "Required knowledge: key management, the Console, environment variables, the deployment platform", open("people", "only people know: the one who rotates signs")),
		box("console", "Access to the Anthropic Console with the right to create keys", f.console()),
		box("deployment", "Access to production deployment configuration", f.checked("production place", production)),
		box("ci", "Access to CI/CD secrets management", f.checked("CI/CD place", sort(ci))),
		box("stores", "(Optional) Access to secrets management system", f.checked("secrets management system", sort(stores))),
	}
}

// inWaves picks the places of the waves of production, or of those before it.
func (f facts) inWaves(production bool) func(rotation.Place) bool {
	var names []string
	for _, w := range f.Row.Plan.Waves {
		if w.Production == production {
			names = append(names, slices.Concat(w.Batches...)...)
		}
	}
	return func(p rotation.Place) bool { return slices.Contains(names, p.Name) }
}

// checked asks whether preflight looked at the places of a sort, with their credentials and rights.
func (f facts) checked(what string, pick func(rotation.Place) bool) Box {
	var good, left []string
	var at time.Time
	for _, p := range f.places() {
		if !pick(p) {
			continue
		}
		if l, ok := f.latest(rotation.CheckPlace, about(p.Name)); ok {
			good = append(good, p.Name)
			if l.At.After(at) {
				at = l.At
			}
			continue
		}
		for id, missed := range f.missed {
			if id == fmt.Sprintf("%s/%s/%s", rotation.Preflight, p.Name, rotation.CheckPlace) {
				last := missed[len(missed)-1]
				return against("preflight", last.At, "%s: %s", p.Name, last.Fault.Message)
			}
		}
		left = append(left, p.Name)
	}
	switch {
	case len(left) > 0:
		return open("preflight", "not checked yet: %s", strings.Join(left, ", "))
	case len(good) > 0:
		return done("preflight", at, "reachable, in sync and with the rights that are needed: %s", strings.Join(good, ", "))
	case strings.HasPrefix(what, "wave"):
		return open("plan", "the plan has no %s", what)
	}
	return done("plan", f.Row.Plan.Created, "nothing to check: the plan has no %s", what)
}

func (f facts) window() Box {
	if l, ok := f.latest(rotation.Acquire, nil); ok {
		return done("journal", l.At, "the new key is there: %s", f.fingerprint(rotation.New))
	}
	if v, ok := f.Versions[rotation.New]; ok && v.ID != "" {
		return done("inventory", v.Added, "the new key is there: %s", v.Fingerprint())
	}
	if f.Spares > 0 {
		return done("inventory", f.Now, "%d spare(s) are in the pool", f.Spares)
	}
	return open("inventory", "there is no spare: a person makes a key in the Console, named %s", f.Row.Plan.ConsoleName)
}

func (f facts) undo() Box {
	switch {
	case f.Row.Plan.Old == "":
		return against("inventory", f.Now, "there is no earlier version to go back to")
	case !f.InCustody:
		if l, ok := f.latest(rotation.PurgeValue, nil); ok {
			return done("journal", l.At, "keywright rollback %s; custody held %s until then", f.Row.Key, f.fingerprint(rotation.Old))
		}
		return against("custody", f.Now, "custody does not hold the old value")
	}
	return done("custody", f.Now, "keywright rollback %s; custody holds %s", f.Row.Key, f.fingerprint(rotation.Old))
}

func (f facts) alerted() Box {
	if l, ok := f.latest(rotation.Tell, inStep(rotation.Preflight)); ok {
		return done("journal", l.At, "told %q", l.Effect.Arg)
	}
	if !f.Row.Plan.Tell {
		return open("configuration", "no channel is configured")
	}
	return open("journal", "nobody was told yet")
}

func (f facts) works() Box {
	switch {
	case f.Row.Plan.Old == "":
		return done("plan", f.Row.Plan.Created, "there is no current key")
	case !f.Accepted.IsZero():
		return done("provider", f.Accepted, "the provider accepts %s", f.fingerprint(rotation.Old))
	}
	return open("provider", "nobody asked about %s", f.fingerprint(rotation.Old))
}

func (f facts) console() Box {
	if v, ok := f.Versions[rotation.New]; ok && v.CreatedBy != "" {
		return done("inventory", v.Added, "%s handed in the new key", v.CreatedBy)
	}
	if f.Spares > 0 {
		return done("inventory", f.Now, "%d spare(s) were made there", f.Spares)
	}
	return open("people", "it shows when somebody makes the new key")
}
