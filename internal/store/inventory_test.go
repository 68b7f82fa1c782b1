package store

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/secret"
)

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
	err := s.Update(t.Context(), func(tx *Tx) error { return tx.PutVersion(version("v_x", "staging", apikey.Spare, "one")) })
	if err == nil || !strings.Contains(err.Error(), string(full.ID)) || fault.HintOf(err) == "" {
		t.Errorf("%v does not name the version with the same value", err)
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

// testObservationMerge has each kind of look follow another, and asks what is known then.
func testObservationMerge(t *testing.T, s *Store, at time.Time) {
	var (
		held, other       = json.RawMessage(`{"digest": "1"}`), json.RawMessage(`{"digest": "2"}`)
		taken, takenAgain = json.RawMessage(`{"taken": 1}`), json.RawMessage(`{"taken": 2}`)
		broken            = &rotation.Fault{Kind: "unavailable", Message: "m"}
		both              = Observation{Holding: held, Confirmation: taken}
	)
	for _, c := range []struct {
		name                 string
		before, after, known Observation
	}{
		{"confirmed after a look", Observation{Holding: held}, Observation{Confirmation: taken}, both},
		{"confirmed again", both, Observation{Confirmation: takenAgain}, Observation{Holding: held, Confirmation: takenAgain}},
		{"the same is held", both, Observation{Holding: held}, both},
		{"another is held, so consumers may not have it", both, Observation{Holding: other}, Observation{Holding: other}},
		{"another is held and confirmed", both, Observation{Holding: other, Confirmation: takenAgain}, Observation{Holding: other, Confirmation: takenAgain}},
		{"confirmed first", Observation{Confirmation: taken}, Observation{Holding: held}, Observation{Holding: held}},
		{"nothing said", both, Observation{}, both},
		{"a look that failed", both, Observation{Err: broken}, Observation{Err: broken}},
		{"a look that went well again", Observation{Err: broken}, Observation{Holding: held}, Observation{Holding: held}},
	} {
		update(t, s, func(tx *Tx) error {
			c.before.Location, c.before.At = "merge", at
			c.after.Location, c.after.At = "merge", at.Add(1)
			return errors.Join(tx.DropDesired("merge"), tx.PutObservation(c.before), tx.PutObservation(c.after))
		})
		view(t, s, func(tx *Tx) error {
			list, err := tx.Observations()
			c.known.Location, c.known.At = "merge", at.Add(1)
			if i := slices.IndexFunc(list, func(o Observation) bool { return o.Location == "merge" }); i < 0 {
				t.Errorf("%s: nothing is kept", c.name)
			} else if diff := cmp.Diff(c.known, list[i]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
			return err
		})
	}
	update(t, s, func(tx *Tx) error { return tx.DropDesired("merge") })
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
	testObservationMerge(t, s, at)

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

func testDeliveries(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	one := Delivery{Mark: "m1", At: c.now(), Channel: "webhook", Key: "k", Rotation: "r-1", Kind: "manual", What: "started"}
	two := Delivery{Mark: "m1", At: c.now().Add(time.Hour), Channel: "webhook", Key: "k", Rotation: "r-1", Kind: "manual", What: "started"}
	other := Delivery{Mark: "m2", At: c.now(), Channel: "command", Kind: "incident", What: "refused"}
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.PutDelivery(two), tx.PutDelivery(one), tx.PutDelivery(one), tx.PutDelivery(other))
	})
	view(t, s, func(tx *Tx) error {
		list, err := tx.Deliveries("r-1")
		wantSame(t, list, []Delivery{one, two})
		last, err2 := tx.Delivered("m1")
		never, err3 := tx.Delivered("m3")
		if !last.Equal(two.At) || !never.IsZero() {
			t.Errorf("last %v, never %v", last, never)
		}
		return errors.Join(err, err2, err3)
	})
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.PutDelivery(Delivery{Mark: "m"}) }), fault.Invalid)
}

func testEnds(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	end := func(id string, key apikey.Name, status rotation.Status) RotationEnd {
		t.Helper()
		created := c.now()
		update(t, s, func(tx *Tx) error {
			return tx.CreateRotation(rotation.Row{ID: id, Key: key, Kind: rotation.Manual, Status: rotation.Running, Created: created, Plan: rotation.Plan{ID: id, Key: key}})
		})
		c.advance(time.Minute)
		update(t, s, func(tx *Tx) error { return tx.SetStatus(id, 0, SetStatus{Status: status}) })
		return RotationEnd{ID: id, Key: key, Kind: rotation.Manual, Status: status, Created: created, Ended: c.now()}
	}
	end("r-2", "b", rotation.Done)
	last := end("r-1", "b", rotation.RolledBack)
	first := end("r-3", "a", rotation.Failed)
	update(t, s, func(tx *Tx) error {
		return tx.CreateRotation(rotation.Row{ID: "r-4", Key: "a", Kind: rotation.Manual, Status: rotation.Running, Plan: rotation.Plan{ID: "r-4", Key: "a"}})
	})
	view(t, s, func(tx *Tx) error {
		list, err := tx.RotationEnds()
		wantSame(t, list, []RotationEnd{first, last})
		return err
	})
}
