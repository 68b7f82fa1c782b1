package store

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
)

// clock is a clock that tests move.
type clock struct{ n atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.n.Store(time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.n.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.n.Add(int64(d)) }

// suite is what every database must do. place gives the URL of an empty one.
func suite(t *testing.T, place func(testing.TB) string) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, func(testing.TB) string)
	}{
		{"reopen", testReopen},
		{"versions", testVersions},
		{"sealed", testSealed},
		{"claims", testClaims},
		{"places", testPlaces},
		{"rotations", testRotations},
		{"journal", testJournal},
		{"lease", testLease},
		{"park", testPark},
		{"claimers", testClaimers},
		{"wake-up", testWakeUp},
		{"takeover", testTakeover},
		{"serial", testSerial},
		{"first-open", testFirstOpen},
		{"atomic", testAtomic},
		{"hook", testHook},
		{"again", testAgain},
		{"audit", testAudit},
		{"incidents", testIncidents},
		{"view", testView},
		{"cancel", testCancel},
		{"model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, place) })
	}
}

func open(t testing.TB, url string, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, fault.HintOf(err))
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// fresh gives an empty store under a clock of its own.
func fresh(t testing.TB, place func(testing.TB) string) (*Store, *clock) {
	t.Helper()
	c := newClock()
	return open(t, place(t), Options{Now: c.now, Actor: "tester"}), c
}

func update(t testing.TB, s *Store, fn func(*Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t testing.TB, s *Store, fn func(*Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("got error %v of kind %v, want kind %v", err, fault.KindOf(err), kind)
	}
}

func wantSame(t testing.TB, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("difference (-want +got):\n%s", diff)
	}
}

func version(id string, key apikey.Name, state apikey.State, text string) apikey.Version {
	v := apikey.Version{ID: apikey.VersionID(id), Key: key, State: state, Environment: apikey.Production}
	if text != "" {
		v.Digest = sha256.Sum256([]byte(text))
	}
	return v
}

func row(id string, key apikey.Name, at time.Time) rotation.Row {
	return rotation.Row{
		ID: id, Key: key, Kind: rotation.Scheduled, Status: rotation.Running, Created: at, Updated: at, WakeAt: at,
		Plan: rotation.Plan{ID: id, Key: key, Kind: rotation.Scheduled, Process: "ordinary/1", Actor: "tester", Created: at, Soak: time.Hour},
	}
}

func create(t testing.TB, s *Store, rows ...rotation.Row) {
	t.Helper()
	update(t, s, func(tx *Tx) error {
		for _, r := range rows {
			if err := tx.CreateRotation(r); err != nil {
				return err
			}
		}
		return nil
	})
}

func get(t testing.TB, s *Store, id string) (r rotation.Row) {
	t.Helper()
	view(t, s, func(tx *Tx) (err error) {
		r, err = tx.Rotation(id)
		return err
	})
	return r
}

func testReopen(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	first, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := first.ID()
	if len(id) != 18 || id[:2] != "s_" {
		t.Errorf("id %q", id)
	}
	update(t, first, func(tx *Tx) error { return tx.SetMeta("a", "b") })
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	again := open(t, url, Options{})
	if again.ID() != id {
		t.Errorf("id changed from %q to %q", id, again.ID())
	}
	view(t, again, func(tx *Tx) error {
		value, ok, err := tx.Meta("a")
		if value != "b" || !ok {
			t.Errorf("meta %q, %v", value, ok)
		}
		if _, ok, _ := tx.Meta("none"); ok {
			t.Error("found what was never set")
		}
		return err
	})
}

func testVersions(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	at := c.now()
	full := apikey.Version{
		ID: "v_0000000000000001", Key: "prod-primary", State: apikey.Current, Compromised: true, Digest: sha256.Sum256([]byte("one")),
		ProviderID: "apikey_01", ProviderName: "zen-prod-primary-20261121", Binding: apikey.BindingProved, Environment: apikey.Production,
		Organization: "org", Workspace: "wrkspc_01", Principal: "user", Purpose: "serve 'quoted' \x01 ünïcode", CreatedBy: "someone", Adopted: true,
		Created: at.Add(-time.Hour), Added: at, Tested: at.Add(1), Activated: at.Add(2), Expires: at.Add(3), Changed: at.Add(4),
	}
	bare := version("v_0000000000000002", "prod-primary", apikey.Spare, "")
	bare.Added = at.Add(-time.Minute)
	other := version("v_0000000000000003", "staging", apikey.Spare, "three")
	update(t, s, func(tx *Tx) error { return errors.Join(tx.PutVersion(full), tx.PutVersion(bare), tx.PutVersion(other)) })
	view(t, s, func(tx *Tx) error {
		got, err := tx.Version(full.ID)
		wantSame(t, got, full)
		list, err2 := tx.Versions("prod-primary")
		wantSame(t, list, []apikey.Version{bare, full})
		everything, err3 := tx.Versions("")
		if len(everything) != 3 || !everything[2].Added.Equal(at) {
			t.Errorf("versions %+v", everything)
		}
		found, ok, err4 := tx.VersionByDigest(full.Digest)
		if !ok || found.ID != full.ID {
			t.Errorf("by digest: %v, %v", found.ID, ok)
		}
		if _, ok, _ := tx.VersionByDigest(apikey.Digest{}); ok {
			t.Error("the unknown digest found a version")
		}
		_, missing := tx.Version("v_none")
		wantKind(t, missing, fault.NotFound)
		return errors.Join(err, err2, err3, err4)
	})

	refused := func(name string, kind fault.Kind, v apikey.Version) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.PutVersion(v) }), kind)
		})
	}
	refused("no id", fault.Invalid, version("", "staging", apikey.Spare, ""))
	refused("no state", fault.Invalid, version("v_x", "staging", "", ""))
	refused("bad key", fault.Invalid, version("v_x", "Bad Key", apikey.Spare, ""))
	refused("same value", fault.Conflict, version("v_x", "staging", apikey.Spare, "one"))
	refused("same value later", fault.Conflict, version("v_0000000000000002", "prod-primary", apikey.Spare, "one"))
	refused("second current", fault.Conflict, version("v_0000000000000002", "prod-primary", apikey.Current, ""))
	refused("other key", fault.Conflict, version("v_0000000000000003", "prod-secondary", apikey.Spare, "three"))
	refused("other value", fault.Conflict, version("v_0000000000000003", "staging", apikey.Spare, "four"))

	// The flip: old first.
	update(t, s, func(tx *Tx) error {
		full.State = apikey.Previous
		bare.State, bare.Digest = apikey.Current, sha256.Sum256([]byte("two"))
		return errors.Join(tx.PutVersion(full), tx.PutVersion(bare))
	})
	view(t, s, func(tx *Tx) error {
		list, err := tx.Versions("prod-primary")
		wantSame(t, list, []apikey.Version{bare, full})
		return err
	})

	// A forgotten value may come again, a compromised one may not be forgotten.
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.Forget(full.ID) }), fault.Conflict)
	again := version("v_0000000000000004", "staging", apikey.Spare, "three")
	update(t, s, func(tx *Tx) error { return errors.Join(tx.Forget(other.ID), tx.PutVersion(again)) })
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.PutVersion(other) }), fault.Conflict)
	view(t, s, func(tx *Tx) error {
		list, err := tx.Versions("staging")
		if len(list) != 1 || list[0].ID != again.ID {
			t.Errorf("versions %+v", list)
		}
		_, err2 := tx.Version(other.ID)
		return errors.Join(err, err2)
	})

	slot := Slot{Key: "staging", Organization: "org", Workspace: "wrkspc_01", ProviderURL: "https://api.example", Pinned: at, PinnedBy: "someone"}
	update(t, s, func(tx *Tx) error { return errors.Join(tx.PutSlot(Slot{Key: "staging"}), tx.PutSlot(slot)) })
	view(t, s, func(tx *Tx) error {
		got, ok, err := tx.Slot("staging")
		wantSame(t, got, slot)
		_, none, err2 := tx.Slot("prod-primary")
		if !ok || none {
			t.Errorf("slots: %v, %v", ok, none)
		}
		return errors.Join(err, err2)
	})
}

func testSealed(t *testing.T, place func(testing.TB) string) {
	s, _ := fresh(t, place)
	sealed := secret.Sealed{0, 1, 2, 0xff, 0xfe, 0, 'x'}
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.PutVersion(version("v_1", "k", apikey.Spare, "1")), tx.PutVersion(version("v_2", "k", apikey.Spare, "2")),
			tx.PutSealed("v_2", secret.Sealed("old"), 1), tx.PutSealed("v_2", sealed, 7), tx.PutSealed("v_1", sealed, 7))
	})
	view(t, s, func(tx *Tx) error {
		got, generation, err := tx.Sealed("v_2")
		wantSame(t, got, sealed)
		if generation != 7 {
			t.Errorf("generation %d", generation)
		}
		ids, err2 := tx.SealedIDs()
		wantSame(t, ids, []apikey.VersionID{"v_1", "v_2"})
		return errors.Join(err, err2)
	})
	update(t, s, func(tx *Tx) error { return errors.Join(tx.DropSealed("v_1"), tx.DropSealed("v_1"), tx.Forget("v_2")) })
	view(t, s, func(tx *Tx) error {
		for _, id := range []apikey.VersionID{"v_1", "v_2"} {
			_, _, err := tx.Sealed(id)
			wantKind(t, err, fault.NotFound)
		}
		return nil
	})
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.PutSealed("v_none", sealed, 1) }), fault.NotFound)
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.PutSealed("v_1", nil, 1) }), fault.Invalid)
}

func testClaims(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	leaked := version("v_3", "k", apikey.Spare, "3")
	leaked.Compromised = true
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.PutVersion(version("v_1", "k", apikey.Spare, "1")), tx.PutVersion(version("v_2", "k", apikey.Spare, "2")),
			tx.PutVersion(leaked), tx.ClaimSpare("v_1", "r-1"), tx.ClaimSpare("v_1", "r-1"))
	})
	for name, c := range map[string]struct {
		version  apikey.VersionID
		rotation string
		kind     fault.Kind
	}{
		"held by another":  {"v_1", "r-2", fault.Conflict},
		"holds another":    {"v_2", "r-1", fault.Conflict},
		"compromised":      {"v_3", "r-3", fault.Conflict},
		"no such version":  {"v_9", "r-3", fault.NotFound},
		"no such rotation": {"v_2", "", fault.Invalid},
	} {
		err := s.Update(t.Context(), func(tx *Tx) error { return tx.ClaimSpare(c.version, c.rotation) })
		if !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.Forget("v_1") }), fault.Conflict)
	view(t, s, func(tx *Tx) error {
		list, err := tx.Claims()
		wantSame(t, list, []SpareClaim{{Version: "v_1", Rotation: "r-1", At: c.now()}})
		id, ok, err2 := tx.Claim("r-1")
		_, none, err3 := tx.Claim("r-2")
		if id != "v_1" || !ok || none {
			t.Errorf("claims: %v %v %v", id, ok, none)
		}
		return errors.Join(err, err2, err3)
	})
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.ReleaseClaim("r-1"), tx.ReleaseClaim("r-1"), tx.ClaimSpare("v_1", "r-2"))
	})
}

func testPlaces(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	at := c.now()
	update(t, s, func(tx *Tx) error {
		return errors.Join(
			tx.PutVersion(version("v_1", "k", apikey.Current, "1")), tx.PutVersion(version("v_2", "other", apikey.Current, "2")),
			tx.SetDesired(Desired{Location: "b", Key: "k", Version: "v_2", Rotation: "r-0"}),
			tx.SetDesired(Desired{Location: "b", Key: "k", Version: "v_1", Rotation: "r-1"}),
			tx.SetDesired(Desired{Location: "a", Key: "other", Version: "v_2", At: at.Add(time.Hour)}),
			tx.SetDesired(Desired{Location: "c", Key: "k", Version: "v_1"}), tx.DropDesired("c"))
	})
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.SetDesired(Desired{Location: "a", Key: "k", Version: "v_9"}) }), fault.NotFound)
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.SetDesired(Desired{Key: "k", Version: "v_1"}) }), fault.Invalid)
	a := Desired{Location: "a", Key: "other", Version: "v_2", At: at.Add(time.Hour)}
	b := Desired{Location: "b", Key: "k", Version: "v_1", Rotation: "r-1", At: at}
	view(t, s, func(tx *Tx) error {
		everything, err := tx.Desired("")
		wantSame(t, everything, []Desired{a, b})
		one, err2 := tx.Desired("k")
		wantSame(t, one, []Desired{b})
		return errors.Join(err, err2)
	})

	seen := Observation{Location: "a", At: at, Holding: json.RawMessage(`{"how": "read back"}`), Confirmation: json.RawMessage(`[1]`)}
	failed := Observation{Location: "b", At: at, Err: &rotation.Fault{Kind: "unavailable", Message: "m", Hint: "h", RetryAfter: time.Second}}
	older := Observation{Location: "a", At: at.Add(-1)}
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.PutObservation(failed), tx.PutObservation(older), tx.PutObservation(seen), tx.PutObservation(older))
	})
	view(t, s, func(tx *Tx) error {
		list, err := tx.Observations()
		wantSame(t, list, []Observation{seen, failed})
		return err
	})
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error {
		return tx.PutObservation(Observation{Location: "a", Holding: json.RawMessage(`{`)})
	}), fault.Invalid)

	first := Signature{Location: "wiki", Fingerprint: "kf_0123456789abcdef", By: "someone", UID: 1000, At: at, Note: "changed", Rotation: "r-1"}
	second := first
	second.At = at.Add(1)
	update(t, s, func(tx *Tx) error { return errors.Join(tx.Sign(first), tx.Sign(first), tx.Sign(second)) })
	view(t, s, func(tx *Tx) error {
		list, err := tx.Signatures("wiki")
		wantSame(t, list, []Signature{second, first})
		everything, err2 := tx.Signatures("")
		none, err3 := tx.Signatures("a")
		if len(everything) != 2 || len(none) != 0 {
			t.Errorf("signatures: %v, %v", everything, none)
		}
		return errors.Join(err, err2, err3)
	})

	take := func(name, holder string, want bool) {
		t.Helper()
		update(t, s, func(tx *Tx) error {
			ok, err := tx.TakeLock(name, holder)
			if ok != want {
				t.Errorf("%s takes %s: %v", holder, name, ok)
			}
			return err
		})
	}
	take("file:/etc/x", "r-1", true)
	take("file:/etc/x", "r-1", true)
	take("file:/etc/x", "r-2", false)
	take("file:/etc/y", "r-1", true)
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.ReleaseLock("file:/etc/x", "r-2"), tx.ReleaseLock("file:/etc/y", "r-1"))
	})
	view(t, s, func(tx *Tx) error {
		list, err := tx.Locks()
		wantSame(t, list, []Lock{{Name: "file:/etc/x", Holder: "r-1", At: at}})
		return err
	})
	update(t, s, func(tx *Tx) error { return tx.ReleaseLocks("r-1") })
	take("file:/etc/x", "r-2", true)
}

func testIncidents(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	one := Incident{ID: "inc-1", Key: "k", Rotation: "r-1", Opened: c.now(), Title: "leaked", Status: "open"}
	two := Incident{ID: "inc-2", Key: "k", Opened: c.now().Add(1), Title: "leaked again", Status: "open"}
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.OpenIncident(one), tx.OpenIncident(two), tx.CloseIncident("inc-2", "false alarm"))
	})
	two.Closed, two.Status = c.now(), "false alarm"
	view(t, s, func(tx *Tx) error {
		everything, err := tx.Incidents(false)
		wantSame(t, everything, []Incident{two, one})
		open, err2 := tx.Incidents(true)
		wantSame(t, open, []Incident{one})
		return errors.Join(err, err2)
	})
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.OpenIncident(one) }), fault.Conflict)
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.CloseIncident("inc-2", "") }), fault.Conflict)
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.CloseIncident("inc-9", "") }), fault.NotFound)
}

func testAudit(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	view(t, s, func(tx *Tx) error {
		_, ok, err := tx.LastAudit()
		if ok {
			t.Error("an empty record has a last entry")
		}
		return err
	})
	update(t, s, func(tx *Tx) error {
		return tx.Record(event.Event{Type: event.RotationStarted, Key: "k", Fields: map[string]string{"a": "b"}}, event.Event{Type: event.RotationStep, Actor: "other"})
	})
	lost := errors.New("lost")
	if err := s.Update(t.Context(), func(tx *Tx) error { return errors.Join(tx.Record(event.Event{Type: event.RotationStep}), lost) }); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	update(t, s, func(tx *Tx) error {
		return tx.Record(event.Event{Type: event.RotationEnded, At: c.now().Add(time.Hour)})
	})
	view(t, s, func(tx *Tx) error {
		list, err := tx.AuditEntries(1, 0)
		if len(list) != 3 {
			t.Fatalf("%d entries", len(list))
		}
		if e := list[0].Event; e.Actor != "tester" || !e.At.Equal(c.now().Truncate(time.Microsecond)) || e.Fields["a"] != "b" || list[1].Event.Actor != "other" {
			t.Errorf("entries %+v", list)
		}
		some, err2 := tx.AuditEntries(2, 1)
		wantSame(t, some, list[1:2])
		last, ok, err3 := tx.LastAudit()
		if !ok {
			t.Error("no last entry")
		}
		wantSame(t, last, list[2])
		return errors.Join(err, err2, err3)
	})
	checkChain(t, s)
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.Record(event.Event{}) }), fault.Invalid)

	// An entry that somebody changed is found and does not hide the next ones. Nothing is put behind it.
	change := func(seq int64) {
		update(t, s, func(tx *Tx) error {
			_, err := tx.exec("change", `UPDATE audit SET entry = '{}' WHERE seq = $1`, seq)
			return err
		})
	}
	change(2)
	view(t, s, func(tx *Tx) error {
		report, err := verifier(t, s).Verify(tx.Audit())
		wantKind(t, errors.Join(err, report.Err()), fault.Corrupt)
		if report.Last != 3 {
			t.Errorf("the verifier came to entry %d of 3", report.Last)
		}
		_, err = tx.AuditEntries(1, 0)
		wantKind(t, err, fault.Corrupt)
		return nil
	})
	change(3)
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.Record(event.Event{Type: event.RotationStep}) }), fault.Corrupt)

	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.PutCheckpoint(json.RawMessage(`{"n": 1}`)), tx.PutCheckpoint(json.RawMessage(`{"n": 2}`)))
	})
	view(t, s, func(tx *Tx) error {
		list, err := tx.Checkpoints()
		wantSame(t, list, []json.RawMessage{json.RawMessage(`{"n": 1}`), json.RawMessage(`{"n": 2}`)})
		return err
	})
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.PutCheckpoint(nil) }), fault.Invalid)
}

// testSerial has Updates that read and write what others write: none may be lost, whatever store or process they come from.
func testSerial(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	stores := []*Store{open(t, url, Options{}), open(t, url, Options{})}
	const workers, each = 4, 25
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				err := stores[w%2].Update(t.Context(), func(tx *Tx) error {
					text, _, err := tx.Meta("count")
					if err != nil {
						return err
					}
					n := 0
					if text != "" {
						if _, err := fmt.Sscan(text, &n); err != nil {
							return err
						}
					}
					return errors.Join(tx.SetMeta("count", fmt.Sprint(n+1)), tx.Record(event.Event{Type: event.RotationStep, Text: fmt.Sprint(n + 1)}))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	view(t, stores[0], func(tx *Tx) error {
		text, _, err := tx.Meta("count")
		if text != fmt.Sprint(workers*each) {
			t.Errorf("count %s, want %d", text, workers*each)
		}
		list, err2 := tx.AuditEntries(0, 0)
		for i, e := range list {
			if e.Event.Text != fmt.Sprint(i+1) {
				t.Fatalf("entry %d tells of %s", i+1, e.Event.Text)
			}
		}
		return errors.Join(err, err2)
	})
	checkChain(t, stores[0])
}

// testFirstOpen has several processes find the same empty place.
func testFirstOpen(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	var wg sync.WaitGroup
	ids := make([]string, 4)
	for i := range ids {
		wg.Go(func() {
			s, err := Open(t.Context(), url, Options{})
			if err != nil {
				t.Errorf("%v (hint: %s)", err, fault.HintOf(err))
				return
			}
			ids[i] = s.ID()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Errorf("ids differ: %v", ids)
		}
	}
}

func testAtomic(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	stop := errors.New("stop")
	err := s.Update(t.Context(), func(tx *Tx) error {
		return errors.Join(tx.CreateRotation(row("r-1", "k", c.now())), tx.SetMeta("a", "b"), stop)
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	view(t, s, func(tx *Tx) error {
		_, err := tx.Rotation("r-1")
		wantKind(t, err, fault.NotFound)
		_, ok, err := tx.Meta("a")
		if ok {
			t.Error("half of a failed Update was kept")
		}
		return err
	})
	// One View sees one state, whatever is written meanwhile.
	update(t, s, func(tx *Tx) error { return tx.SetMeta("a", "before") })
	view(t, s, func(tx *Tx) error {
		first, _, err := tx.Meta("a")
		update(t, s, func(tx *Tx) error { return tx.SetMeta("a", "after") })
		second, _, err2 := tx.Meta("a")
		if first != "before" || second != "before" {
			t.Errorf("one view saw %q and %q", first, second)
		}
		return errors.Join(err, err2)
	})
}

func testHook(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	var at string
	var calls []string
	crash := errors.New("crash")
	open(t, url, Options{}) // so that the first writes are done
	s := open(t, url, Options{Hook: func(op string) error {
		calls = append(calls, op)
		if op == at {
			return crash
		}
		return nil
	}})
	set := func(value string) error {
		return s.Update(t.Context(), func(tx *Tx) error { return tx.SetMeta("a", value) })
	}
	want := func(value string) {
		t.Helper()
		view(t, s, func(tx *Tx) error {
			got, _, err := tx.Meta("a")
			if got != value {
				t.Errorf("got %q, want %q", got, value)
			}
			return err
		})
	}
	if err := set("1"); err != nil {
		t.Fatal(err)
	}
	wantSame(t, calls, []string{HookBefore, HookAfter})
	at = HookBefore
	if err := set("2"); !errors.Is(err, crash) {
		t.Fatal(err)
	}
	want("1")
	at = HookAfter
	if err := set("3"); !errors.Is(err, crash) {
		t.Fatal(err)
	}
	want("3")
}

// testAgain has the database refuse a transaction for the sake of another one.
func testAgain(t *testing.T, place func(testing.TB) string) {
	s, _ := fresh(t, place)
	refusal := fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: "40001", Message: "could not serialize access"})
	for _, write := range []bool{true, false} {
		run := s.View
		if write {
			run = s.Update
		}
		calls := 0
		err := run(t.Context(), func(tx *Tx) error {
			if calls++; calls < 3 {
				return s.fail(t.Context(), refusal, "do it")
			}
			return nil
		})
		if err != nil || calls != 3 {
			t.Errorf("%d calls, %v", calls, err)
		}
		calls = 0
		err = run(t.Context(), func(tx *Tx) error {
			calls++
			return s.fail(t.Context(), refusal, "do it")
		})
		wantKind(t, err, fault.Unavailable)
		if calls != maxAttempts {
			t.Errorf("gave up after %d attempts, want %d", calls, maxAttempts)
		}
	}
}

func testView(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	create(t, s, row("r-1", "k", c.now()))
	for name, write := range map[string]func(*Tx) error{
		"set":    func(tx *Tx) error { return tx.SetMeta("a", "b") },
		"append": func(tx *Tx) error { return tx.Append("r-1", 0, rotation.Entry{Type: rotation.Intended}) },
		"record": func(tx *Tx) error { return tx.Record(event.Event{Type: event.RotationStep}) },
	} {
		if err := s.View(t.Context(), write); !errors.Is(err, errView) {
			t.Errorf("%s in a view: %v", name, err)
		}
	}
}

func testCancel(t *testing.T, place func(testing.TB) string) {
	s, _ := fresh(t, place)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(tx *Tx) error {
		err := tx.SetMeta("a", "b")
		cancel()
		return err
	})
	// The commit may have been refused before or after it was asked for; it must not be called fine, and nothing may be half.
	if !fault.Is(err, fault.Canceled) && !fault.Is(err, fault.Indeterminate) {
		t.Errorf("got %v of kind %v", err, fault.KindOf(err))
	}
	wantKind(t, s.Update(ctx, func(*Tx) error { return nil }), fault.Canceled)
	wantKind(t, s.View(ctx, func(*Tx) error { return nil }), fault.Canceled)
	update(t, s, func(tx *Tx) error { return tx.SetMeta("a", "c") })
}

// checkChain verifies a whole record.
func checkChain(t testing.TB, s *Store) {
	t.Helper()
	view(t, s, func(tx *Tx) error {
		report, err := verifier(t, s).Verify(tx.Audit())
		return errors.Join(err, report.Err())
	})
}

// verifier knows a public key that signed nothing: the chain alone is what the store answers for.
func verifier(t testing.TB, s *Store) audit.Verifier {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Verifier{Store: s.ID(), Keys: []ed25519.PublicKey{public}}
}
