// Package exec keeps a key in any place that a program of the user's can reach. It starts the program once per request, hands
// it one JSON object on standard input and reads one from standard output; protocol.md describes both. The value goes to
// the program by standard input alone, and only with the requests put and stage. The package never uses a shell, never
// shows what the program writes to standard error, and never repeats a message of the program that could hold a value.
package exec

import (
	"context"
	_ "embed" // for meta.toml
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/child"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

// Config is the configuration of one location.
type Config struct {
	Command     []string      `yaml:"command" help:"Program and its arguments, without a shell; a relative path starts at the configuration file's directory." required:"true"`
	Abilities   []string      `yaml:"abilities" help:"What the program can do besides inspect and put: read, stage, remove, reload, confirm, probe."`
	Environment []string      `yaml:"environment" help:"Names of environment variables that the program sees besides PATH, HOME, LANG and TZ."`
	Timeout     time.Duration `yaml:"timeout" help:"How long one run may take." default:"30s"`
	Place       string        `yaml:"place" help:"Name of the place behind the program; locations of the same place change it one after the other. Without it the command is the place."`
}

//go:generate go run ../../tools/gencompose

//go:embed meta.toml
var meta []byte

// Kind describes the connector.
func Kind() location.Kind { return location.NewKind("exec", meta, Open) }

// Open makes the driver and starts nothing. The driver has the declared abilities and no others. Errors are Invalid.
func Open(cfg Config, env location.Env) (location.Driver, error) {
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		return nil, fault.New(fault.Invalid, "open program: no command given", fault.Hint("command: [./put-key, ARGUMENT]"))
	}
	for _, arg := range cfg.Command {
		if strings.ContainsRune(arg, 0) {
			return nil, fault.New(fault.Invalid, "open program: the command has a zero byte")
		}
	}
	if cfg.Timeout < 0 {
		return nil, fault.New(fault.Invalid, "open program: the timeout is negative")
	}
	var can ability
	for _, name := range cfg.Abilities {
		a, ok := abilities[name]
		if !ok {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("open program: unknown ability %q", name), fault.Hint("abilities are read, stage, remove, reload, confirm and probe"))
		}
		can |= a
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	return compose(&driver{cfg: cfg, env: env, can: can}, can), nil
}

// ability is a set of what a program can do besides inspect and put.
type ability uint8

const (
	canRead ability = 1 << iota
	canStage
	canRemove
	canReload
	canConfirm
	canProbe
)

var abilities = map[string]ability{"read": canRead, "stage": canStage, "remove": canRemove, "reload": canReload, "confirm": canConfirm, "probe": canProbe}

// driver is what every program can do. The types below add one ability each; compose joins them. It keeps no state and is
// safe for concurrent use.
type driver struct {
	cfg Config
	env location.Env
	can ability
}

type (
	reader    struct{ d *driver }
	stager    struct{ d *driver }
	remover   struct{ d *driver }
	reloader  struct{ d *driver }
	confirmer struct{ d *driver }
	prober    struct{ d *driver }
)

var (
	_ location.Driver    = (*driver)(nil)
	_ location.Checker   = (*driver)(nil)
	_ location.Addresser = (*driver)(nil)
	_ location.Reader    = reader{}
	_ location.Stager    = stager{}
	_ location.Promoter  = stager{}
	_ location.Unstager  = stager{}
	_ location.Remover   = remover{}
	_ location.Reloader  = reloader{}
	_ location.Confirmer = confirmer{}
	_ location.Prober    = prober{}
)

// Inspect asks the program what the place holds.
func (d *driver) Inspect(ctx context.Context) (location.Holding, error) {
	r, err := d.ask(ctx, request{Op: "inspect"})
	if err != nil {
		return location.Holding{}, err
	}
	return r.holding()
}

// Put looks first: a value that is held already is not put again, and a state that is not the expected one is refused
// without asking the program. The program is told the expectation too, for places that can compare by themselves.
func (d *driver) Put(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	h, done, err := d.before(ctx, v, expect)
	if err != nil || done {
		return location.Receipt{Revision: h.Revision}, err
	}
	return d.change(ctx, "put", v, expect)
}

// before looks at the place. done is true when it already holds v.
func (d *driver) before(ctx context.Context, v secret.Value, expect location.Expect) (h location.Holding, done bool, err error) {
	if v.IsZero() {
		return h, false, fault.New(fault.Invalid, "run program: no value given")
	}
	if h, err = d.Inspect(ctx); err != nil {
		return h, false, err
	}
	if h.Holds(v.Digest()) {
		return h, true, nil
	}
	if h.How != location.Nothing && !expect.Matches(h) {
		return h, false, fault.New(fault.Conflict, "run program: the place is not in the state that was seen before")
	}
	return h, false, nil
}

func (d *driver) change(ctx context.Context, op string, v secret.Value, expect location.Expect) (location.Receipt, error) {
	r, err := d.ask(ctx, request{Op: op, Digest: v.Digest(), Fingerprint: v.Fingerprint(), Expect: &expectation{expect.Checked, expect.Absent, expect.Revision, expect.Digest, expect.Fingerprint}, value: v})
	if err != nil {
		return location.Receipt{}, err
	}
	return r.receipt(v), nil
}

// Check makes sure that nobody else can change the program, that it claims the declared abilities, and that it finds no fault
// itself. A program that does not know the requests abilities and check is inspected instead.
func (d *driver) Check(ctx context.Context) []error {
	if _, err := child.Resolve(d.cfg.Command, d.env.Dir); err != nil {
		return []error{err}
	}
	var errs []error
	r, err := d.ask(ctx, request{Op: "abilities"})
	switch {
	case err == nil:
		for _, name := range d.cfg.Abilities {
			if !slices.Contains(r.Abilities, name) {
				errs = append(errs, fault.New(fault.Invalid, fmt.Sprintf("check program: it does not claim the declared ability %q", name), fault.Hint("take it out of `abilities`, or add it to the program")))
			}
		}
	case !fault.Is(err, fault.Unsupported):
		return []error{err}
	}
	r, err = d.ask(ctx, request{Op: "check"})
	switch {
	case err == nil:
		for _, p := range r.Problems {
			errs = append(errs, p.error("check program", secret.Value{}))
		}
	case fault.Is(err, fault.Unsupported):
		if _, err := d.Inspect(ctx); err != nil {
			errs = append(errs, err)
		}
	default:
		errs = append(errs, err)
	}
	return errs
}

// Address is the configured place, or the command with an absolute program.
func (d *driver) Address() string {
	if d.cfg.Place != "" {
		return "place " + d.cfg.Place
	}
	command := append([]string(nil), d.cfg.Command...)
	if strings.ContainsRune(command[0], filepath.Separator) && !filepath.IsAbs(command[0]) {
		command[0] = filepath.Join(d.env.Dir, command[0])
	}
	return fmt.Sprintf("command %q", command)
}

// Read asks the program for the held value.
func (a reader) Read(ctx context.Context) (secret.Value, error) {
	r, err := a.d.ask(ctx, request{Op: "read"})
	if err != nil {
		return secret.Value{}, err
	}
	if r.held.IsZero() {
		return secret.Value{}, fault.New(fault.NotFound, "run program: it holds no value")
	}
	return r.held, nil
}

// Stage looks first, as Put does, and hands v to the program to be kept beside the held value.
func (a stager) Stage(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	h, done, err := a.d.before(ctx, v, expect)
	if err != nil || done {
		return location.Receipt{Revision: h.Revision, Facts: map[string]string{factHeld: "yes"}}, err
	}
	return a.d.change(ctx, "stage", v, expect)
}

// factHeld marks the receipt of a Stage that found the value in force.
const factHeld = "held before staging"

// Promote lets the program put the staged value in force.
func (a stager) Promote(ctx context.Context, staged location.Receipt) (location.Receipt, error) {
	if staged.Facts[factHeld] != "" {
		return staged, nil
	}
	r, err := a.d.ask(ctx, request{Op: "promote", Receipt: &staged})
	if err != nil {
		return location.Receipt{}, err
	}
	return r.receipt(secret.Value{}), nil
}

// Unstage lets the program forget the staged value.
func (a stager) Unstage(ctx context.Context, staged location.Receipt) error {
	_, err := a.d.ask(ctx, request{Op: "unstage", Receipt: &staged})
	return err
}

// Remove lets the program erase the copies of the value with this digest that it keeps beside the held one.
func (a remover) Remove(ctx context.Context, old apikey.Digest) error {
	_, err := a.d.ask(ctx, request{Op: "remove", Digest: old, Fingerprint: old.Fingerprint()})
	return err
}

// Reload lets the program make the consumers take up the value. Whether the same id restarts them twice is up to the program.
func (a reloader) Reload(ctx context.Context, id string) error {
	_, err := a.d.ask(ctx, request{Op: "reload", ID: id})
	return err
}

// Confirm asks the program which value the running consumers have.
func (a confirmer) Confirm(ctx context.Context, want apikey.Digest) (location.Confirmation, error) {
	r, err := a.d.ask(ctx, request{Op: "confirm", Digest: want, Fingerprint: want.Fingerprint()})
	if err != nil {
		return location.Confirmation{}, err
	}
	return r.confirmation()
}

// Probe asks the program whether the consumers work.
func (a prober) Probe(ctx context.Context) error {
	_, err := a.d.ask(ctx, request{Op: "probe"})
	return err
}
