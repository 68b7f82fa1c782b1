package location

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

// DefaultTimeout bounds one call of a driver when Options names no other limit.
const DefaultTimeout = 30 * time.Second

// DefaultParallel is the number of calls of one driver that run at once when Options names no other number.
const DefaultParallel = 4

// Options are the details of a Location. The zero value is usable.
type Options struct {
	// Timeout bounds every single call of the driver; zero means DefaultTimeout. A method of Location may make several calls.
	Timeout time.Duration
	// Parallel bounds the calls that run at once; zero means DefaultParallel. Changes of one Location never run side by side.
	Parallel int
	// Reloaders, Confirmers and Probers come after the driver's own abilities of that sort.
	Reloaders  []Reloader
	Confirmers []Confirmer
	Probers    []Prober
}

// Location is a configured place as the rest of Keywright uses it. It alone bounds calls in time and number, catches the
// panics of drivers, keeps values out of their errors and receipts, verifies changes and says which abilities are missing. It
// is safe for concurrent use; make one with New.
//
// Every error has a kind of package fault, and begins with the verb and the location's name. An ability that the place lacks
// gives Unsupported. A call that did not begin before ctx ended gives Canceled or Unavailable; a change that was under way
// when its time ended gives Indeterminate.
type Location struct {
	name, kind string
	driver     Driver
	timeout    time.Duration
	slots      chan struct{}
	changing   chan struct{}
	reloaders  []Reloader
	confirmers []Confirmer
	probers    []Prober
}

// New makes a Location of a driver. name is the configured name, kind the connector's.
func New(name, kind string, d Driver, o Options) *Location {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	return &Location{
		name: name, kind: kind, driver: d, timeout: o.Timeout,
		slots: make(chan struct{}, o.Parallel), changing: make(chan struct{}, 1),
		reloaders: own(d, o.Reloaders), confirmers: own(d, o.Confirmers), probers: own(d, o.Probers),
	}
}

// own puts the driver's own ability, if it has it, before the further ones.
func own[T any](d Driver, further []T) []T {
	var all []T
	if a, ok := d.(T); ok {
		all = append(all, a)
	}
	return append(all, further...)
}

// Name gives the configured name.
func (l *Location) Name() string { return l.name }

// Kind gives the connector's name, such as "env-file".
func (l *Location) Kind() string { return l.kind }

// Address gives "kind:address". Two locations with the same Address are the same place, and exclude each other's writes. A
// driver that knows no address is alone in its place.
func (l *Location) Address() string {
	if a, ok := l.driver.(Addresser); ok {
		if s := a.Address(); s != "" && !keyShaped.MatchString(s) {
			return l.kind + ":" + s
		}
	}
	return l.kind + ":" + l.name
}

// Abilities says what a location can do beyond Inspect and Put, read from its driver and Options.
type Abilities struct {
	Reads    bool `json:"reads"`
	Stages   bool `json:"stages"`
	Unstages bool `json:"unstages"`
	Restores bool `json:"restores"`
	Removes  bool `json:"removes"`
	Reloads  bool `json:"reloads"`
	Confirms bool `json:"confirms"`
	Probes   bool `json:"probes"`
	Checks   bool `json:"checks"`
	// Manual is true where a person makes the change.
	Manual bool `json:"manual"`
}

// Abilities gives what this location can do.
func (l *Location) Abilities() Abilities {
	a := AbilitiesOf(l.driver)
	a.Reloads = len(l.reloaders) > 0
	a.Confirms = len(l.confirmers) > 0
	a.Probes = len(l.probers) > 0
	return a
}

// AbilitiesOf gives what a driver can do by itself. Staging counts only together with promoting.
func AbilitiesOf(d Driver) Abilities {
	_, stages := d.(Stager)
	_, promotes := d.(Promoter)
	return Abilities{
		Reads: is[Reader](d), Stages: stages && promotes, Unstages: is[Unstager](d), Restores: is[Restorer](d), Removes: is[Remover](d),
		Reloads: is[Reloader](d), Confirms: is[Confirmer](d), Probes: is[Prober](d), Checks: is[Checker](d), Manual: is[Instructor](d),
	}
}

func is[T any](d Driver) bool {
	_, ok := d.(T)
	return ok
}

func (l *Location) unsupported(verb string) error {
	return fault.Newf(fault.Unsupported, "%s %s: a location of kind %s cannot do this", verb, l.name, l.kind)
}

// Inspect reads what the place holds and changes nothing.
func (l *Location) Inspect(ctx context.Context) (Holding, error) {
	return l.inspect(ctx, secret.Value{})
}

func (l *Location) inspect(ctx context.Context, v secret.Value) (Holding, error) {
	h, err := call(ctx, l, ask("inspect"), v, l.driver.Inspect)
	if err != nil {
		return Holding{}, err
	}
	if carries(h.Revision, v) {
		return Holding{}, l.leaky("inspect", "revision")
	}
	h.Facts = withoutValues(h.Facts, v)
	if h.Pending != nil && carries(h.Pending.Revision, v) {
		return Holding{}, l.leaky("inspect", "revision")
	}
	return h, nil
}

func (l *Location) leaky(verb, what string) error {
	return fault.Newf(fault.Unknown, "%s %s: the connector %s put a value into a %s", verb, l.name, l.kind, what)
}

// Read gives out the held value, after Inspect has confirmed its digest. NotFound when nothing is held; Conflict when what was read
// is not what Inspect tells. The caller destroys the value.
func (l *Location) Read(ctx context.Context) (secret.Value, error) {
	r, ok := l.driver.(Reader)
	if !ok {
		return secret.Value{}, l.unsupported("read")
	}
	// A change between reading and inspecting is no contradiction: the second look settles it.
	for range 2 {
		v, err := call(ctx, l, ask("read"), secret.Value{}, r.Read)
		if err != nil {
			return secret.Value{}, err
		}
		if v.IsZero() {
			return secret.Value{}, fault.Newf(fault.NotFound, "read %s: it holds nothing", l.name)
		}
		h, err := l.inspect(ctx, v)
		if err != nil {
			v.Destroy()
			return secret.Value{}, err
		}
		if h.Holds(v.Digest()) || h.Present && !h.Known() {
			return v, nil
		}
		v.Destroy()
	}
	return secret.Value{}, fault.New(fault.Conflict, fmt.Sprintf("read %s: what was read is not what the place says it holds", l.name),
		fault.Hint("somebody may be changing it now, or the label beside the value is out of date; look at it and try again"))
}

// Reload makes the consumers take up what the place holds: the driver's own way first, then the configured ones. id names the
// logical change. It stops at the first error.
func (l *Location) Reload(ctx context.Context, id string) error {
	if len(l.reloaders) == 0 {
		return l.unsupported("reload")
	}
	for _, r := range l.reloaders {
		if _, err := call(ctx, l, change("reload"), secret.Value{}, nothing(func(ctx context.Context) error { return r.Reload(ctx, id) })); err != nil {
			return err
		}
	}
	return nil
}

// Confirm asks the running consumers, by every way there is, which value they have. The counts are added up, and the
// weakest way decides How.
func (l *Location) Confirm(ctx context.Context, want apikey.Digest) (Confirmation, error) {
	if len(l.confirmers) == 0 {
		return Confirmation{}, l.unsupported("confirm")
	}
	var all Confirmation
	for i, c := range l.confirmers {
		got, err := call(ctx, l, ask("confirm"), secret.Value{}, func(ctx context.Context) (Confirmation, error) { return c.Confirm(ctx, want) })
		if err != nil {
			return Confirmation{}, err
		}
		if i == 0 || weaker(got.How, all.How) {
			all.How = got.How
		}
		all.Running += got.Running
		all.Taken += got.Taken
		all.Old += got.Old
		all.Unknown += got.Unknown
		if facts := withoutValues(got.Facts, secret.Value{}); len(facts) > 0 {
			if all.Facts == nil {
				all.Facts = map[string]string{}
			}
			maps.Copy(all.Facts, facts)
		}
	}
	return all, nil
}

var strength = [...]Knowledge{ReadBack, Label, ChangedAt, Signed, Nothing}

func weaker(a, b Knowledge) bool {
	rank := func(k Knowledge) int {
		for i, s := range strength {
			if s == k {
				return i
			}
		}
		return len(strength)
	}
	return rank(a) > rank(b)
}

// Probe checks that the consumers work, by every probe there is. It stops at the first error: Unavailable means that a
// consumer does not work (yet), other kinds that a probe could not be made.
func (l *Location) Probe(ctx context.Context) error {
	if len(l.probers) == 0 {
		return l.unsupported("probe")
	}
	for _, p := range l.probers {
		if _, err := call(ctx, l, ask("probe"), secret.Value{}, nothing(p.Probe)); err != nil {
			return err
		}
	}
	return nil
}

// Check looks, without writing, whether the place can be used, and gives one error per missing right. Where the driver
// has no check of its own (see Abilities) it inspects, which shows that the place can be reached and read.
func (l *Location) Check(ctx context.Context) []error {
	c, ok := l.driver.(Checker)
	if !ok {
		if _, err := l.Inspect(ctx); err != nil {
			return []error{err}
		}
		return nil
	}
	found, err := call(ctx, l, ask("check"), secret.Value{}, func(ctx context.Context) ([]error, error) { return c.Check(ctx), nil })
	if err != nil {
		return []error{err}
	}
	var out []error
	for _, e := range found {
		if e != nil {
			out = append(out, l.explain(ctx, ask("check"), secret.Value{}, e))
		}
	}
	return out
}

// Tells reports whether Inspect says which value the place holds, whether it gives the value out or not.
func (l *Location) Tells() bool { return is[Reader](l.driver) || is[Discreet](l.driver) }

// Patience is how long Promote and Confirm may go on being Unavailable; zero where the place is as quick as others.
func (l *Location) Patience() time.Duration {
	if p, ok := l.driver.(Patient); ok {
		return max(0, p.Patience())
	}
	return 0
}

// Instructions says what a person does so that the place holds the value with this fingerprint.
func (l *Location) Instructions(fp apikey.Fingerprint) (string, error) {
	i, ok := l.driver.(Instructor)
	if !ok {
		return "", l.unsupported("instruct")
	}
	s := i.Instructions(fp)
	if carries(s, secret.Value{}) {
		return "", l.leaky("instruct", "text")
	}
	return s, nil
}
