package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

const ttl = 5 * time.Second

func testRotations(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	at := c.now()
	one := row("r-1", "k", at)
	one.Note, one.Hint = "n", "h"
	one.Plan.Places = []rotation.Place{{Name: "a", Kind: "env-file", Config: json.RawMessage(`{"path":"/x"}`)}}
	create(t, s, one)
	wantSame(t, get(t, s, "r-1"), one)

	err := s.Update(t.Context(), func(tx *Tx) error { return tx.CreateRotation(row("r-2", "k", at)) })
	wantKind(t, err, fault.Conflict)
	if hint := fault.HintOf(err); !strings.Contains(hint, "r-1") {
		t.Errorf("the hint %q does not name the running rotation", hint)
	}
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.CreateRotation(row("r-1", "other", at)) }), fault.Conflict)
	done := row("r-9", "other", at)
	done.Status = rotation.Done
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.CreateRotation(done) }), fault.Invalid)

	later := row("r-2", "k", at.Add(time.Hour))
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.SetStatus("r-1", 0, SetStatus{Status: rotation.Failed, Note: "no"}), tx.CreateRotation(later),
			tx.CreateRotation(row("r-3", "other", at.Add(time.Minute))))
	})
	one.Status, one.Note, one.Hint, one.Ended = rotation.Failed, "no", "", at
	wantSame(t, get(t, s, "r-1"), one)
	ids := func(f RotationFilter) (list []string) {
		view(t, s, func(tx *Tx) error {
			rows, err := tx.Rotations(f)
			for _, r := range rows {
				list = append(list, r.ID)
			}
			return err
		})
		return list
	}
	wantSame(t, ids(RotationFilter{}), []string{"r-2", "r-3", "r-1"})
	wantSame(t, ids(RotationFilter{Key: "k"}), []string{"r-2", "r-1"})
	wantSame(t, ids(RotationFilter{Key: "k", Active: true}), []string{"r-2"})
	wantSame(t, ids(RotationFilter{Active: true, Limit: 1}), []string{"r-2"})
	view(t, s, func(tx *Tx) error {
		active, ok, err := tx.ActiveRotation("k")
		_, none, err2 := tx.ActiveRotation("none")
		if active.ID != "r-2" || !ok || none {
			t.Errorf("active: %v %v %v", active.ID, ok, none)
		}
		return errors.Join(err, err2)
	})
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.SetStatus("r-1", 0, SetStatus{Status: rotation.Running}) }), fault.Conflict)
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.Signal("r-1", rotation.Entry{Signal: rotation.SignalPause}) }), fault.Conflict)
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.Supersede("r-1", "") }), fault.Conflict)
	wantKind(t, s.Update(t.Context(), func(tx *Tx) error { return tx.Supersede("r-none", "") }), fault.NotFound)
}

func testJournal(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	create(t, s, row("r-1", "k", c.now()))
	r, err := s.ClaimID(t.Context(), "r-1", "a", ttl)
	if err != nil {
		t.Fatal(err)
	}
	missed := &rotation.Fault{Kind: "indeterminate", Message: "reply lost", Hint: "look", RetryAfter: time.Minute}
	update(t, s, func(tx *Tx) error {
		return tx.Append("r-1", r.Fence, rotation.Entry{Type: rotation.Intended, Effect: "put/a"},
			rotation.Entry{Type: rotation.Made, Effect: "put/a", Data: json.RawMessage(`{"b": [1]}`), At: c.now().Add(time.Second), Seq: 99, Fence: 99})
	})
	update(t, s, func(tx *Tx) error {
		return errors.Join(tx.Append("r-1", r.Fence),
			tx.Append("r-1", r.Fence, rotation.Entry{Type: rotation.Missed, Effect: "put/b", Fault: missed}),
			tx.Signal("r-1", rotation.Entry{Signal: rotation.SignalApprove, Actor: "b", Data: json.RawMessage(`{"uid":7}`)}))
	})
	want := []rotation.Entry{
		{Seq: 1, At: c.now(), Type: rotation.Intended, Effect: "put/a", Fence: 1},
		{Seq: 2, At: c.now().Add(time.Second), Type: rotation.Made, Effect: "put/a", Fence: 1, Data: json.RawMessage(`{"b": [1]}`)},
		{Seq: 3, At: c.now(), Type: rotation.Missed, Effect: "put/b", Fence: 1, Fault: missed},
		{Seq: 4, At: c.now(), Type: rotation.Signalled, Fence: 1, Signal: rotation.SignalApprove, Actor: "b", Data: json.RawMessage(`{"uid":7}`)},
	}
	view(t, s, func(tx *Tx) error {
		got, err := tx.Journal("r-1")
		wantSame(t, got, want)
		rest, err2 := tx.JournalAfter("r-1", 2)
		wantSame(t, rest, want[2:])
		return errors.Join(err, err2)
	})
	for name, c := range map[string]struct {
		kind  fault.Kind
		write func(*Tx) error
	}{
		"old fence":       {fault.Conflict, func(tx *Tx) error { return tx.Append("r-1", 0, rotation.Entry{Type: rotation.Made}) }},
		"old fence alone": {fault.Conflict, func(tx *Tx) error { return tx.Append("r-1", 0) }},
		"old status":      {fault.Conflict, func(tx *Tx) error { return tx.SetStatus("r-1", 0, SetStatus{Status: rotation.Paused}) }},
		"no rotation":     {fault.NotFound, func(tx *Tx) error { return tx.Append("r-9", 1, rotation.Entry{Type: rotation.Made}) }},
		"no such signal":  {fault.NotFound, func(tx *Tx) error { return tx.Signal("r-9", rotation.Entry{Signal: rotation.SignalWake}) }},
		"no type":         {fault.Invalid, func(tx *Tx) error { return tx.Append("r-1", 1, rotation.Entry{}) }},
		"no signal":       {fault.Invalid, func(tx *Tx) error { return tx.Signal("r-1", rotation.Entry{}) }},
		"no JSON": {fault.Invalid, func(tx *Tx) error {
			return tx.Append("r-1", 1, rotation.Entry{Type: rotation.Made, Data: json.RawMessage(`{`)})
		}},
	} {
		err := s.Update(t.Context(), c.write)
		if !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, "old") && !strings.Contains(err.Error(), "lease lost") {
			t.Errorf("%s: %v does not say that the lease is lost", name, err)
		}
	}
	if r := get(t, s, "r-1"); r.Signals != 1 || !r.WakeAt.Equal(c.now()) {
		t.Errorf("row %+v", r)
	}
}

func testLease(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	ctx := t.Context()
	emergency := row("r-3", "c", c.now())
	emergency.Kind = rotation.Emergency
	sleeping := row("r-4", "d", c.now())
	sleeping.WakeAt = c.now().Add(time.Hour)
	overdue := row("r-2", "b", c.now())
	overdue.WakeAt = c.now().Add(-time.Second)
	create(t, s, row("r-1", "a", c.now()), overdue, emergency, sleeping)

	var order []string
	for range 10 {
		r, ok, err := s.Claim(ctx, "one", ttl)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if r.Fence != 1 || r.LeaseOwner != "one" || !r.LeaseUntil.Equal(c.now().Add(ttl)) {
			t.Errorf("claimed %+v", r)
		}
		order = append(order, r.ID)
	}
	wantSame(t, order, []string{"r-3", "r-2", "r-1"})

	_, err := s.ClaimID(ctx, "r-1", "two", ttl)
	wantKind(t, err, fault.Conflict)
	if fault.RetryAfterOf(err) != ttl {
		t.Errorf("retry after %v", fault.RetryAfterOf(err))
	}
	again, err := s.ClaimID(ctx, "r-1", "one", ttl)
	if err != nil || again.Fence != 2 {
		t.Errorf("own lease: fence %d, %v", again.Fence, err)
	}
	early, err := s.ClaimID(ctx, "r-4", "one", ttl)
	if err != nil || !early.WakeAt.Equal(c.now()) {
		t.Errorf("early: %+v, %v", early, err)
	}
	_, err = s.ClaimID(ctx, "r-9", "one", ttl)
	wantKind(t, err, fault.NotFound)

	// A renewed lease holds, the others run out.
	c.advance(ttl - 1)
	if err := s.Renew(ctx, "r-1", 2, ttl); err != nil {
		t.Error(err)
	}
	wantKind(t, s.Renew(ctx, "r-1", 1, ttl), fault.Conflict)
	wantKind(t, s.Renew(ctx, "r-9", 1, ttl), fault.NotFound)
	if _, ok, err := s.Claim(ctx, "two", ttl); ok || err != nil {
		t.Errorf("claimed a live lease: %v", err)
	}
	at, ok, err := s.NextWake(ctx)
	if err != nil || !ok || !at.Equal(c.now().Add(1)) {
		t.Errorf("next wake %v, %v, %v", at, ok, err)
	}
	c.advance(1)
	taken := map[string]bool{}
	for range 10 {
		r, ok, err := s.Claim(ctx, "two", ttl)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		taken[r.ID] = true
	}
	wantSame(t, taken, map[string]bool{"r-2": true, "r-3": true, "r-4": true})
	fence, signals, status, err := s.Fence(ctx, "r-3")
	if fence != 2 || signals != 0 || status != rotation.Running || err != nil {
		t.Errorf("fence %d, %d, %s, %v", fence, signals, status, err)
	}
	_, _, _, err = s.Fence(ctx, "r-9")
	wantKind(t, err, fault.NotFound)

	// The clock is set back by a day: the leases given before cannot hold for so long.
	c.advance(-24 * time.Hour)
	r, err := s.ClaimID(ctx, "r-2", "three", ttl)
	if err != nil || r.Fence != 3 {
		t.Errorf("after the clock was set back: %v", err)
	}
	if at, ok, err := s.NextWake(ctx); err != nil || !ok || !at.Equal(c.now().Add(ttl)) {
		t.Errorf("next wake %v, %v, %v", at, ok, err)
	}
	c.advance(24 * time.Hour)
	if r, ok, err := s.Claim(ctx, "two", ttl); !ok || err != nil || r.ID != "r-2" {
		t.Errorf("the clock is right again: %+v, %v, %v", r.ID, ok, err)
	}

	for name, err := range map[string]error{
		"no owner":   func() error { _, err := s.ClaimID(ctx, "r-1", "", ttl); return err }(),
		"no time":    func() error { _, _, err := s.Claim(ctx, "two", 0); return err }(),
		"too long":   func() error { _, _, err := s.Claim(ctx, "two", MaxLease+1); return err }(),
		"renew long": s.Renew(ctx, "r-1", 2, MaxLease+1),
	} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}

	n, err := s.FreeLeases(ctx)
	if s.dialect == postgreSQL {
		wantKind(t, err, fault.Unsupported)
		return
	}
	if n != 4 || err != nil {
		t.Errorf("freed %d, %v", n, err)
	}
	wantKind(t, s.Renew(ctx, "r-3", 2, ttl), fault.Conflict)
	if r, ok, err := s.Claim(ctx, "three", ttl); !ok || err != nil || r.ID != "r-3" || r.Fence != 3 {
		t.Errorf("claimed %+v, %v, %v", r, ok, err)
	}
}

func testPark(t *testing.T, place func(testing.TB) string) {
	s, c := fresh(t, place)
	ctx := t.Context()
	create(t, s, row("r-1", "k", c.now()))
	r, err := s.ClaimID(ctx, "r-1", "one", ttl)
	if err != nil {
		t.Fatal(err)
	}
	wake := c.now().Add(time.Hour)
	_, err = s.Park(ctx, "r-1", r.Fence, 0, Parking{Status: rotation.Waiting})
	wantKind(t, err, fault.Invalid)
	_, err = s.Park(ctx, "r-1", r.Fence-1, 0, Parking{Status: rotation.Waiting, WakeAt: wake})
	wantKind(t, err, fault.Conflict)
	_, err = s.Park(ctx, "r-9", 1, 0, Parking{Status: rotation.Waiting, WakeAt: wake})
	wantKind(t, err, fault.NotFound)

	update(t, s, func(tx *Tx) error { return tx.Signal("r-1", rotation.Entry{Signal: rotation.SignalIntake}) })
	parked, err := s.Park(ctx, "r-1", r.Fence, 0, Parking{Status: rotation.Waiting, WakeAt: wake})
	if parked || err != nil {
		t.Errorf("slept through a signal: %v, %v", parked, err)
	}
	parked, err = s.Park(ctx, "r-1", r.Fence, 1, Parking{Status: rotation.Waiting, Note: "n", Hint: "h", WakeAt: wake})
	if !parked || err != nil {
		t.Errorf("not parked: %v, %v", parked, err)
	}
	got := get(t, s, "r-1")
	want := row("r-1", "k", c.now())
	want.Status, want.Note, want.Hint, want.WakeAt, want.Signals, want.Fence = rotation.Waiting, "n", "h", wake, 1, 1
	wantSame(t, got, want)
	if _, ok, err := s.Claim(ctx, "two", ttl); ok || err != nil {
		t.Errorf("woke early: %v, %v", ok, err)
	}
	wantKind(t, s.Renew(ctx, "r-1", r.Fence, ttl), fault.Conflict)
	c.advance(time.Hour)
	r, ok, err := s.Claim(ctx, "two", ttl)
	if !ok || err != nil || r.Fence != 2 {
		t.Fatalf("did not wake: %v, %v", ok, err)
	}
	if parked, err := s.Park(ctx, "r-1", 2, 1, Parking{Status: rotation.Done}); !parked || err != nil {
		t.Errorf("not ended: %v, %v", parked, err)
	}
	if r := get(t, s, "r-1"); r.Status != rotation.Done || !r.Ended.Equal(c.now()) || r.LeaseOwner != "" || !r.WakeAt.IsZero() {
		t.Errorf("ended as %+v", r)
	}
	_, err = s.Park(ctx, "r-1", 2, 1, Parking{Status: rotation.Running, WakeAt: wake})
	wantKind(t, err, fault.Conflict)
	_, err = s.ClaimID(ctx, "r-1", "two", ttl)
	wantKind(t, err, fault.Conflict)
	if _, ok, err := s.NextWake(ctx); ok || err != nil {
		t.Errorf("an ended rotation wakes: %v, %v", ok, err)
	}
}

// testClaimers has many drivers take rows from two stores: under one fence a row has one owner.
func testClaimers(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	c := newClock()
	stores := []*Store{open(t, url, Options{Now: c.now}), open(t, url, Options{Now: c.now})}
	const rows, workers = 12, 6
	var list []rotation.Row
	for i := range rows {
		list = append(list, row(fmt.Sprintf("r-%d", i), apikey.Name(fmt.Sprintf("k-%d", i)), c.now()))
	}
	create(t, stores[0], list...)
	for round := range 3 {
		var mu sync.Mutex
		owners := map[string]string{}
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				owner := fmt.Sprintf("w-%d", w)
				for i := range 3 * rows {
					var r rotation.Row
					var ok bool
					var err error
					if w%2 == 0 {
						r, ok, err = stores[w%2].Claim(t.Context(), owner, ttl)
					} else {
						r, err = stores[w%2].ClaimID(t.Context(), fmt.Sprintf("r-%d", (i+w)%rows), owner, ttl)
						ok = err == nil
						if fault.Is(err, fault.Conflict) {
							err = nil
						}
					}
					if err != nil {
						t.Error(err)
						return
					}
					if !ok {
						continue
					}
					mu.Lock()
					if had, twice := owners[r.ID]; twice && had != owner {
						t.Errorf("round %d: %s belongs to %s and to %s", round, r.ID, had, owner)
					}
					owners[r.ID] = owner
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(owners) != rows {
			t.Errorf("round %d: %d of %d rows were claimed", round, len(owners), rows)
		}
		c.advance(ttl)
	}
}

// testWakeUp has a driver park while signals come: a row that sleeps has seen every signal, or is due.
func testWakeUp(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	c := newClock()
	driver, teller := open(t, url, Options{Now: c.now}), open(t, url, Options{Now: c.now})
	create(t, driver, row("r-1", "k", c.now()))
	held, slept := 0, 0
	for round := range 200 {
		r, ok, err := driver.Claim(t.Context(), "driver", ttl)
		if err != nil || !ok {
			t.Fatalf("round %d: the row sleeps with signals it has not seen: %v", round, err)
		}
		start := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			<-start
			spin(c)
			if err := teller.Update(t.Context(), func(tx *Tx) error { return tx.Signal("r-1", rotation.Entry{Signal: rotation.SignalWake}) }); err != nil {
				t.Error(err)
			}
		})
		close(start)
		spin(c)
		parked, err := driver.Park(t.Context(), "r-1", r.Fence, r.Signals, Parking{Status: rotation.Waiting, WakeAt: c.now().Add(1000 * time.Hour)})
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
		got := get(t, driver, "r-1")
		switch {
		case got.Signals != r.Signals+1:
			t.Fatalf("round %d: %d signals, want %d", round, got.Signals, r.Signals+1)
		case parked && got.WakeAt.After(c.now()):
			t.Fatalf("round %d: parked for ever with a signal unseen", round)
		case parked:
			slept++
		default:
			held++
			if parked, err := driver.Park(t.Context(), "r-1", r.Fence, got.Signals, Parking{Status: rotation.Waiting, WakeAt: c.now()}); !parked || err != nil {
				t.Fatal(parked, err)
			}
		}
	}
	t.Logf("the signal came first %d times, the parking %d times", held, slept)
}

// spin takes a while, to shift what runs at the same time.
func spin(c *clock) {
	for range rand.N(20000) {
		_ = c.now()
	}
}

// testTakeover stops a driver past its lease: whatever it writes afterwards is refused.
func testTakeover(t *testing.T, place func(testing.TB) string) {
	url := place(t)
	c := newClock()
	slow, quick := open(t, url, Options{Now: c.now}), open(t, url, Options{Now: c.now})
	ctx := t.Context()
	create(t, slow, row("r-1", "k", c.now()))
	old, ok, err := slow.Claim(ctx, "slow", ttl)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	c.advance(ttl)
	fresh, ok, err := quick.Claim(ctx, "quick", ttl)
	if err != nil || !ok || fresh.Fence != old.Fence+1 {
		t.Fatal(fresh, ok, err)
	}
	refuse := func(fence int64) {
		t.Helper()
		for name, err := range map[string]error{
			"append": slow.Update(ctx, func(tx *Tx) error { return tx.Append("r-1", fence, rotation.Entry{Type: rotation.Made}) }),
			"status": slow.Update(ctx, func(tx *Tx) error { return tx.SetStatus("r-1", fence, SetStatus{Status: rotation.Done}) }),
			"guard":  slow.Update(ctx, func(tx *Tx) error { return tx.Guard("r-1", fence) }),
			"renew":  slow.Renew(ctx, "r-1", fence, ttl),
			"park":   func() error { _, err := slow.Park(ctx, "r-1", fence, 0, Parking{Status: rotation.Done}); return err }(),
		} {
			if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "lease lost") {
				t.Errorf("%s under fence %d: %v", name, fence, err)
			}
		}
	}
	refuse(old.Fence)
	if err := quick.Renew(ctx, "r-1", fresh.Fence, ttl); err != nil {
		t.Error(err)
	}

	// An emergency overtakes: in one transaction the old rotation ends and the new one begins.
	emergency := row("r-2", "k", c.now())
	emergency.Kind = rotation.Emergency
	update(t, quick, func(tx *Tx) error {
		active, _, err := tx.ActiveRotation("k")
		return errors.Join(err, tx.Supersede(active.ID, "by r-2"), tx.CreateRotation(emergency))
	})
	refuse(fresh.Fence)
	if r := get(t, slow, "r-1"); r.Status != rotation.Superseded || r.Note != "by r-2" || r.Ended.IsZero() {
		t.Errorf("superseded: %+v", r)
	}
	view(t, slow, func(tx *Tx) error {
		journal, err := tx.Journal("r-1")
		if len(journal) != 0 {
			t.Errorf("the late driver wrote %v", journal)
		}
		return err
	})

	// The race itself: takeover and write at once. A write that was let through is under the fence of its time.
	for i := range 20 {
		id := fmt.Sprintf("race-%d", i)
		create(t, slow, row(id, apikey.Name(id), c.now()))
		mine, err := slow.ClaimID(ctx, id, "slow", ttl)
		if err != nil {
			t.Fatal(err)
		}
		c.advance(ttl)
		var wg sync.WaitGroup
		var wrote error
		wg.Go(func() {
			wrote = slow.Update(ctx, func(tx *Tx) error { return tx.Append(id, mine.Fence, rotation.Entry{Type: rotation.Made}) })
		})
		theirs, err := quick.ClaimID(ctx, id, "quick", ttl)
		var seen []rotation.Entry
		view(t, quick, func(tx *Tx) (err error) {
			seen, err = tx.Journal(id)
			return err
		})
		wg.Wait()
		if err != nil || theirs.Fence != mine.Fence+1 {
			t.Fatal(theirs.Fence, err)
		}
		var after []rotation.Entry
		view(t, quick, func(tx *Tx) (err error) {
			after, err = tx.Journal(id)
			return err
		})
		if (wrote == nil) != (len(after) == 1) || wrote != nil && !fault.Is(wrote, fault.Conflict) {
			t.Errorf("%d entries, and the write gave %v", len(after), wrote)
		}
		if len(seen) != len(after) {
			t.Errorf("an entry of the old driver appeared after the takeover")
		}
	}
}
