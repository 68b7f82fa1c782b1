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
		{"deliveries", testDeliveries},
		{"ends", testEnds},
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
	start := make(chan struct{})
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			<-start
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
	close(start)
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
