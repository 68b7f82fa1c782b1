package intake

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// hand is one value on its way in.
type hand struct {
	*Intake
	slot     Slot
	o        Options
	adopting bool // the value serves somebody
	accepted bool // the version was accepted before
	value    secret.Value
	result   Result

	verdict provider.Verdict
	pins    store.Slot
	pinned  bool         // pins differ from what is stored
	entry   provider.Key // of the provider's list; its ID is empty when there is none
	binding apikey.Binding
	from    string // the place that the value was read from, or empty
	holder  string // the claim on a spare that is being proved, or empty
}

func (i *Intake) hand(slot Slot, o Options) *hand { return &hand{Intake: i, slot: slot, o: o} }

// end gives the result. name is the check that err is of.
func (h *hand) end(name string, err error) (Result, error) {
	if err != nil {
		h.check(name, Failed, err.Error())
	}
	return h.result, err
}

func (h *hand) check(name string, o Outcome, text string) {
	c := Check{Name: name, Outcome: o, Text: text}
	if o != Doing {
		h.result.Checks = append(h.result.Checks, c)
	}
	if h.o.Progress != nil {
		h.o.Progress(c)
	}
}

// ask puts a question to a person. yes is false when the person refused; without a person the error is of kind Findings.
func (h *hand) ask(ctx context.Context, q Question) (Answer, error) {
	if h.o.Confirm == nil {
		return Answer{}, fault.New(fault.Findings, "ask a person: "+q.Text, fault.Hint("answer it with %s", q.Kind.Flag()))
	}
	return h.o.Confirm(ctx, q)
}

// agree asks a question of yes and no, unless it is answered beforehand.
func (h *hand) agree(ctx context.Context, answered bool, q Question) error {
	if answered {
		return nil
	}
	a, err := h.ask(ctx, q)
	if err == nil && !a.Yes {
		err = fault.New(fault.Conflict, "ask a person: the answer was no", fault.Hint("%s says yes beforehand", q.Kind.Flag()))
	}
	return err
}

// step is one check and what it does.
type step struct {
	name string
	do   func(context.Context) error
}

func run(ctx context.Context, steps ...step) (string, error) {
	for _, s := range steps {
		if err := ctx.Err(); err != nil {
			return s.name, fault.In(err, "take key in")
		}
		if err := s.do(ctx); err != nil {
			return s.name, err
		}
	}
	return "", nil
}

// add is the way of a new key, top to bottom.
func (h *hand) add(ctx context.Context) (string, error) {
	h.reviveLeft(ctx)
	name, err := run(ctx, step{CheckFormat, h.format}, step{CheckKnown, h.known})
	if err != nil || h.result.Known {
		return name, err
	}
	return run(ctx, append(h.accept(), step{CheckRotation, h.tell})...)
}

// accept is the way of a value that the inventory does not have, up to its being sealed.
func (h *hand) accept() []step {
	return []step{
		{CheckLive, h.live},
		{CheckPlace, h.belongs},
		{CheckCount, h.count},
		{CheckMatch, h.match},
		{CheckPrincipal, h.principal},
		{CheckName, h.named},
		{CheckExpiry, h.lasts},
		{CheckBinding, h.bind},
		{CheckSealed, h.keep},
	}
}

func (h *hand) format(context.Context) error {
	f, err := secret.CheckAPIKey(h.value)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s, %s", f.Sort, h.value.Fingerprint().Short())
	if len(f.Warnings) > 0 {
		h.check(CheckFormat, Warn, text+"; "+strings.Join(f.Warnings, "; "))
		return nil
	}
	h.check(CheckFormat, OK, text)
	return nil
}

// known compares the value to all that the inventory has, by the whole digest. It sets result.Known when nothing is left to do.
func (h *hand) known(ctx context.Context) error {
	var v apikey.Version
	var ok bool
	err := h.Store.View(ctx, func(tx *store.Tx) (err error) {
		v, ok, err = tx.VersionByDigest(h.value.Digest())
		return err
	})
	if err != nil {
		return err
	}
	if !ok {
		h.check(CheckKnown, OK, "not in the inventory yet")
		return nil
	}
	refuse := func(text, hint string) error {
		return fault.New(fault.Conflict, "take key in: "+text, fault.Hint("%s", hint))
	}
	anew := "make a new key in the Console"
	switch {
	case v.Compromised:
		return refuse(fmt.Sprintf("%s is known as compromised, of key %s", v.Fingerprint().Short(), v.Key), anew)
	case v.Key != h.slot.Key && v.Environment != h.slot.Environment:
		return refuse(fmt.Sprintf("%s belongs to key %s of another environment (%s)", v.Fingerprint().Short(), v.Key, v.Environment), anew+", one for each environment")
	case v.Key != h.slot.Key:
		return refuse(fmt.Sprintf("%s belongs to key %s", v.Fingerprint().Short(), v.Key), anew+", one for each key")
	}
	switch {
	case v.State == apikey.Spare && !h.adopting, v.State == apikey.Current && h.adopting:
		h.result.Version, h.result.Known = v, true
		h.check(CheckKnown, OK, fmt.Sprintf("known already: %s is the %s version %s, added %s", v.Fingerprint().Short(), v.State, v.ID, v.Added.UTC().Format(time.DateOnly)))
		return nil
	case v.State == apikey.Spare && h.adopting:
		h.result.Version = v
		h.check(CheckKnown, OK, "a spare of this key that was deployed by hand")
		return nil
	case v.State == apikey.Current:
		return refuse(fmt.Sprintf("%s is the current version of %s already", v.Fingerprint().Short(), v.Key), anew)
	case v.State == apikey.Pending:
		return refuse(fmt.Sprintf("%s is in the hands of a rotation", v.Fingerprint().Short()), "keywright rotation list")
	case v.State == apikey.Previous || v.State == apikey.Inactive:
		return refuse(fmt.Sprintf("%s is an %s version of %s", v.Fingerprint().Short(), earlier(v.State), v.Key), "keywright rollback "+string(v.Key)+" goes back to the version before")
	}
	return refuse(fmt.Sprintf("%s was in the inventory before and is %s", v.Fingerprint().Short(), v.State), anew)
}

func earlier(s apikey.State) string {
	if s == apikey.Inactive {
		return "inactive"
	}
	return "earlier (" + string(s) + ")"
}

// live asks the provider what the value is worth.
func (h *hand) live(ctx context.Context) error {
	v, err := h.Provider.Inspect(ctx, h.value)
	if err != nil {
		return err
	}
	if err := v.Need("test key"); err != nil {
		return err
	}
	h.verdict = v
	h.check(CheckLive, OK, "the provider accepts it")
	return nil
}

// belongs compares what the provider said of the value to what the slot is pinned to.
func (h *hand) belongs(ctx context.Context) error {
	stored, err := h.Intake.stored(ctx, h.slot.Key)
	if err != nil {
		return err
	}
	if err := h.sameProvider(ctx, stored); err != nil {
		return err
	}
	want, v := effective(h.slot, stored), h.verdict
	switch {
	case v.Organization == "" || v.Workspace == "":
		return fault.New(fault.Conflict, "compare organization and workspace: the provider's reply does not name them", fault.Hint("hand the key in again; if it stays so, see whether provider.url is the provider itself"))
	case want.Organization != "" && want.Organization != v.Organization:
		return fault.New(fault.Conflict, fmt.Sprintf("compare organization: the key belongs to %s, and %s is pinned to %s", v.Organization, h.slot.Key, want.Organization),
			fault.Hint("make the key in the right organization"))
	case want.Workspace != "" && want.Workspace != v.Workspace:
		return fault.New(fault.Conflict, fmt.Sprintf("compare workspace: the key belongs to %s, and %s is pinned to %s", v.Workspace, h.slot.Key, want.Workspace),
			fault.Hint("make the key in the right workspace"))
	}
	how := "as pinned"
	if want.Organization == "" || want.Workspace == "" {
		name := h.organizationName(ctx)
		err := h.agree(ctx, h.o.Pin, Question{Kind: AskPin,
			Text: fmt.Sprintf("The key belongs to organization %s%s, workspace %s. Is that where %s belongs?", v.Organization, name, v.Workspace, h.slot.Key)})
		if err != nil {
			return err
		}
		how = "confirmed and pinned"
	}
	h.pins = store.Slot{Key: h.slot.Key, Organization: v.Organization, Workspace: v.Workspace, ProviderURL: cmp.Or(h.ProviderURL, stored.ProviderURL), PinnedBy: cmp.Or(h.o.Actor, "configuration")}
	h.pinned = h.pins.Organization != stored.Organization || h.pins.Workspace != stored.Workspace || h.pins.ProviderURL != stored.ProviderURL
	h.check(CheckPlace, OK, fmt.Sprintf("%s, %s: %s", v.Organization, v.Workspace, how))
	return nil
}

func (h *hand) sameProvider(ctx context.Context, stored store.Slot) error {
	if stored.ProviderURL == "" || h.ProviderURL == "" || stored.ProviderURL == h.ProviderURL {
		return nil
	}
	return h.agree(ctx, h.o.AcceptProviderChange, Question{Kind: AskProviderChange,
		Text: fmt.Sprintf("%s is pinned to the provider at %s, and the configuration names %s. Is that meant?", h.slot.Key, stored.ProviderURL, h.ProviderURL)})
}

// organizationName gives the name in brackets when the admin key belongs to the same organization.
func (h *hand) organizationName(ctx context.Context) string {
	if o, ok := h.Provider.(provider.Organizer); ok {
		if id, name, err := o.Organization(ctx); err == nil && id == h.verdict.Organization && name != "" {
			return fmt.Sprintf(" (%s)", name)
		}
	}
	return ""
}

func (i *Intake) stored(ctx context.Context, key apikey.Name) (s store.Slot, err error) {
	err = i.Store.View(ctx, func(tx *store.Tx) (err error) {
		s, _, err = tx.Slot(key)
		return err
	})
	return s, err
}

// defaultWorkspace in the configuration stands for a workspace whose id is not known before the first intake.
const defaultWorkspace = "default"

// effective gives what a slot is pinned to: by the configuration first, else by what was confirmed.
func effective(slot Slot, stored store.Slot) store.Slot {
	stored.Key = slot.Key
	stored.Organization = cmp.Or(slot.Organization, stored.Organization)
	if slot.Workspace != "" && slot.Workspace != defaultWorkspace {
		stored.Workspace = slot.Workspace
	}
	return stored
}

// Pins gives what the slot is pinned to, by the configuration or by what was confirmed; fields are empty where neither says.
func (i *Intake) Pins(ctx context.Context, slot Slot) (store.Slot, error) {
	stored, err := i.stored(ctx, slot.Key)
	return effective(slot, stored), err
}

func (h *hand) count(ctx context.Context) error {
	t, ok := h.Provider.(provider.Tester)
	if !ok {
		return nil
	}
	v, err := t.Count(ctx, h.value)
	if err != nil {
		return err
	}
	if err := v.Need("count tokens with key"); err != nil {
		return err
	}
	h.check(CheckCount, OK, "a token count is answered")
	return nil
}

// principal refuses keys that act as a person in production, since they end when the person leaves.
func (h *hand) principal(context.Context) error {
	if h.entry.ID == "" {
		return nil
	}
	p := h.entry.Principal
	switch {
	case p == "":
		h.check(CheckPrincipal, OK, "a key of the workspace")
	case p == "service_account":
		h.check(CheckPrincipal, OK, "a key of a service account")
	case h.slot.Environment == apikey.Production && !h.adopting:
		return fault.New(fault.Invalid, fmt.Sprintf("check principal: it is a personal key (%s), which ends when that person leaves the organization", p),
			fault.Hint("make a workspace or service-account key in the Console for production"))
	default:
		h.check(CheckPrincipal, Warn, fmt.Sprintf("a personal key (%s): it ends when that person leaves the organization", p))
	}
	return nil
}

// named compares the name in the Console to the convention.
func (h *hand) named(context.Context) error {
	if h.entry.ID == "" {
		return nil
	}
	prefix := strings.TrimSuffix(apikey.ConsoleName(h.slot.House, h.slot.Key, time.Time{}), time.Time{}.Format("20060102"))
	if date, ok := strings.CutPrefix(h.entry.Name, prefix); !ok || !isDay(date) {
		h.check(CheckName, Warn, fmt.Sprintf("the Console calls it %q, not %sYYYYMMDD", h.entry.Name, prefix))
		return nil
	}
	h.check(CheckName, OK, h.entry.Name)
	return nil
}

func isDay(s string) bool {
	_, err := time.Parse("20060102", s)
	return err == nil
}

// lasts compares the expiry to what a rotation, and then the interval of the class, needs.
func (h *hand) lasts(ctx context.Context) error {
	if h.entry.ID == "" {
		return nil
	}
	end, c := h.entry.ExpiresAt, h.slot.Class
	if end.IsZero() {
		h.check(CheckExpiry, OK, "never expires")
		return nil
	}
	text := "expires " + end.UTC().Format(time.DateOnly)
	rotation := h.now().Add(c.Soak + c.Watch)
	switch {
	case end.After(rotation.Add(c.RotateEvery)):
		h.check(CheckExpiry, OK, text)
		return nil
	case h.adopting || h.accepted:
		h.check(CheckExpiry, Warn, text+", before its interval ends")
		return nil
	case !end.After(rotation):
		return fault.New(fault.Invalid, "check expiry: it "+text+", before a rotation to it would be over", fault.Hint("make a key with a later expiry, or with none"))
	}
	err := h.agree(ctx, h.o.AcceptExpiry, Question{Kind: AskExpiry, Text: fmt.Sprintf("The key %s, before the interval of %s and the end of its rotation. Take it all the same?", text, h.slot.Key)})
	if err != nil {
		return err
	}
	h.check(CheckExpiry, Warn, text+", before its interval ends")
	return nil
}
