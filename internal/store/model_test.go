package store

import (
	"fmt"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// modelRow is a rotation as the in-memory model keeps it.
type modelRow struct {
	id, key, owner        string
	status                rotation.Status
	wake, until           time.Time
	fence, signals, lines int64
	ended                 bool
}

// testModel runs random acts against the store and against a model of a few lines, and compares them after each.
func testModel(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		// Runs share the store; what an earlier one left behind is ended.
		err := s.Update(t.Context(), func(tx *Tx) error {
			rows, err := tx.Rotations(RotationFilter{Active: true})
			for _, r := range rows {
				if err := tx.Supersede(r.ID, ""); err != nil {
					return err
				}
			}
			return err
		})
		if err != nil {
			rt.Fatal(err)
		}
		m := &machine{t: t, s: s, c: c, run: run, rows: map[string]*modelRow{}, locks: map[string]string{}, versions: map[string]*modelVersion{}}
		rt.Repeat(map[string]func(*rapid.T){
			"":          m.check,
			"advance":   m.advance,
			"create":    m.create,
			"claim":     m.claim,
			"claimID":   m.claimID,
			"renew":     m.renew,
			"append":    m.append,
			"signal":    m.signal,
			"park":      m.park,
			"status":    m.status,
			"supersede": m.supersede,
			"version":   m.version,
			"hold":      m.hold,
			"lock":      m.lock,
		})
	})
}

type modelVersion struct {
	key, digest string
	state       apikey.State
	holder      string
}

type machine struct {
	t        *testing.T
	s        *Store
	c        *clock
	run      int
	rows     map[string]*modelRow
	made     int
	locks    map[string]string
	versions map[string]*modelVersion
}

func (m *machine) name(prefix string, n int) string { return fmt.Sprintf("%s-%d-%d", prefix, m.run, n) }

func (m *machine) update(fn func(*Tx) error) error { return m.s.Update(m.t.Context(), fn) }

// expect compares an outcome with the kind that the model foretells; Unknown stands for success.
func expect(rt *rapid.T, err error, kind fault.Kind) bool {
	if kind == fault.Unknown && err != nil || kind != fault.Unknown && !fault.Is(err, kind) {
		rt.Fatalf("got %v of kind %v, want kind %v", err, fault.KindOf(err), kind)
	}
	return err == nil
}

func (m *machine) any(rt *rapid.T) *modelRow {
	if m.made == 0 {
		rt.Skip("no rotation yet")
	}
	return m.rows[m.name("r", rapid.IntRange(1, m.made).Draw(rt, "rotation"))]
}

// fence draws the row's fence, or one that is too old.
func (r *modelRow) draw(rt *rapid.T) int64 { return r.fence - rapid.Int64Range(0, 1).Draw(rt, "late") }

func (m *machine) advance(rt *rapid.T) {
	m.c.advance(time.Duration(rapid.IntRange(1, 4).Draw(rt, "seconds")) * time.Second)
}

func (m *machine) create(rt *rapid.T) {
	key := m.name("k", rapid.IntRange(1, 3).Draw(rt, "key"))
	id := m.name("r", m.made+1)
	want := fault.Unknown
	for _, r := range m.rows {
		if r.key == key && !r.ended {
			want = fault.Conflict
		}
	}
	wake := m.c.now().Add(time.Duration(rapid.IntRange(0, 6).Draw(rt, "sleep")) * time.Second)
	row := row(id, apikey.Name(key), m.c.now())
	row.WakeAt = wake
	if expect(rt, m.update(func(tx *Tx) error { return tx.CreateRotation(row) }), want) {
		m.made++
		m.rows[id] = &modelRow{id: id, key: key, status: rotation.Running, wake: wake}
	}
}

func (r *modelRow) free(now time.Time) bool { return r.owner == "" || !r.until.After(now) }

func (m *machine) claim(rt *rapid.T) {
	owner, now := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "owner"), m.c.now()
	var due []*modelRow
	for _, r := range m.rows {
		if !r.ended && !r.wake.After(now) && r.free(now) {
			due = append(due, r)
		}
	}
	sort.Slice(due, func(i, j int) bool {
		if !due[i].wake.Equal(due[j].wake) {
			return due[i].wake.Before(due[j].wake)
		}
		return due[i].id < due[j].id
	})
	got, ok, err := m.s.Claim(m.t.Context(), owner, ttl)
	expect(rt, err, fault.Unknown)
	if ok != (len(due) > 0) || ok && got.ID != due[0].id {
		rt.Fatalf("claimed %q (%v), the model has %d due", got.ID, ok, len(due))
	}
	if ok {
		due[0].owner, due[0].until, due[0].fence = owner, now.Add(ttl), due[0].fence+1
	}
}

func (m *machine) claimID(rt *rapid.T) {
	r, owner, now := m.any(rt), rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "owner"), m.c.now()
	want := fault.Unknown
	if r.ended || !r.free(now) && r.owner != owner {
		want = fault.Conflict
	}
	_, err := m.s.ClaimID(m.t.Context(), r.id, owner, ttl)
	if expect(rt, err, want) {
		r.owner, r.until, r.fence = owner, now.Add(ttl), r.fence+1
		if r.wake.After(now) {
			r.wake = now
		}
	}
}

func (m *machine) renew(rt *rapid.T) {
	r := m.any(rt)
	fence, want := r.draw(rt), fault.Unknown
	if fence != r.fence || r.ended || r.owner == "" {
		want = fault.Conflict
	}
	if expect(rt, m.s.Renew(m.t.Context(), r.id, fence, ttl), want) {
		r.until = m.c.now().Add(ttl)
	}
}

func (m *machine) append(rt *rapid.T) {
	r := m.any(rt)
	fence, n, want := r.draw(rt), rapid.IntRange(1, 3).Draw(rt, "entries"), fault.Unknown
	if fence != r.fence {
		want = fault.Conflict
	}
	entries := make([]rotation.Entry, n)
	for i := range entries {
		entries[i] = rotation.Entry{Type: rotation.Intended, Effect: fmt.Sprint(i)}
	}
	if expect(rt, m.update(func(tx *Tx) error { return tx.Append(r.id, fence, entries...) }), want) {
		r.lines += int64(n)
	}
}

func (m *machine) signal(rt *rapid.T) {
	r, want := m.any(rt), fault.Unknown
	if r.ended {
		want = fault.Conflict
	}
	if expect(rt, m.update(func(tx *Tx) error { return tx.Signal(r.id, rotation.Entry{Signal: rotation.SignalWake}) }), want) {
		r.signals++
		r.lines++
		r.wake = m.c.now()
	}
}

func (m *machine) park(rt *rapid.T) {
	r := m.any(rt)
	fence, seen := r.draw(rt), r.signals-rapid.Int64Range(0, 1).Draw(rt, "unseen")
	p := Parking{Status: rapid.SampledFrom([]rotation.Status{rotation.Running, rotation.Waiting, rotation.Done}).Draw(rt, "status")}
	if !p.Status.Ended() {
		p.WakeAt = m.c.now().Add(time.Duration(rapid.IntRange(0, 6).Draw(rt, "sleep")) * time.Second)
	}
	want := fault.Unknown
	if fence != r.fence || r.ended {
		want = fault.Conflict
	}
	parked, err := m.s.Park(m.t.Context(), r.id, fence, seen, p)
	if !expect(rt, err, want) {
		return
	}
	if parked != (seen == r.signals) {
		rt.Fatalf("parked %v with %d of %d signals seen", parked, seen, r.signals)
	}
	if parked {
		r.status, r.wake, r.owner, r.until, r.ended = p.Status, p.WakeAt, "", time.Time{}, p.Status.Ended()
	}
}

func (m *machine) status(rt *rapid.T) {
	r := m.any(rt)
	fence, want := r.draw(rt), fault.Unknown
	to := rapid.SampledFrom([]rotation.Status{rotation.Running, rotation.Paused, rotation.Failed}).Draw(rt, "status")
	if fence != r.fence || r.ended {
		want = fault.Conflict
	}
	if expect(rt, m.update(func(tx *Tx) error { return tx.SetStatus(r.id, fence, SetStatus{Status: to}) }), want) {
		r.status = to
		if to.Ended() {
			r.ended, r.owner, r.until = true, "", time.Time{}
		}
	}
}

func (m *machine) supersede(rt *rapid.T) {
	r, want := m.any(rt), fault.Unknown
	if r.ended {
		want = fault.Conflict
	}
	if expect(rt, m.update(func(tx *Tx) error { return tx.Supersede(r.id, "") }), want) {
		r.status, r.ended, r.owner, r.until, r.fence = rotation.Superseded, true, "", time.Time{}, r.fence+1
	}
}

func (m *machine) version(rt *rapid.T) {
	id, digest := m.name("v", rapid.IntRange(1, 3).Draw(rt, "version")), m.name("d", rapid.IntRange(1, 3).Draw(rt, "value"))
	key := m.name("k", rapid.IntRange(1, 2).Draw(rt, "key"))
	state := rapid.SampledFrom([]apikey.State{apikey.Spare, apikey.Current}).Draw(rt, "state")
	want := fault.Unknown
	if had := m.versions[id]; had != nil && (had.key != key || had.digest != digest) {
		want = fault.Conflict
	}
	for other, v := range m.versions {
		if other != id && (v.digest == digest || v.key == key && v.state == apikey.Current && state == apikey.Current) {
			want = fault.Conflict
		}
	}
	v := version(id, apikey.Name(key), state, digest)
	if expect(rt, m.update(func(tx *Tx) error { return tx.PutVersion(v) }), want) {
		holder := ""
		if had := m.versions[id]; had != nil {
			holder = had.holder
		}
		m.versions[id] = &modelVersion{key: key, digest: digest, state: state, holder: holder}
	}
}

func (m *machine) hold(rt *rapid.T) {
	id, holder := m.name("v", rapid.IntRange(1, 3).Draw(rt, "version")), m.name("r", rapid.IntRange(1, 2).Draw(rt, "holder"))
	if rapid.Bool().Draw(rt, "release") {
		expect(rt, m.update(func(tx *Tx) error { return tx.ReleaseClaim(holder) }), fault.Unknown)
		for _, v := range m.versions {
			if v.holder == holder {
				v.holder = ""
			}
		}
		return
	}
	v, want := m.versions[id], fault.Unknown
	switch {
	case v == nil:
		want = fault.NotFound
	case v.holder != "" && v.holder != holder:
		want = fault.Conflict
	case v.holder == "":
		for _, other := range m.versions {
			if other.holder == holder {
				want = fault.Conflict
			}
		}
	}
	if expect(rt, m.update(func(tx *Tx) error { return tx.ClaimSpare(apikey.VersionID(id), holder) }), want) {
		v.holder = holder
	}
}

func (m *machine) lock(rt *rapid.T) {
	name, holder := m.name("place", rapid.IntRange(1, 2).Draw(rt, "place")), m.name("r", rapid.IntRange(1, 2).Draw(rt, "holder"))
	if rapid.Bool().Draw(rt, "release") {
		expect(rt, m.update(func(tx *Tx) error { return tx.ReleaseLocks(holder) }), fault.Unknown)
		for name, had := range m.locks {
			if had == holder {
				delete(m.locks, name)
			}
		}
		return
	}
	var ok bool
	err := m.update(func(tx *Tx) (err error) {
		ok, err = tx.TakeLock(name, holder)
		return err
	})
	expect(rt, err, fault.Unknown)
	had, taken := m.locks[name]
	if ok != (!taken || had == holder) {
		rt.Fatalf("%s takes %s: %v, and the model has %q", holder, name, ok, had)
	}
	if ok {
		m.locks[name] = holder
	}
}

// check compares every rotation, version and claim with the model.
func (m *machine) check(rt *rapid.T) {
	err := m.s.View(m.t.Context(), func(tx *Tx) error {
		for id, want := range m.rows {
			r, err := tx.Rotation(id)
			if err != nil {
				return err
			}
			journal, err := tx.Journal(id)
			if err != nil {
				return err
			}
			got := &modelRow{
				id: r.ID, key: string(r.Key), owner: r.LeaseOwner, status: r.Status, wake: r.WakeAt, until: r.LeaseUntil, fence: r.Fence,
				signals: r.Signals, lines: int64(len(journal)), ended: !r.Ended.IsZero(),
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(modelRow{})); diff != "" {
				rt.Fatalf("rotation differs (-model +store):\n%s", diff)
			}
			for i, e := range journal {
				if e.Seq != int64(i)+1 {
					rt.Fatalf("entry %d has number %d", i+1, e.Seq)
				}
			}
		}
		for id, want := range m.versions {
			v, err := tx.Version(apikey.VersionID(id))
			if err != nil {
				return err
			}
			if string(v.Key) != want.key || v.State != want.state || !v.Digest.Same(version("", "", "", want.digest).Digest) {
				rt.Fatalf("version %s differs: %+v, want %+v", id, v, want)
			}
		}
		claims, err := tx.Claims()
		if err != nil {
			return err
		}
		held := map[string]string{}
		for _, c := range claims {
			held[string(c.Version)] = c.Rotation
		}
		for id, v := range m.versions {
			if held[id] != v.holder {
				rt.Fatalf("version %s is held by %q, want %q", id, held[id], v.holder)
			}
		}
		return nil
	})
	if err != nil {
		rt.Fatal(err)
	}
}
