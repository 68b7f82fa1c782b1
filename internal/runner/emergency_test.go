package runner_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/provider"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// TestEmergencyCandidates: what an emergency deploys, in which order, and what it says when there is nothing.
func TestEmergencyCandidates(t *testing.T) {
	elsewhere, other := live, live
	elsewhere.Organization, other.Workspace = "another", "another"
	for _, c := range []struct {
		name    string
		spares  int // of the key
		backup  bool
		cut     bool
		say     func(spare bool) *provider.Verdict // about candidates
		heals   bool
		want    rotation.Status
		lent    bool
		says    string
		stopped bool // the compromised version was set inactive
	}{
		{name: "a spare", spares: 1, backup: true, want: rotation.Done, stopped: true},
		{name: "a spare of another organization", spares: 1, backup: true, say: onSpare(elsewhere), want: rotation.Done, lent: true, stopped: true},
		{name: "a backup of another workspace", backup: true, say: onBackup(other), want: rotation.Done, lent: true, stopped: true},
		{name: "a spare of another workspace", spares: 1, say: onSpare(other), want: rotation.Paused, says: `the provider says workspace "another"`},
		{name: "a backup of another organization", backup: true, say: onBackup(elsewhere), want: rotation.Paused, says: `the provider says organization "another"`},
		{name: "nobody knows for a while", spares: 1, say: onSpare(silent), heals: true, want: rotation.Done, says: "is unknown", stopped: true},
		{name: "nothing", want: rotation.Paused, says: "there is no spare, no usable previous version and no backup"},
		{name: "nothing, and told to cut", cut: true, want: rotation.Done, says: "requests fail", stopped: true},
		{name: "a dead backup, and told to cut", backup: true, cut: true, say: onBackup(dead), want: rotation.Done, says: "requests fail", stopped: true},
	} {
		if passedOver() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				if c.spares == 0 {
					w.setState(apikey.Spare, apikey.Rejected)
				}
				old := w.inState(key, apikey.Current)[0]
				lender := w.inState(backup, apikey.Current)[0]
				if c.say != nil {
					w.say(func(id string) *provider.Verdict {
						if id == old.ProviderID {
							return nil
						}
						return c.say(id != lender.ProviderID)
					})
				}
				w.emergent = true
				plan := w.plan(rotation.Emergency)
				plan.Cut = c.cut
				if !c.backup {
					plan.Backup = ""
				}
				var stood rotation.Row
				r := w.runner()
				id := w.begin(plan).ID
				for range 40 {
					next, err := r.Advance(context.Background(), id)
					if err != nil {
						t.Fatal(err)
					}
					if row := w.row(id); row.Note != "" {
						stood = row
					}
					if next.Status != rotation.Running {
						break
					}
					if c.heals && strings.Contains(stood.Note, c.says) {
						w.say(nil)
						c.says = ""
					}
					<-time.After(next.Wake.Sub(w.now()))
				}
				row := w.row(id)
				if row.Status != c.want || !strings.Contains(stood.Note, c.says) || row.Status != rotation.Done && !strings.Contains(row.Hint, "keywright key add prod-primary --spare") {
					t.Errorf("%s: %q %q", row.Status, stood.Note, row.Hint)
				}
				if w.issuer.accepts(old.Digest) == c.stopped {
					t.Errorf("the compromised version is accepted: %v", !c.stopped)
				}
				held := w.places.Place("a").Held().Digest()
				replaced := c.want == rotation.Done && !c.cut
				if replaced == (held == old.Digest) || (held == lender.Digest) != c.lent {
					t.Errorf("a holds %s; old %s, lender %s", held.Fingerprint(), old.Fingerprint(), lender.Fingerprint())
				}
				if v := w.version(old.ID); !v.Compromised || c.stopped != (v.State == apikey.Inactive) {
					t.Errorf("compromised version: %+v", v)
				}
			}, "a", "b")
		})
	}
}

func onSpare(v provider.Verdict) func(bool) *provider.Verdict {
	return func(spare bool) *provider.Verdict {
		if spare {
			return &v
		}
		return nil
	}
}

func onBackup(v provider.Verdict) func(bool) *provider.Verdict {
	return func(spare bool) *provider.Verdict {
		if !spare {
			return &v
		}
		return nil
	}
}

// TestEmergencyGetsTheSpareBack that an overtaken rotation had claimed and not yet written anywhere.
func TestEmergencyGetsTheSpareBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		spare := w.inState(key, apikey.Spare)[0]
		plan := w.plan(rotation.Manual)
		plan.Approvals = 1
		plan.Waves = plan.Waves[1:]
		w.until(w.begin(plan).ID, func() bool { return w.row(plan.ID).Status == rotation.Waiting })
		if v := w.version(spare.ID); v.State != apikey.Pending {
			t.Fatalf("claimed: %+v", v)
		}
		w.emergent = true
		emergency := w.plan(rotation.Emergency)
		emergency.ID = "r-2"
		row := w.begin(emergency)
		if v := w.version(spare.ID); v.State != apikey.Spare {
			t.Errorf("after the overtaking it is %s", v.State)
		}
		row = w.finish(row.ID, nil)
		if now := w.inState(key, apikey.Current); row.Status != rotation.Done || len(now) != 1 || now[0].ID != spare.ID {
			t.Errorf("ended %q with %+v", row.Status, now)
		}
		w.check(row)
	}, "a", "b")
}

// TestEmergencyWithoutAdminKey replaces everywhere, and does not claim that the old version is inactive.
func TestEmergencyWithoutAdminKey(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		old := w.inState(key, apikey.Current)[0]
		plan := w.plan(rotation.Emergency)
		plan.Admin = false
		w.emergent = true
		row := w.finish(w.begin(plan).ID, nil)
		if v := w.version(old.ID); row.Status != rotation.Done || v.State != apikey.Previous || !v.Compromised {
			t.Errorf("ended %q, the old version is %s, compromised %v", row.Status, v.State, v.Compromised)
		}
		w.check(row)
	}, "a", "b")
}

// TestBeginRefuses leaves nothing behind.
func TestBeginRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		plan := w.plan(rotation.Emergency)
		plan.Old = "v_unheard_of"
		if _, err := w.runner().Begin(context.Background(), plan); !fault.Is(err, fault.NotFound) {
			t.Errorf("emergency of an unknown version: %v", err)
		}
		err := w.store.View(context.Background(), func(tx *store.Tx) error {
			if _, running, err := tx.ActiveRotation(key); running || err != nil {
				t.Errorf("left behind: %v, %v", running, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		first := w.begin(w.plan(rotation.Manual))
		w.signal(first.ID, rotation.SignalCancel, rotation.SignalData{})
		w.finish(first.ID, nil)
		if again := w.begin(w.plan(rotation.Manual)); again.ID != first.ID+"-2" {
			t.Errorf("the id %q was given again as %q", first.ID, again.ID)
		}
	}, "a")
}
