package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/location"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func clock() time.Time { return now }

func open(t testing.TB) *store.Store {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), filepath.Join(dir, "k.db"), store.Options{Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func update(t testing.TB, s *store.Store, f func(tx *store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func digest(b byte) apikey.Digest { return apikey.Digest{b, 1, 2, 3, 4, 5, 6, 7} }

func version(id string, key apikey.Name, state apikey.State, b byte) apikey.Version {
	return apikey.Version{
		ID: apikey.VersionID(id), Key: key, State: state, Digest: digest(b), ProviderID: "apikey_" + id, Environment: apikey.Production,
		Added: now.Add(-20 * day), Activated: now.Add(-10 * day), Tested: now.Add(-day),
	}
}

func hold(how location.Knowledge, b byte) json.RawMessage {
	h := location.Holding{Present: true, How: how}
	if b != 0 {
		h.Digest = digest(b)
	}
	raw, err := json.Marshal(h)
	if err != nil {
		panic(err)
	}
	return raw
}

// key is the configured key of most tests.
func key(places ...string) Key {
	k := Key{Name: "prod", Environment: apikey.Production, Class: apikey.Classes()[0], Owner: "platform", Backup: "spare-key"}
	for _, p := range places {
		kind, manual := "env-file", false
		if p == "wiki" {
			kind, manual = "manual", true
		}
		k.Locations = append(k.Locations, Place{Name: p, Kind: kind, Manual: manual})
	}
	return k
}

func collect(t testing.TB, s Source) Status {
	t.Helper()
	if s.Now == nil {
		s.Now = clock
	}
	got, err := Collect(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func place(t testing.TB, s Status, name string) PlaceStatus {
	t.Helper()
	i := slices.IndexFunc(s.Locations, func(p PlaceStatus) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no place %q", name)
	}
	return s.Locations[i]
}

func codes(findings []policy.Finding) string {
	var out []string
	for _, f := range findings {
		out = append(out, strings.TrimPrefix(f.Location+":"+string(f.Code), ":"))
	}
	return strings.Join(out, " ")
}

func TestEmptyStore(t *testing.T) {
	got := collect(t, Source{Store: open(t), Keys: []Key{key("a")}})
	if len(got.Keys) != 1 || got.Keys[0].Fingerprint != "" || got.Keys[0].Places != (Places{Total: 1}) || place(t, got, "a").Sync != Undecided {
		t.Errorf("%+v", got.Keys)
	}
	if codes(got.Wants) != "not-adopted" {
		t.Errorf("wants %s", codes(got.Wants))
	}
	b, err := json.Marshal(collect(t, Source{Store: open(t)}))
	if err != nil || strings.Contains(string(b), "null") {
		t.Errorf("JSON of nothing: %s %v", b, err)
	}
}

// TestPlaces has one place of every sort.
func TestPlaces(t *testing.T) {
	s := open(t)
	old := now.Add(-5 * day)
	places := map[string]struct {
		seen *store.Observation
		want Sync
	}{
		"read":      {&store.Observation{Holding: hold(location.ReadBack, 1)}, InSync},
		"labelled":  {&store.Observation{Holding: hold(location.Label, 1)}, InSync},
		"changed":   {&store.Observation{Holding: hold(location.ChangedAt, 0)}, InSync},
		"blind":     {&store.Observation{Holding: hold(location.Nothing, 0)}, InSync},
		"blind-old": {&store.Observation{Holding: hold(location.Nothing, 0), At: now.Add(-6 * day)}, NotKnown},
		"drifted":   {&store.Observation{Holding: hold(location.ReadBack, 9)}, Differs},
		"emptied":   {&store.Observation{Holding: json.RawMessage(`{"Present":false,"How":"read back"}`)}, Differs},
		"down":      {&store.Observation{Err: &rotation.Fault{Kind: "unavailable", Message: "inspect down: no route\x1b[2J", Hint: "try later"}}, NotKnown},
		"unseen":    {nil, NotKnown},
		"garbage":   {&store.Observation{Holding: json.RawMessage(`["what"]`)}, NotKnown},
		"wiki":      {nil, InSync},
		"undecided": {&store.Observation{Holding: hold(location.ReadBack, 1)}, Undecided},
	}
	k := key()
	update(t, s, func(tx *store.Tx) error {
		if err := tx.PutVersion(version("v_1", "prod", apikey.Current, 1)); err != nil {
			return err
		}
		for name, p := range places {
			if p.seen != nil {
				o := *p.seen
				o.Location = name
				if err := tx.PutObservation(o); err != nil {
					return err
				}
			}
			if name == "undecided" {
				continue
			}
			if err := tx.SetDesired(store.Desired{Location: name, Key: "prod", Version: "v_1", Rotation: "r-1", At: old}); err != nil {
				return err
			}
		}
		return tx.Sign(store.Signature{Location: "wiki", Fingerprint: digest(1).Fingerprint(), By: "jane", At: old})
	})
	for name := range places {
		k.Locations = append(k.Locations, key(name).Locations...)
	}
	got := collect(t, Source{Store: s, Keys: []Key{k}})
	for name, p := range places {
		if l := place(t, got, name); l.Sync != p.want || l.InSync != (p.want == InSync) {
			t.Errorf("%s is %q, want %q: %+v", name, l.Sync, p.want, l)
		}
	}
	if want := (Places{Total: 12, InSync: 5, How: How{ReadBack: 1, Label: 1, Changed: 1, Signed: 1, Unverifiable: 1}}); got.Keys[0].Places != want {
		t.Errorf("counted %+v, want %+v", got.Keys[0].Places, want)
	}
	if l := place(t, got, "down"); l.Error != "inspect down: no route[2J" || l.Hint != "try later" {
		t.Errorf("down: %+v", l)
	}
	if l := place(t, got, "wiki"); l.SignedBy != "jane" || l.How != policy.Signed {
		t.Errorf("wiki: %+v", l)
	}
	for _, want := range []string{"drifted:drift", "emptied:drift", "down:unreachable", "blind:unverifiable"} {
		if !slices.Contains(strings.Fields(codes(got.Keys[0].Findings)), want) {
			t.Errorf("no finding %s in %s", want, codes(got.Keys[0].Findings))
		}
	}
}

func TestAnUnreadablePlaceThatSomebodyElseChanged(t *testing.T) {
	s := open(t)
	r := rotation.Row{ID: "r-1", Key: "prod", Kind: rotation.Manual, Status: rotation.Running, Plan: rotation.Plan{ID: "r-1"}}
	look := func(changed time.Time) PlaceStatus {
		h, err := json.Marshal(location.Holding{Present: true, How: location.ChangedAt, ChangedAt: changed})
		if err != nil {
			t.Fatal(err)
		}
		update(t, s, func(tx *store.Tx) error {
			return tx.PutObservation(store.Observation{Location: "ci", Holding: h})
		})
		return place(t, collect(t, Source{Store: s, Keys: []Key{key("ci")}}), "ci")
	}
	update(t, s, func(tx *store.Tx) error {
		if err := tx.PutVersion(version("v_1", "prod", apikey.Current, 1)); err != nil {
			return err
		}
		if err := tx.CreateRotation(r); err != nil {
			return err
		}
		return tx.SetDesired(store.Desired{Location: "ci", Key: "prod", Version: "v_1", Rotation: "r-1", At: now.Add(-5 * day)})
	})
	if l := look(now); l.Sync != InSync {
		t.Errorf("while the rotation runs: %+v", l)
	}
	update(t, s, func(tx *store.Tx) error { return tx.SetStatus("r-1", 0, store.SetStatus{Status: rotation.Done}) })
	ended := now
	if l := look(ended.Add(time.Minute)); l.Sync != InSync {
		t.Errorf("changed by the rotation: %+v", l)
	}
	if l := look(ended.Add(time.Hour)); l.Sync != NotKnown || !strings.Contains(l.Error, "not by Keywright") {
		t.Errorf("changed by somebody else: %+v", l)
	}
}

func TestKeyFacts(t *testing.T) {
	s := open(t)
	lost := version("v_lost", "forgotten-key", apikey.Current, 7)
	spare := version("v_3", "prod", apikey.Spare, 3)
	expired := version("v_4", "prod", apikey.Spare, 4)
	expired.Expires = now.Add(time.Hour)
	update(t, s, func(tx *store.Tx) error {
		for _, v := range []apikey.Version{version("v_1", "prod", apikey.Current, 1), version("v_2", "prod", apikey.Previous, 2), spare, expired, lost} {
			if err := tx.PutVersion(v); err != nil {
				return err
			}
		}
		if err := tx.OpenIncident(store.Incident{ID: "inc-1", Key: "prod", Title: "leak\nin a repo", Status: "open"}); err != nil {
			return err
		}
		return tx.SetDesired(store.Desired{Location: "lost-place", Key: "forgotten-key", Version: "v_lost"})
	})
	got := collect(t, Source{Store: s, Keys: []Key{key()}, Admin: true, Witness: true})
	k := got.Keys[0]
	if k.Fingerprint != digest(1).Fingerprint() || k.ProviderID != "apikey_v_1" || k.AgeDays != 10 || k.DueDays != 80 || !k.Due.Equal(now.Add(80*day)) || k.Spares != 1 || !k.Configured {
		t.Errorf("%+v", k)
	}
	if f := got.Keys[1]; f.Name != "forgotten-key" || f.Configured || f.Places.Total != 1 || place(t, got, "lost-place").Key != "forgotten-key" {
		t.Errorf("a key that the inventory alone knows: %+v", f)
	}
	if len(got.Incidents) != 1 || got.Incidents[0].Title != "leak in a repo" || codes(got.Wants[:1]) != "incident-open" {
		t.Errorf("incidents %+v, wants %s", got.Incidents, codes(got.Wants))
	}
	if c := codes(got.Findings); strings.Contains(c, "no-admin-key") || strings.Contains(c, "no-witness") {
		t.Errorf("findings %s", c)
	}
	if c := codes(collect(t, Source{Store: s, Keys: []Key{key()}}).Findings); !strings.Contains(c, "no-admin-key") || !strings.Contains(c, "no-witness") {
		t.Errorf("findings without admin key and witness: %s", c)
	}
	overdue := collect(t, Source{Store: s, Keys: []Key{key()}, Now: func() time.Time { return now.Add(81*day - time.Hour) }})
	if d := overdue.Keys[0].DueDays; d != -1 {
		t.Errorf("overdue by less than a day: due in %d days", d)
	}
}

// TestRotationUnderWay drives a rotation's journal into the store and looks at it on the way.
func TestRotationUnderWay(t *testing.T) {
	s := open(t)
	p := rotation.Plan{
		ID: "r-1", Key: "prod", Kind: rotation.Manual, Process: rotation.ProcessOrdinary, Old: "v_1", Soak: day, Watch: day,
		Places: []rotation.Place{{Name: "a", Can: rotation.Can{Read: true}}, {Name: "b", Can: rotation.Can{Read: true}}},
		Waves:  []rotation.Wave{{Name: "production", Production: true, Batches: [][]string{{"a"}, {"b"}}}},
	}
	update(t, s, func(tx *store.Tx) error {
		for _, v := range []apikey.Version{version("v_1", "prod", apikey.Current, 1), version("v_2", "prod", apikey.Pending, 2)} {
			if err := tx.PutVersion(v); err != nil {
				return err
			}
		}
		for _, l := range []string{"a", "b"} {
			if err := tx.SetDesired(store.Desired{Location: l, Key: "prod", Version: "v_1"}); err != nil {
				return err
			}
			if err := tx.PutObservation(store.Observation{Location: l, Holding: hold(location.ReadBack, 1)}); err != nil {
				return err
			}
		}
		return tx.CreateRotation(rotation.Row{ID: "r-1", Key: "prod", Kind: rotation.Manual, Status: rotation.Running, Plan: p, Note: "note"})
	})
	// advance makes what is due until stop says so.
	advance := func(stop func(e rotation.Effect) bool) {
		for range 100 {
			err := s.Update(t.Context(), func(tx *store.Tx) error {
				journal, err := tx.Journal("r-1")
				if err != nil {
					return err
				}
				move := rotation.Next(p, journal, now)
				if len(move.Do) == 0 || stop(move.Do[0]) {
					return context.Canceled
				}
				for _, e := range move.Do {
					data := json.RawMessage(`{}`)
					if e.Verb == rotation.Acquire {
						data = json.RawMessage(`{"version":"v_2"}`)
					}
					if e.Verb == rotation.Put {
						if err := tx.SetDesired(store.Desired{Location: e.Place, Key: "prod", Version: "v_2", Rotation: "r-1"}); err != nil {
							return err
						}
						if err := tx.PutObservation(store.Observation{Location: e.Place, Holding: hold(location.ReadBack, 2)}); err != nil {
							return err
						}
					}
					if err := tx.Append("r-1", 0, rotation.Entry{Type: rotation.Intended, Effect: e.ID}, rotation.Entry{Type: rotation.Made, Effect: e.ID, Data: data}); err != nil {
						return err
					}
				}
				return nil
			})
			if errors.Is(err, context.Canceled) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Fatal("no end")
	}
	source := Source{Store: s, Keys: []Key{key("a", "b")}}
	advance(func(e rotation.Effect) bool { return e.Verb == rotation.Put && e.Place == "b" })
	got := collect(t, source)
	r := got.Keys[0].Rotation
	if r == nil || r.Step != rotation.Deploy || r.Moved != 1 || r.Total != 2 || r.New != digest(2).Fingerprint() || r.Note != "note" {
		t.Fatalf("in the middle: %+v", r)
	}
	if got.Keys[0].Places.InSync != 2 {
		t.Errorf("each place holds what it is meant to hold: %+v", got.Keys[0].Places)
	}
	advance(func(e rotation.Effect) bool { return false })
	r = collect(t, source).Keys[0].Rotation
	if r.Step != rotation.Soak || r.Moved != 2 || !r.Until.Equal(now.Add(day)) {
		t.Errorf("in the soak: %+v", r)
	}
	update(t, s, func(tx *store.Tx) error {
		return tx.SetStatus("r-1", 0, store.SetStatus{Status: rotation.Paused, Note: "trouble", Hint: "keywright rotation resume r-1"})
	})
	got = collect(t, source)
	if r = got.Keys[0].Rotation; !r.Until.IsZero() || codes(got.Wants) != "rotation-paused" {
		t.Errorf("paused: %+v, wants %s", r, codes(got.Wants))
	}
	update(t, s, func(tx *store.Tx) error { return tx.Supersede("r-1", "an emergency") })
	got = collect(t, source)
	if l := got.Keys[0].LastRotation; got.Keys[0].Rotation != nil || l == nil || l.ID != "r-1" || l.Status != rotation.Superseded {
		t.Errorf("ended: %+v", l)
	}
}

func TestAPlaceThatAnotherKeyBorrowsForItsTest(t *testing.T) {
	s := open(t)
	p := rotation.Plan{ID: "r-1", Key: "prod", Process: rotation.ProcessOrdinary, Places: []rotation.Place{{Name: "stage-env", Home: "stage"}}}
	update(t, s, func(tx *store.Tx) error {
		for _, v := range []apikey.Version{version("v_1", "prod", apikey.Pending, 1), version("v_2", "stage", apikey.Current, 2)} {
			if err := tx.PutVersion(v); err != nil {
				return err
			}
		}
		if err := tx.CreateRotation(rotation.Row{ID: "r-1", Key: "prod", Kind: rotation.Manual, Status: rotation.Running, Plan: p}); err != nil {
			return err
		}
		if err := tx.SetDesired(store.Desired{Location: "stage-env", Key: "prod", Version: "v_1", Rotation: "r-1"}); err != nil {
			return err
		}
		return tx.PutObservation(store.Observation{Location: "stage-env", Holding: hold(location.ReadBack, 1)})
	})
	stage := Key{Name: "stage", Environment: apikey.Staging, Locations: []Place{{Name: "stage-env"}}}
	got := collect(t, Source{Store: s, Keys: []Key{{Name: "prod"}, stage}})
	if l := place(t, got, "stage-env"); l.Sync != Undecided || strings.Contains(codes(got.Findings), "drift") || strings.Contains(codes(got.Findings), "borrowed") {
		t.Errorf("%+v, findings %s", l, codes(got.Findings))
	}
	if r := got.Keys[0].Rotation; r.Total != 0 {
		t.Errorf("a borrowed place counts as moved: %+v", r)
	}
}

// driver is a place in memory.
type driver struct {
	holding location.Holding
	err     error
	hang    bool
	confirm *location.Confirmation
}

func (d *driver) Inspect(ctx context.Context) (location.Holding, error) {
	if d.hang {
		<-ctx.Done()
		return location.Holding{}, fault.In(ctx.Err(), "ask")
	}
	return d.holding, d.err
}

func (d *driver) Put(context.Context, secret.Value, location.Expect) (location.Receipt, error) {
	panic("monitor changes no place")
}

type confirming struct{ driver }

func (c *confirming) Confirm(context.Context, apikey.Digest) (location.Confirmation, error) {
	if c.confirm == nil {
		return location.Confirmation{}, fault.New(fault.Unavailable, "no consumer answers")
	}
	return *c.confirm, nil
}

var (
	_ location.Driver    = (*driver)(nil)
	_ location.Confirmer = (*confirming)(nil)
)

// issuer is a provider that lists keys and tells the time.
type issuer struct {
	keys []provider.Key
	skew time.Duration
	err  error
}

func (i *issuer) Inspect(context.Context, secret.Value) (provider.Verdict, error) {
	return provider.Verdict{}, nil
}
func (i *issuer) List(context.Context, string) ([]provider.Key, error) { return i.keys, i.err }
func (i *issuer) Clock(context.Context) (time.Time, error)             { return clock().Add(-i.skew), i.err }

var (
	_ provider.Provider = (*issuer)(nil)
	_ provider.Lister   = (*issuer)(nil)
	_ provider.Clock    = (*issuer)(nil)
)

func TestLiveLook(t *testing.T) {
	s := open(t)
	backup := version("v_b", "spare-key", apikey.Current, 8)
	update(t, s, func(tx *store.Tx) error {
		for _, v := range []apikey.Version{version("v_1", "prod", apikey.Current, 1), backup} {
			if err := tx.PutVersion(v); err != nil {
				return err
			}
		}
		for _, l := range []string{"good", "drifted", "down"} {
			if err := tx.SetDesired(store.Desired{Location: l, Key: "prod", Version: "v_1"}); err != nil {
				return err
			}
		}
		return nil
	})
	good := &confirming{driver{holding: location.Holding{Present: true, How: location.ReadBack, Digest: digest(1)}, confirm: &location.Confirmation{How: location.ReadBack, Running: 3, Taken: 2, Old: 1}}}
	mute := &confirming{driver{holding: location.Holding{Present: true, How: location.ReadBack, Digest: digest(9)}}}
	down := &driver{err: fault.New(fault.Forbidden, "ask: no right", fault.Hint("grant it"))}
	var told []Progress
	live := &Live{
		Locations: []*location.Location{location.New("good", "x", good, location.Options{}), location.New("drifted", "x", mute, location.Options{}), location.New("down", "x", down, location.Options{})},
		Provider: &issuer{skew: 10 * time.Minute, keys: []provider.Key{
			{ID: "apikey_v_1", Status: provider.Active}, {ID: "apikey_x", Name: "by hand", Status: provider.Active}, {ID: "apikey_y", Status: provider.Inactive},
		}},
		Ask: func(_ context.Context, id apikey.VersionID) (provider.Verdict, error) {
			answer, current := map[apikey.VersionID]provider.Answer{"v_1": provider.Live, "v_b": provider.Dead}[id]
			if !current {
				t.Errorf("asked about %s", id)
			}
			return provider.Verdict{Answer: answer}, nil
		},
		Progress: func(p Progress) { told = append(told, p) },
	}
	source := Source{Store: s, Keys: []Key{key("good", "drifted", "down"), {Name: "spare-key", Environment: apikey.Production}}, Live: live}
	got := collect(t, source)
	if l := place(t, got, "good"); l.Sync != InSync || !l.SeenAt.Equal(now) || l.Confirmation == nil || *l.Confirmation != (Confirmation{How: policy.ReadBack, Running: 3, Taken: 2, Old: 1}) {
		t.Errorf("good: %+v", l)
	}
	if l := place(t, got, "drifted"); l.Sync != Differs || l.Held != digest(9).Fingerprint() || l.Confirmation != nil || l.Error != "" {
		t.Errorf("drifted: %+v", l)
	}
	if l := place(t, got, "down"); l.Sync != NotKnown || !strings.Contains(l.Error, "no right") || l.Hint != "grant it" {
		t.Errorf("down: %+v", l)
	}
	for _, want := range []string{"drifted:drift", "down:unreachable", "backup-dead", "clock-skew", "unknown-keys"} {
		if !slices.Contains(strings.Fields(codes(got.Findings)), want) {
			t.Errorf("no finding %s in %s", want, codes(got.Findings))
		}
	}
	if !got.Live || got.Keys[0].BackupAlive != policy.Dead || len(told) != 3 || told[2].Done != 3 || told[2].Total != 3 {
		t.Errorf("live %v, backup %q, progress %+v", got.Live, got.Keys[0].BackupAlive, told)
	}
	source.Live = nil
	if l := place(t, collect(t, source), "drifted"); l.Sync != Differs {
		t.Errorf("what was seen was not kept: %+v", l)
	}
}

// TestCurrentVersionThatOthersEnded has every mix of what the value's own answer and the provider's list say of a version in use.
func TestCurrentVersionThatOthersEnded(t *testing.T) {
	const proved, hinted = apikey.BindingProved, apikey.BindingHint
	for name, c := range map[string]struct {
		answer      provider.Answer
		listed      provider.Status
		binding     apikey.Binding
		compromised bool
		gone        string
	}{
		"alive":                            {provider.Live, provider.Active, proved, false, ""},
		"refused":                          {provider.Dead, provider.Active, proved, false, "refused by the provider"},
		"refused and inactive":             {provider.Dead, provider.Inactive, hinted, false, "refused by the provider, and inactive in its list"},
		"refused, and not in the list":     {provider.Dead, "", proved, false, "refused by the provider"},
		"inactive, and nobody asked":       {"", provider.Inactive, hinted, false, "inactive in the provider's list"},
		"inactive a moment ago":            {provider.Live, provider.Inactive, proved, false, "inactive in the provider's list"},
		"another key's id is inactive":     {provider.Live, provider.Inactive, hinted, false, ""},
		"archived":                         {provider.Unknown, provider.Archived, proved, false, "archived in the provider's list"},
		"unknown is not dead":              {provider.Unknown, provider.Active, proved, false, ""},
		"blocked is not dead":              {provider.Blocked, provider.Active, proved, false, ""},
		"ended by an emergency":            {provider.Dead, provider.Inactive, proved, true, ""},
		"neither list nor answer could be": {"", "", proved, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			v := version("v_1", "prod", apikey.Current, 1)
			v.Binding, v.Compromised = c.binding, c.compromised
			update(t, s, func(tx *store.Tx) error { return tx.PutVersion(v) })
			p := &issuer{}
			if c.listed != "" {
				p.keys = []provider.Key{{ID: "apikey_v_1", Status: c.listed}}
			}
			live := &Live{Provider: p, Ask: func(context.Context, apikey.VersionID) (provider.Verdict, error) {
				if c.answer == "" {
					return provider.Verdict{}, fault.New(fault.Unavailable, "no")
				}
				return provider.Verdict{Answer: c.answer}, nil
			}}
			got := collect(t, Source{Store: s, Keys: []Key{key()}, Live: live})
			if k := got.Keys[0]; k.Gone != c.gone || strings.Contains(codes(got.Wants), "current-gone") != (c.gone != "") {
				t.Errorf("gone %q, wants %s", k.Gone, codes(got.Wants))
			}
		})
	}
}

func TestLiveLookAsksNothingElse(t *testing.T) {
	s := open(t)
	got := collect(t, Source{Store: s, Keys: []Key{key("a")}, Live: &Live{Provider: &issuer{err: fault.New(fault.Unavailable, "no")}, Forget: true,
		Locations: []*location.Location{location.New("a", "x", &driver{}, location.Options{})}}})
	if c := codes(got.Findings); strings.Contains(c, "unknown-keys") || strings.Contains(c, "clock-skew") {
		t.Errorf("findings from a provider that did not answer: %s", c)
	}
	if l := place(t, collect(t, Source{Store: s, Keys: []Key{key("a")}}), "a"); !l.SeenAt.IsZero() {
		t.Errorf("it was kept: %+v", l)
	}
}

func TestLiveLookIsBounded(t *testing.T) {
	s := open(t)
	synctest.Test(t, func(t *testing.T) {
		var list []*location.Location
		var names []string
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			names = append(names, name)
			list = append(list, location.New(name, "x", &driver{hang: true}, location.Options{}))
		}
		inv := inventory{seen: map[string]*store.Observation{}}
		began := time.Now()
		seen, err := look(t.Context(), Source{Store: s, Keys: []Key{key(names...)}, Live: &Live{Locations: list, Timeout: 2 * time.Second, Parallel: 2}}, &inv, clock)
		if took := time.Since(began); err != nil || took != 2*time.Second {
			t.Errorf("took %v: %v", took, err)
		}
		if len(seen.seen) != 5 || slices.ContainsFunc(seen.seen, func(o store.Observation) bool { return o.Err == nil || o.Err.Kind != "unavailable" }) {
			t.Errorf("seen %+v", seen.seen)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := look(ctx, Source{Store: s, Live: &Live{Locations: list}}, &inv, clock); !fault.Is(err, fault.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
