// Package manual is the location kind "manual": a place that no program can change, such as a password manager, a wiki page or
// a laptop. A person changes it and signs for it; the signature, with name and date, is all the evidence there is. The
// package writes nothing, shows no value, and never takes its own word for the place. Called by location.Location.
package manual

import (
	"context"
	"crypto/sha256"
	_ "embed" // for meta.toml
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

//go:embed meta.toml
var meta []byte

// Config is what stands under a location of this kind.
type Config struct {
	Place  string   `yaml:"place" required:"true" help:"The place in words that a person finds it by, such as: the item Anthropic production in the team vault."`
	Person string   `yaml:"person" required:"true" help:"Who changes the place and signs for it."`
	Steps  []string `yaml:"steps" help:"What the person does, one sentence each."`
}

// Kind describes the connector.
func Kind() location.Kind { return location.NewKind("manual", meta, New) }

// Driver knows a place by signatures alone. It is safe for concurrent use as far as Env.Signed is.
type Driver struct {
	cfg    Config
	name   string
	signed func(context.Context, string) (location.Signature, bool)
}

var (
	_ location.Driver     = (*Driver)(nil)
	_ location.Instructor = (*Driver)(nil)
)

// New makes a driver. Errors are Invalid.
func New(c Config, env location.Env) (*Driver, error) {
	if strings.TrimSpace(c.Place) == "" || strings.TrimSpace(c.Person) == "" {
		return nil, fault.New(fault.Invalid, "open manual: place and person are both needed", fault.Hint("name the place so that the person finds it"))
	}
	return &Driver{cfg: c, name: env.Name, signed: env.Signed}, nil
}

func (d *Driver) signature(ctx context.Context) (location.Signature, bool, error) {
	if err := ctx.Err(); err != nil {
		return location.Signature{}, false, fault.Wrap(fault.KindOf(err), err, "look for a signature")
	}
	if d.signed == nil {
		return location.Signature{}, false, nil
	}
	s, ok := d.signed(ctx, d.name)
	return s, ok && s.Fingerprint != "", nil
}

// holding is what a signature says. It is never more than Signed.
func holding(s location.Signature) location.Holding {
	at := s.At.UTC()
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d", s.Fingerprint, s.By, at.UnixNano()))
	return location.Holding{
		Present: true, How: location.Signed, Fingerprint: apikey.Fingerprint(s.Fingerprint), ChangedAt: at, Revision: hex.EncodeToString(sum[:16]),
		Facts: map[string]string{"signed by": s.By, "signed at": at.Format(time.RFC3339)},
	}
}

// Inspect gives the last signature. Without one nothing is known, and Present is false.
func (d *Driver) Inspect(ctx context.Context) (location.Holding, error) {
	s, ok, err := d.signature(ctx)
	if err != nil {
		return location.Holding{}, err
	}
	if !ok {
		return location.Holding{How: location.Nothing, Facts: map[string]string{"person": d.cfg.Person}}, nil
	}
	return holding(s), nil
}

// Put succeeds when somebody has signed that the place holds v, whatever was expected before: the signature is the change.
// Until then it gives Findings, since a person is wanted; Conflict when a signature for a third value was given meanwhile.
func (d *Driver) Put(ctx context.Context, v secret.Value, expect location.Expect) (location.Receipt, error) {
	s, ok, err := d.signature(ctx)
	if err != nil {
		return location.Receipt{}, err
	}
	h := location.Holding{How: location.Nothing}
	if ok {
		h = holding(s)
	}
	switch {
	case ok && h.Holds(v.Digest()):
		r := location.Receipt{Revision: h.Revision, At: h.ChangedAt, Facts: map[string]string{"manual": "signed", "signed by": s.By}}
		if expect.Revision != h.Revision {
			r.Replaced = expect.Revision
		}
		return r, nil
	case ok && !expect.Matches(h):
		return location.Receipt{}, fault.New(fault.Conflict, fmt.Sprintf("change by hand: %s signed at %s for another value than the expected ones", s.By, h.ChangedAt.Format(time.RFC3339)),
			fault.Hint("ask what the place holds now"))
	}
	return location.Receipt{}, fault.New(fault.Findings, fmt.Sprintf("change by hand: nobody has signed that the place holds %s", v.Fingerprint()),
		fault.Hint("%s changes %s and signs for it", d.cfg.Person, d.cfg.Place))
}

// Instructions says what the person does. It names the fingerprint and shows no value.
func (d *Driver) Instructions(fp apikey.Fingerprint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: put the key with the fingerprint %s into %s.\n", d.cfg.Person, fp, d.cfg.Place)
	for i, step := range d.cfg.Steps {
		fmt.Fprintf(&b, "%d. %s\n", i+1, step)
	}
	b.WriteString("Then sign that it is there. Keywright cannot look, and will say so: the evidence is the signature.\n")
	return b.String()
}
