package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// writes reports whether a verb changes a place, and so holds the lock on its address.
func writes(v rotation.Verb) bool {
	switch v {
	case rotation.Stage, rotation.Promote, rotation.Put, rotation.PutHome, rotation.PutBack, rotation.PurgePlace:
		return true
	}
	return false
}

// audited reports whether a verb is an act on a key, whose intent and result belong into the audit chain.
func audited(v rotation.Verb) bool {
	switch v {
	case rotation.Acquire, rotation.Choose, rotation.TestValue, rotation.TestRun, rotation.Reload, rotation.Flip, rotation.Deactivate, rotation.Activate,
		rotation.AwaitRefused, rotation.Archive, rotation.PurgeValue, rotation.Turn, rotation.Settle, rotation.Gather, rotation.Open:
		return true
	}
	return writes(v)
}

// make is the one switch from verbs to deeds. The data goes into the journal, commit into the same transaction and before it,
// so that it may complete what data points to.
func (s *saga) make(ctx context.Context, e rotation.Effect) (data any, commit func(*store.Tx) error, err error) {
	switch e.Verb {
	case rotation.CheckPlace:
		return s.checkPlace(ctx, e)
	case rotation.CheckBackup:
		return nil, nil, s.checkBackup(ctx)
	case rotation.CheckClock:
		return nil, nil, s.checkClock(ctx)
	case rotation.Tell:
		return nil, nil, s.tell(ctx, e)
	case rotation.Acquire:
		return s.acquire()
	case rotation.Choose:
		return s.choose(ctx)
	case rotation.TestValue:
		return s.testValue(ctx, e)
	case rotation.TestRun:
		return nil, nil, s.testRun(ctx, e)
	case rotation.TakePair:
		return nil, nil, s.takePair(ctx)
	case rotation.FreePair:
		return nil, s.freePair, nil
	case rotation.Baseline:
		return s.baseline(ctx, e)
	case rotation.Stage, rotation.Promote, rotation.Put, rotation.PutHome, rotation.PutBack, rotation.PurgePlace:
		return s.change(ctx, e)
	case rotation.Reload:
		return nil, nil, s.reloadPlace(ctx, e)
	case rotation.Confirm:
		return s.confirm(ctx, e)
	case rotation.Probe:
		return nil, nil, s.probe(ctx, e)
	case rotation.Judge:
		return s.judge(ctx)
	case rotation.Flip:
		return nil, s.flip, nil
	case rotation.Drift:
		return s.drift(ctx)
	case rotation.Heartbeat:
		return s.heartbeat(ctx)
	case rotation.Gather:
		return s.gather(ctx)
	case rotation.Deactivate:
		return s.deactivate(ctx)
	case rotation.AwaitRefused:
		return s.awaitRefused(ctx, e)
	case rotation.Activate:
		return nil, nil, s.setStatus(ctx, e.Role, provider.Active)
	case rotation.AwaitAccepted:
		return s.awaitAccepted(ctx, e)
	case rotation.WatchLook:
		return s.watchLook(ctx)
	case rotation.Archive:
		return nil, s.archived, s.setStatus(ctx, e.Role, provider.Archived)
	case rotation.PurgeValue:
		return nil, s.purgeValue, nil
	case rotation.Record:
		return nil, nil, s.record(ctx, e)
	case rotation.Settle:
		return s.settle(ctx, e)
	case rotation.Open:
		return nil, s.openIncident, nil
	case rotation.Turn:
		return json.RawMessage(e.Arg), nil, nil
	default:
		return nil, nil, fault.Newf(fault.Unsupported, "make %s: this version of keywright does not know how", e.ID)
	}
}

// ---- what a rotation is about ----

// versionID gives the version in a role, as far as it is decided.
func (s *saga) versionID(r rotation.Role) apikey.VersionID {
	switch r {
	case rotation.Old:
		return s.row.Plan.Old
	case rotation.New:
		return rotation.Chosen(s.row.Plan, s.entries())
	}
	return ""
}

// version reads the inventory's record of the version in a role.
func (s *saga) version(ctx context.Context, r rotation.Role) (v apikey.Version, err error) {
	id := s.versionID(r)
	if id == "" {
		return v, fault.Newf(fault.NotFound, "find the %s version: there is none", r)
	}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		v, err = tx.Version(id)
		return err
	})
	return v, err
}

// withValue lends the value of a version for the length of the call.
func (s *saga) withValue(ctx context.Context, id apikey.VersionID, use func(secret.Value) error) error {
	v, err := s.Vault.Open(ctx, id)
	if err != nil {
		return fault.In(err, "open value of "+string(id))
	}
	defer v.Destroy()
	return use(v)
}

func (s *saga) place(name string) (rotation.Place, *location.Location, error) {
	p, ok := s.row.Plan.Place(name)
	if !ok {
		return p, nil, fault.Newf(fault.Corrupt, "find place %q: the plan has none of this name", name)
	}
	l, err := s.Place(p)
	return p, l, err
}

// receipt reads the receipt that an earlier effect left.
func (s *saga) receipt(effect string) (location.Receipt, error) {
	journal := s.entries()
	for i := len(journal) - 1; i >= 0; i-- {
		if e := journal[i]; e.Type == rotation.Made && e.Effect == effect {
			var r location.Receipt
			if err := json.Unmarshal(e.Data, &r); err != nil {
				return r, fault.Wrap(fault.Corrupt, err, "read receipt of "+effect)
			}
			return r, nil
		}
	}
	return location.Receipt{}, fault.Newf(fault.NotFound, "read receipt of %s: there is none", effect)
}

// made gives the time of the newest made effect that pick accepts, or zero.
func (s *saga) made(pick func(id string) bool) time.Time {
	journal := s.entries()
	for i := len(journal) - 1; i >= 0; i-- {
		if e := journal[i]; e.Type == rotation.Made && pick(e.Effect) {
			return e.At
		}
	}
	return time.Time{}
}

// ask inspects the value of a version at the provider.
func (s *saga) ask(ctx context.Context, id apikey.VersionID) (v provider.Verdict, err error) {
	err = s.withValue(ctx, id, func(value secret.Value) error {
		v, err = s.Provider.Inspect(ctx, value)
		return err
	})
	return v, err
}

// ---- preflight ----

func (s *saga) checkPlace(ctx context.Context, e rotation.Effect) (any, func(*store.Tx) error, error) {
	p, l, err := s.place(e.Place)
	if err != nil {
		return nil, nil, err
	}
	if errs := l.Check(ctx); len(errs) > 0 {
		err := errs[0]
		if len(errs) > 1 {
			err = fault.In(err, fmt.Sprintf("%d rights missing, the first", len(errs)))
		}
		return nil, nil, err
	}
	h, err := l.Inspect(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := s.expected(ctx, p, h); err != nil {
		return nil, nil, err
	}
	if h.Pending != nil && !h.Pending.Ours {
		return nil, nil, fault.New(fault.Conflict, "check "+p.Name+": somebody else staged a value there", fault.Hint("finish or withdraw that change first"))
	}
	return h, func(tx *store.Tx) error { return observe(tx, p.Name, h, nil) }, nil
}

// expected refuses a place that holds what the inventory does not know: drift.
func (s *saga) expected(ctx context.Context, p rotation.Place, h location.Holding) error {
	if s.row.Kind == rotation.Emergency || !h.Present || !h.Known() {
		return nil
	}
	known, err := s.known(ctx, p)
	if err != nil {
		return err
	}
	for _, v := range known {
		if h.Holds(v.Digest) {
			return nil
		}
	}
	fp := h.Fingerprint
	if h.Digest.Known() {
		fp = h.Digest.Fingerprint()
	}
	return fault.New(fault.Conflict, fmt.Sprintf("%s holds %s, which is neither the old nor the new version", p.Name, fp),
		fault.Hint("if that value is right: keywright key adopt %s --from %s", s.row.Key, p.Name))
}

// known gives the versions that a place may hold during this rotation: its own old and new one, and its home key's.
func (s *saga) known(ctx context.Context, p rotation.Place) (list []apikey.Version, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		list = nil
		for _, r := range []rotation.Role{rotation.New, rotation.Old} {
			if id := s.versionID(r); id != "" {
				v, err := tx.Version(id)
				if err != nil {
					return err
				}
				list = append(list, v)
			}
		}
		if p.Home == "" {
			return nil
		}
		home, err := tx.Versions(p.Home)
		for _, v := range home {
			if v.State == apikey.Current {
				list = append(list, v)
			}
		}
		return err
	})
	return list, err
}

func (s *saga) checkBackup(ctx context.Context) error {
	backup := s.row.Plan.Backup
	id, err := s.currentOf(ctx, backup)
	if err != nil {
		return err
	}
	v, err := s.ask(ctx, id)
	if err != nil {
		return err
	}
	return v.Need("check backup key " + string(backup))
}

func (s *saga) currentOf(ctx context.Context, key apikey.Name) (id apikey.VersionID, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		versions, err := tx.Versions(key)
		for _, v := range versions {
			if v.State == apikey.Current {
				id = v.ID
			}
		}
		return err
	})
	if err == nil && id == "" {
		err = fault.New(fault.NotFound, fmt.Sprintf("key %s has no current version", key), fault.Hint("keywright key adopt %s", key))
	}
	return id, err
}

// maxSkew is how far the two clocks may be apart before a retire waits.
const maxSkew = 5 * time.Minute

func (s *saga) checkClock(ctx context.Context) error {
	c, ok := s.Provider.(provider.Clock)
	if !ok {
		return nil
	}
	at, err := c.Clock(ctx)
	if err != nil {
		return err
	}
	if skew := s.Now().Sub(at); skew.Abs() > maxSkew {
		return fault.New(fault.Unavailable, fmt.Sprintf("compare clocks: ours and the provider's are %s apart", skew.Round(time.Second)), fault.Hint("set the clock of this host"))
	}
	return nil
}

func (s *saga) tell(ctx context.Context, e rotation.Effect) error {
	if s.Tell == nil {
		return nil
	}
	return s.Tell(ctx, Notice{Key: s.row.Key, Rotation: s.row.ID, Kind: s.row.Kind, What: e.Arg})
}

// ---- places ----

func (s *saga) baseline(ctx context.Context, e rotation.Effect) (any, func(*store.Tx) error, error) {
	_, l, err := s.place(e.Place)
	if err != nil {
		return nil, nil, err
	}
	switch err := l.Probe(ctx); {
	case err == nil:
		return rotation.ProbeState{Passed: true}, nil, nil
	case ctx.Err() != nil:
		return nil, nil, err
	default:
		return rotation.ProbeState{Note: err.Error()}, nil, nil
	}
}

func (s *saga) reloadPlace(ctx context.Context, e rotation.Effect) error {
	_, l, err := s.place(e.Place)
	if err != nil {
		return err
	}
	return l.Reload(ctx, s.row.ID+":"+e.ID)
}

func (s *saga) probe(ctx context.Context, e rotation.Effect) error {
	_, l, err := s.place(e.Place)
	if err != nil {
		return err
	}
	return l.Probe(ctx)
}

func (s *saga) confirm(ctx context.Context, e rotation.Effect) (any, func(*store.Tx) error, error) {
	p, l, err := s.place(e.Place)
	if err != nil {
		return nil, nil, err
	}
	v, err := s.version(ctx, e.Role)
	if err != nil {
		return nil, nil, err
	}
	c, err := l.Confirm(ctx, v.Digest)
	if err != nil {
		return nil, nil, err
	}
	if !c.Complete() {
		return nil, nil, fault.New(fault.Unavailable, fmt.Sprintf("confirm %s: %d of %d running consumers have %s", p.Name, c.Taken, c.Running, v.Fingerprint()),
			fault.Hint("look at the consumers of %s", p.Name))
	}
	return c, func(tx *store.Tx) error { return observe(tx, p.Name, location.Holding{}, &c) }, nil
}

// observe keeps the last thing known about a place. A holding that says nothing and a nil confirmation leave what was known of each.
func observe(tx *store.Tx, name string, h location.Holding, c *location.Confirmation) error {
	o := store.Observation{Location: name}
	if h.How != "" {
		b, err := json.Marshal(h)
		if err != nil {
			return fault.Wrap(fault.Unknown, err, "keep observation")
		}
		o.Holding = b
	}
	if c != nil {
		b, err := json.Marshal(c)
		if err != nil {
			return fault.Wrap(fault.Unknown, err, "keep observation")
		}
		o.Confirmation = b
	}
	return tx.PutObservation(o)
}
