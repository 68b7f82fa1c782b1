// Package gateway is the location kind "gateway": a key of a running gateway of Keywright, on this host, over its status socket. The gateway writes the
// file that it reads the key from, and puts it in force at once. A staged value may be tried by a growing share of the sessions before it is promoted:
// the canary. The driver never writes the file itself and never sees a request of an application. Called by location.Location.
package gateway

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	gw "github.com/keywright/keywright/internal/gateway"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/secret"
)

//go:embed meta.toml
var meta []byte

// Config is what stands under a location of this kind.
type Config struct {
	Key      string  `yaml:"key" required:"true" help:"Name of the key in the gateway, whose source there is file:PATH."`
	StateDir string  `yaml:"state_dir" help:"The gateway's own directory, where its status socket is. Without it that of the gateway in this configuration."`
	Canary   *Canary `yaml:"canary" help:"Try a staged value with a part of the sessions before it is promoted. Without it all sessions change at once."`
}

// Canary says how a staged value is tried.
type Canary struct {
	Shares []int         `yaml:"shares" default:"[10, 50]" help:"How many sessions of a hundred use the new value, step by step; after the last step all of them."`
	Watch  time.Duration `yaml:"watch" default:"5m" help:"How long each step lasts."`
}

// Kind describes the connector.
func Kind() location.Kind { return location.NewKind("gateway", meta, New) }

// Driver changes one key of one gateway. It is safe for concurrent use.
type Driver struct {
	key    apikey.Name
	dir    string
	canary *Canary
	client *gw.Client
}

var (
	_ location.Driver    = (*Driver)(nil)
	_ location.Stager    = (*Driver)(nil)
	_ location.Promoter  = (*Driver)(nil)
	_ location.Unstager  = (*Driver)(nil)
	_ location.Confirmer = (*Driver)(nil)
	_ location.Checker   = (*Driver)(nil)
	_ location.Addresser = (*Driver)(nil)
	_ location.Discreet  = (*Driver)(nil)
	_ location.Patient   = (*Driver)(nil)
)

// New makes a driver. It makes no connection. Errors are Invalid.
func New(c Config, env location.Env) (*Driver, error) {
	bad := func(format string, args ...any) (*Driver, error) {
		return nil, fault.Newf(fault.Invalid, "open gateway: "+format, args...)
	}
	if !apikey.Name(c.Key).Valid() {
		return bad("key must be the name of a key")
	}
	if c.Canary != nil {
		if len(c.Canary.Shares) == 0 || !slices.IsSorted(c.Canary.Shares) || len(slices.Compact(slices.Clone(c.Canary.Shares))) != len(c.Canary.Shares) || c.Canary.Shares[0] < 1 || slices.Max(c.Canary.Shares) > 99 {
			return bad("shares of canary must be growing numbers from 1 to 99")
		}
		if c.Canary.Watch <= 0 || c.Canary.Watch > 24*time.Hour {
			return bad("watch of canary must be longer than nothing and at most a day")
		}
	}
	dir := cmp.Or(c.StateDir, filepath.Join(env.StateDir, "gateway"))
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(env.Dir, dir)
	}
	return &Driver{key: apikey.Name(c.Key), dir: dir, canary: c.Canary, client: gw.NewClient(dir)}, nil
}

// Address is the gateway's directory and the key.
func (d *Driver) Address() string { return d.dir + "#" + string(d.key) }

// Discreet says that the gateway tells which value it holds and gives none out.
func (d *Driver) Discreet() {}

// Patience is the time that the steps of a canary take, and the longest that a request lasts which began on the former value.
func (d *Driver) Patience() time.Duration {
	p := gw.DefaultMaxDuration + 5*time.Minute
	if d.canary != nil {
		p += time.Duration(len(d.canary.Shares)) * (d.canary.Watch + time.Minute)
	}
	return p
}

func holding(s gw.PlaceState) location.Holding {
	h := location.Holding{Present: s.Present, How: location.ReadBack, Digest: s.Digest, ChangedAt: s.ChangedAt, Revision: s.Revision}
	if !s.Present {
		h.Revision = "no value"
	}
	if s.Staged.Known() {
		h.Pending = &location.Pending{Digest: s.Staged, Ours: true}
	}
	if s.InForce.Known() {
		h.Facts = map[string]string{"in force": string(s.InForce.Fingerprint())}
	}
	return h
}

func expect(e location.Expect) gw.PlaceExpect {
	p := gw.PlaceExpect{Checked: e.Checked, Absent: e.Absent, Revision: e.Revision, Digest: e.Digest}
	if e.Absent {
		p.Revision = ""
	}
	return p
}

// Inspect asks what the key file holds.
func (d *Driver) Inspect(ctx context.Context) (location.Holding, error) {
	s, err := d.client.Place(ctx, d.key)
	if err != nil {
		return location.Holding{}, err
	}
	return holding(s), nil
}

// Put makes the gateway write the key file and use the value for every request that begins later.
func (d *Driver) Put(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
	s, err := d.client.Put(ctx, d.key, v, expect(e))
	if err != nil {
		return location.Receipt{}, err
	}
	if !s.Digest.Same(v.Digest()) {
		return location.Receipt{}, fault.New(fault.Indeterminate, "put key: the gateway says that it holds another value")
	}
	r := location.Receipt{Revision: s.Revision, Replaced: e.Revision, At: s.ChangedAt}
	if s.InForce.Same(v.Digest()) {
		r.Facts = map[string]string{"in force": "at once"}
	}
	return r, nil
}

// The facts of a receipt of Stage that Promote and Unstage need.
const factStaged, factBase = "staged", "base"

// Stage makes the gateway write the value beside its key file.
func (d *Driver) Stage(ctx context.Context, v secret.Value, e location.Expect) (location.Receipt, error) {
	s, err := d.client.Stage(ctx, d.key, v, expect(e))
	if err != nil {
		return location.Receipt{}, err
	}
	if !s.Staged.Same(v.Digest()) {
		return location.Receipt{}, fault.New(fault.Indeterminate, "stage key: the gateway says that another value is staged")
	}
	text, err := v.Digest().MarshalText()
	if err != nil {
		return location.Receipt{}, fault.Wrap(fault.Unknown, err, "stage key")
	}
	return location.Receipt{Revision: s.Revision, At: s.Now, Facts: map[string]string{factStaged: string(text), factBase: s.Revision}}, nil
}

func stagedOf(r location.Receipt) (d apikey.Digest, err error) {
	if err := d.UnmarshalText([]byte(r.Facts[factStaged])); err != nil || !d.Known() {
		return d, fault.New(fault.Corrupt, "read receipt: it does not say what was staged")
	}
	return d, nil
}

// Promote puts the staged value in force for all requests. With a canary it first gives growing shares of the sessions to it, and is Unavailable, with
// the time of the next step, until the last step is over; a canary that stopped by itself makes it Forbidden, with all sessions back on the
// former value, and asked again it begins anew.
func (d *Driver) Promote(ctx context.Context, staged location.Receipt) (location.Receipt, error) {
	want, err := stagedOf(staged)
	if err != nil {
		return location.Receipt{}, err
	}
	var facts map[string]string
	if d.canary != nil {
		tried, err := d.try(ctx, want, staged.Facts[factBase])
		if err != nil {
			return location.Receipt{}, err
		}
		if tried != nil {
			facts = map[string]string{"canary": compared(*tried)}
		}
	}
	s, err := d.client.Promote(ctx, d.key, want, staged.Facts[factBase])
	if err != nil {
		return location.Receipt{}, err
	}
	return location.Receipt{Revision: s.Revision, Replaced: staged.Facts[factBase], At: s.ChangedAt, Facts: facts}, nil
}

// try brings the canary one step on when it is time. It gives no error when the last step is over, with what was seen, or when there is nothing to try.
func (d *Driver) try(ctx context.Context, want apikey.Digest, base string) (*gw.CanaryStatus, error) {
	s, err := d.client.Place(ctx, d.key)
	if err != nil {
		return nil, err
	}
	if s.Digest.Same(want) || !s.Staged.Same(want) || s.Revision != base {
		return nil, nil // promoted already, or not to be promoted: the gateway says so
	}
	c := s.Canary
	if c != nil && c.Stopped {
		// Told once: who asks again wants another try.
		if _, err := d.client.Canary(ctx, d.key, want, 0); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.Forbidden, fmt.Sprintf("try key: %s, and every session is back on %s (%s)", c.Why, c.Old, compared(*c)),
			fault.Hint("cancel the rotation, or resume it to try again"))
	}
	next := 0
	if c != nil {
		next = slices.IndexFunc(d.canary.Shares, func(share int) bool { return int64(share) > c.Share })
		if left := d.canary.Watch - s.Now.Sub(s.ShareSince); left > 0 {
			return nil, d.waiting(*c, left)
		}
	}
	if next < 0 {
		return c, nil
	}
	if s, err = d.client.Canary(ctx, d.key, want, d.canary.Shares[next]); err != nil {
		return nil, err
	}
	if s.Canary == nil {
		return nil, fault.New(fault.Unavailable, "try key: the canary has not begun", fault.RetryAfter(time.Second))
	}
	return nil, d.waiting(*s.Canary, d.canary.Watch)
}

// waiting says how far a canary is. Its text is what the record and the screens show of a step.
func (d *Driver) waiting(c gw.CanaryStatus, left time.Duration) error {
	return fault.New(fault.Unavailable, fmt.Sprintf("canary: %d%% of the sessions use %s (%s)", c.Share, c.New, compared(c)), fault.RetryAfter(max(left, 100*time.Millisecond)),
		fault.Hint("keywright gateway status shows both versions"))
}

// compared says what both versions answered.
func compared(c gw.CanaryStatus) string {
	return fmt.Sprintf("failed: %d of %d with it, %d of %d without", c.NewArm.Bad, c.NewArm.Requests, c.OldArm.Bad, c.OldArm.Requests)
}

// Unstage takes back what Stage wrote, and ends its canary.
func (d *Driver) Unstage(ctx context.Context, staged location.Receipt) error {
	was, err := stagedOf(staged)
	if err != nil {
		return err
	}
	_, err = d.client.Unstage(ctx, d.key, was)
	return err
}

// Confirm asks which value requests use that begin now, and whether one is still under way on a former value.
func (d *Driver) Confirm(ctx context.Context, want apikey.Digest) (location.Confirmation, error) {
	s, err := d.client.Place(ctx, d.key)
	if err != nil {
		return location.Confirmation{}, err
	}
	c := location.Confirmation{How: location.ReadBack, Running: 1, Facts: map[string]string{}}
	if s.InForce.Known() {
		c.Facts["in force"] = string(s.InForce.Fingerprint())
	}
	trying := s.Canary != nil && s.Canary.Share > 0
	switch {
	case s.InForce.Same(want) && len(s.Leaving) == 0 && !trying:
		c.Taken = 1
	default:
		c.Old = 1
	}
	for _, l := range s.Leaving {
		c.Facts["under way on "+string(l.Digest.Fingerprint())] = "since " + l.LastUse.UTC().Format(time.RFC3339)
	}
	if l := s.Last; l != nil && !l.Digest.Same(want) {
		c.Facts["left"] = string(l.Digest.Fingerprint())
		c.Facts["last request ended"] = l.Drained.UTC().Format(time.RFC3339Nano)
		c.Facts["requests"] = strconv.FormatInt(l.Requests, 10)
	}
	return c, nil
}

// Check asks whether the gateway runs, reads the key from a file, and may write it.
func (d *Driver) Check(ctx context.Context) []error {
	s, err := d.client.Place(ctx, d.key)
	switch {
	case err != nil:
		return []error{err}
	case s.Problem != "":
		return []error{fault.New(fault.Forbidden, "check gateway: its user cannot write in the directory of the key file", fault.Hint("let the key file lie in a directory of the gateway's user"))}
	}
	return nil
}
