package runner

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// ---- acquiring ----

// acquire claims the spare that was handed in first among those that outlive the rotation. It picks in the transaction that claims, so that another
// rotation which takes a spare at the same moment leaves the next one to this.
func (s *saga) acquire() (any, func(*store.Tx) error, error) {
	var got rotation.Acquired
	return &got, func(tx *store.Tx) error {
		v, err := s.pickSpare(tx)
		if err != nil {
			return err
		}
		if err := tx.ClaimSpare(v.ID, s.row.ID); err != nil {
			return err
		}
		got = acquired(v, "spare "+v.ProviderName)
		return s.setState(tx, v.ID, apikey.Pending)
	}, nil
}

func acquired(v apikey.Version, how string) rotation.Acquired {
	return rotation.Acquired{Version: string(v.ID), Fingerprint: string(v.Fingerprint()), How: strings.TrimSpace(how)}
}

func (s *saga) pickSpare(tx *store.Tx) (apikey.Version, error) {
	versions, err := tx.Versions(s.row.Key)
	if err != nil {
		return apikey.Version{}, err
	}
	claims, err := tx.Claims()
	if err != nil {
		return apikey.Version{}, err
	}
	needed := s.Now().Add(s.row.Plan.Soak + s.row.Plan.Watch)
	for _, v := range versions {
		taken := slices.ContainsFunc(claims, func(c store.SpareClaim) bool { return c.Version == v.ID })
		lasts := v.Expires.IsZero() || v.Expires.After(needed)
		if v.State == apikey.Spare && !v.Compromised && !taken && lasts {
			return v, nil
		}
	}
	return apikey.Version{}, fault.New(fault.NotFound, fmt.Sprintf("find a spare of %s: there is none", s.row.Key), fault.Hint("keywright key add %s --spare", s.row.Key))
}

// candidate is a version that an emergency could deploy.
type candidate struct {
	version apikey.Version
	how     string
	lent    bool
}

// choose picks the first candidate that the provider accepts and that belongs to the pinned organization.
func (s *saga) choose(ctx context.Context) (any, func(*store.Tx) error, error) {
	candidates, err := s.candidates(ctx)
	if err != nil {
		return nil, nil, err
	}
	var reasons []string
	unknown := false
	for _, c := range candidates {
		verdict, err := s.ask(ctx, c.version.ID)
		if err != nil {
			return nil, nil, err
		}
		if verdict.Answer == provider.Live {
			if err := s.belongs(verdict, c.lent); err != nil {
				reasons = append(reasons, err.Error())
				continue
			}
			got := acquired(c.version, c.how)
			got.Lent = c.lent
			return got, func(tx *store.Tx) error {
				if c.lent {
					return nil
				}
				if err := tx.ClaimSpare(c.version.ID, s.row.ID); err != nil {
					return err
				}
				return s.setState(tx, c.version.ID, apikey.Pending)
			}, nil
		}
		unknown = unknown || verdict.Answer != provider.Dead
		reasons = append(reasons, fmt.Sprintf("%s (%s) is %s", c.version.Fingerprint(), c.how, verdict.Answer))
	}
	if len(reasons) == 0 {
		reasons = []string{"there is no spare, no usable previous version and no backup"}
	}
	kind := fault.NotFound
	if unknown {
		kind = fault.Unavailable
	}
	return nil, nil, fault.New(kind, "choose a version: "+strings.Join(reasons, "; "),
		fault.Hint("hand in a new key: keywright key add %s --spare, then: keywright rotation resume %s", s.row.Key, s.row.ID))
}

// candidates lists, in order: a tested pending version of the key, its spares, its previous version, the backup's spares, the backup's current.
// What somebody else has claimed is not the key's to take; lending takes nothing.
func (s *saga) candidates(ctx context.Context) (list []candidate, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		list = nil
		claims, err := tx.Claims()
		if err != nil {
			return err
		}
		add := func(key apikey.Name, lent bool, states ...apikey.State) error {
			versions, err := tx.Versions(key)
			for _, state := range states {
				for _, v := range versions {
					untested := v.State == apikey.Pending && v.Tested.IsZero()
					taken := !lent && slices.ContainsFunc(claims, func(c store.SpareClaim) bool { return c.Version == v.ID && c.Rotation != s.row.ID })
					if v.State == state && !v.Compromised && !untested && !taken && v.ID != s.row.Plan.Old {
						list = append(list, candidate{version: v, how: string(state) + " of " + string(key), lent: lent})
					}
				}
			}
			return err
		}
		if err := add(s.row.Key, false, apikey.Pending, apikey.Spare, apikey.Previous); err != nil {
			return err
		}
		if s.row.Plan.Backup == "" {
			return nil
		}
		return add(s.row.Plan.Backup, true, apikey.Spare, apikey.Current)
	})
	return list, err
}

// belongs compares the organization and workspace that the provider named to what the slot is pinned to. A lent version may come from another
// workspace of the same organization.
func (s *saga) belongs(v provider.Verdict, lent bool) error {
	p := s.row.Plan
	switch {
	case p.Organization != "" && v.Organization != p.Organization:
		return fault.New(fault.Conflict, fmt.Sprintf("the provider says organization %q, and %s is pinned to %q", v.Organization, p.Key, p.Organization), fault.Hint("make the key in the right organization"))
	case p.Workspace != "" && v.Workspace != p.Workspace && !lent:
		return fault.New(fault.Conflict, fmt.Sprintf("the provider says workspace %q, and %s is pinned to %q", v.Workspace, p.Key, p.Workspace), fault.Hint("make the key in the right workspace"))
	}
	return nil
}

// ---- testing ----

func (s *saga) testValue(ctx context.Context, e rotation.Effect) (any, func(*store.Tx) error, error) {
	id := s.versionID(e.Role)
	var verdict provider.Verdict
	err := s.withValue(ctx, id, func(v secret.Value) (err error) {
		questions := []func(context.Context, secret.Value) (provider.Verdict, error){s.Provider.Inspect}
		if t, ok := s.Provider.(provider.Tester); ok {
			questions = append(questions, t.Count, t.Message)
		}
		for i, ask := range questions {
			got, err := ask(ctx, v)
			if err != nil {
				return err
			}
			if err := got.Need("test new version"); err != nil {
				return err
			}
			if i == 0 {
				verdict = got
			}
		}
		return s.belongs(verdict, false)
	})
	if err != nil {
		return nil, nil, err
	}
	return verdict, func(tx *store.Tx) error {
		return s.changeVersion(tx, id, func(v *apikey.Version) { v.Tested = s.Now() })
	}, nil
}

func (s *saga) testRun(ctx context.Context, e rotation.Effect) error {
	i, err := strconv.Atoi(e.Arg)
	if err != nil || i < 0 || i >= len(s.row.Plan.Tests) {
		return fault.Newf(fault.Corrupt, "make %s: the plan has no such test", e.ID)
	}
	return s.withValue(ctx, s.versionID(e.Role), func(v secret.Value) error { return s.Test(ctx, s.row.Plan.Tests[i], v) })
}

// judgePause is the time between the two rounds of questions, so that one odd answer convicts nobody.
const judgePause = 10 * time.Second

// judge convicts the new version only when it is refused twice while the old one is accepted twice.
func (s *saga) judge(ctx context.Context) (any, func(*store.Tx) error, error) {
	var last string
	for round := range 2 {
		if round > 0 {
			if err := pause(ctx, judgePause); err != nil {
				return nil, nil, err
			}
		}
		fresh, err := s.ask(ctx, s.versionID(rotation.New))
		if err != nil {
			return nil, nil, err
		}
		refused := fresh.Answer == provider.Dead || fresh.Answer == provider.Blocked && fresh.Status == 403
		last = fmt.Sprintf("the provider says of the new version: %s (%s)", fresh.Answer, fresh.Reason)
		if !refused || s.row.Plan.Old == "" {
			return rotation.Judgement{Why: last}, nil, nil
		}
		old, err := s.ask(ctx, s.row.Plan.Old)
		if err != nil {
			return nil, nil, err
		}
		if old.Answer != provider.Live {
			return rotation.Judgement{Why: last + ", and the old one is not accepted either"}, nil, nil
		}
	}
	return rotation.Judgement{Blame: true, Why: last + ", twice, while the old one is accepted"}, nil, nil
}

// ---- pairs ----

func (s *saga) takePair(ctx context.Context) error {
	return s.Store.Update(ctx, func(tx *store.Tx) error {
		for _, pair := range s.row.Plan.Pairs {
			ok, err := tx.TakeLock("pair:"+pair, s.row.ID)
			if err != nil {
				return err
			}
			if !ok {
				return fault.New(fault.Unavailable, fmt.Sprintf("wait for the other key of the pair %s: it is in rotation", pair), fault.Hint("keywright rotation list"))
			}
		}
		return nil
	})
}

func (s *saga) freePair(tx *store.Tx) error { return tx.ReleaseLocks(s.row.ID) }

// ---- states ----

func (s *saga) changeVersion(tx *store.Tx, id apikey.VersionID, change func(*apikey.Version)) error {
	v, err := tx.Version(id)
	if err != nil {
		return err
	}
	change(&v)
	return tx.PutVersion(v)
}

// setState moves a version to a state and says so in the audit chain.
func (s *saga) setState(tx *store.Tx, id apikey.VersionID, to apikey.State) error {
	return s.changeState(tx, id, to, nil)
}

func (s *saga) changeState(tx *store.Tx, id apikey.VersionID, to apikey.State, more func(*apikey.Version)) error {
	var from apikey.State
	err := s.changeVersion(tx, id, func(v *apikey.Version) {
		from = v.State
		v.State, v.Changed = to, s.Now()
		if more != nil {
			more(v)
		}
	})
	if err != nil || from == to {
		return err
	}
	return tx.Record(event.Event{Type: event.VersionState, Actor: s.row.Plan.Actor, Key: s.row.Key, Version: id, Rotation: s.row.ID,
		Text: string(from) + " to " + string(to)})
}

// flip makes the new version current and the old one previous. A lent version stays what it is to its own key.
func (s *saga) flip(tx *store.Tx) error {
	id := s.versionID(rotation.New)
	fresh, err := tx.Version(id)
	if err != nil {
		return err
	}
	if old := s.row.Plan.Old; old != "" && !s.row.Plan.Lent {
		if err := s.setState(tx, old, apikey.Previous); err != nil {
			return err
		}
	}
	if fresh.Key != s.row.Key {
		return nil
	}
	return s.changeState(tx, id, apikey.Current, func(v *apikey.Version) {
		if v.Activated.IsZero() { // a version that comes back is as old as it was
			v.Activated = s.Now()
		}
	})
}

// settle writes the last states. On the way back (role new) the new version becomes a spare again, or is rejected. After a rollback (role old) the
// version that was taken out does; after an emergency it is inactive and marked.
func (s *saga) settle(ctx context.Context, e rotation.Effect) (any, func(*store.Tx) error, error) {
	id := s.versionID(e.Role)
	if id == "" {
		return nil, nil, nil
	}
	if s.row.Kind == rotation.Emergency {
		return nil, func(tx *store.Tx) error { return s.settleCompromised(tx, id) }, nil
	}
	to := apikey.Rejected
	if e.Arg != "rejected" {
		verdict, err := s.ask(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		if verdict.Answer != provider.Dead {
			to = apikey.Spare
		}
	}
	return map[string]string{"state": string(to)}, func(tx *store.Tx) error {
		if err := s.setState(tx, id, to); err != nil {
			return err
		}
		return release(tx, s.row.ID)
	}, nil
}

// settleCompromised leaves the state that the provider confirmed: inactive when the value was refused, previous while it may still work.
func (s *saga) settleCompromised(tx *store.Tx, id apikey.VersionID) error {
	v, err := tx.Version(id)
	if err != nil || v.State == apikey.Inactive || v.State == apikey.Archived {
		return err
	}
	refused := !s.made(func(id string) bool { return strings.HasSuffix(id, "/"+string(rotation.AwaitRefused)) }).IsZero()
	if refused {
		return s.setState(tx, id, apikey.Inactive)
	}
	return nil
}

func (s *saga) openIncident(tx *store.Tx) error {
	id := "inc-" + s.Now().UTC().Format("2006-01-02") + "-" + s.row.ID
	title := strings.TrimSpace(fmt.Sprintf("%s replaced in an emergency: %s %s", s.row.Key, s.row.Plan.Reason, s.row.Plan.Note))
	if err := tx.OpenIncident(store.Incident{ID: id, Key: s.row.Key, Rotation: s.row.ID, Opened: s.Now(), Title: title, Status: "open"}); err != nil {
		return err
	}
	return tx.Record(event.Event{Type: event.IncidentOpened, Actor: s.row.Plan.Actor, Key: s.row.Key, Rotation: s.row.ID, Text: title})
}
