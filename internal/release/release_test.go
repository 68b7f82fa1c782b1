package release_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/release"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/secret/secrettest"
	"github.com/keywright/keywright/internal/store"
)

// scene is a store and a book over it.
type scene struct {
	t      *testing.T
	store  *store.Store
	book   *release.Book
	values map[apikey.VersionID]secret.Value
	at     time.Time
}

func open(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, values: map[apikey.VersionID]secret.Value{}, at: time.Unix(1_700_000_000, 0)}
	var err error
	if s.store, err = store.Open(t.Context(), filepath.Join(t.TempDir(), "keywright.db"), store.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.Close() })
	s.book = &release.Book{Store: s.store, Now: func() time.Time { return s.at }, Unseal: func(_ context.Context, id apikey.VersionID) (secret.Value, error) {
		return s.values[id].Clone(), nil
	}}
	return s
}

// version puts a version into the inventory, or changes it.
func (s *scene) version(key apikey.Name, id apikey.VersionID, state apikey.State, compromised bool) {
	s.t.Helper()
	if _, ok := s.values[id]; !ok {
		s.values[id] = secrettest.Fake(s.t)
	}
	err := s.store.Update(s.t.Context(), func(tx *store.Tx) error {
		if err := tx.PutVersion(apikey.Version{ID: id, Key: key, State: state, Compromised: compromised, Digest: s.values[id].Digest()}); err != nil {
			return err
		}
		return tx.Record(event.Event{Type: event.VersionState, Key: key, Version: id, Text: string(state)})
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) standing(key apikey.Name) release.Standing {
	s.t.Helper()
	got, err := s.book.Standing(s.t.Context(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// TestWhatIsReleased follows a key through a rotation, an emergency with a spare, and one with a lent version.
func TestWhatIsReleased(t *testing.T) {
	s := open(t)
	last := uint64(0)
	expect := func(what string, id apikey.VersionID, denied int, moved bool) {
		t.Helper()
		got := s.standing("app")
		if got.Version != id || (got.Why == nil) != (id != "") || len(got.Denied) != denied || (got.Generation > last) != moved || got.Generation < last {
			t.Errorf("%s: %+v, after generation %d", what, got, last)
		}
		last = got.Generation
	}
	expect("nothing yet", "", 0, true)
	if why := s.standing("app").Why; !fault.Is(why, fault.NotFound) {
		t.Error(why)
	}
	s.version("app", "v_1", apikey.Current, false)
	expect("adopted", "v_1", 0, true)
	expect("asked again", "v_1", 0, false)
	s.version("app", "v_2", apikey.Pending, false)
	expect("a rotation runs", "v_1", 0, false)
	s.version("app", "v_1", apikey.Previous, false)
	s.version("app", "v_2", apikey.Current, false)
	s.at = s.at.Add(-time.Hour) // a clock that was set back does not hold the count
	expect("flipped", "v_2", 0, true)
	s.version("app", "v_2", apikey.Current, true)
	expect("compromised, nothing else yet", "", 0, true)
	if why := s.standing("app").Why; !fault.Is(why, fault.Forbidden) || fault.HintOf(why) == "" {
		t.Error(why)
	}
	if _, err := s.book.Reader("app", "gateway").Read(t.Context()); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a compromised version was released: %v", err)
	}
	s.version("app", "v_3", apikey.Pending, false)
	expect("the emergency brings one in", "v_3", 1, true)
	s.version("app", "v_2", apikey.Inactive, true)
	s.version("app", "v_3", apikey.Current, false)
	expect("it is over", "v_3", 1, false)
	s.version("app", "v_3", apikey.Current, true)
	expect("compromised again", "", 0, true)
	s.version("backup", "v_b", apikey.Current, false)
	err := s.store.Update(t.Context(), func(tx *store.Tx) error {
		return tx.SetDesired(store.Desired{Location: "app-env", Key: "app", Version: "v_b", At: s.at})
	})
	if err != nil {
		t.Fatal(err)
	}
	expect("the backup's is lent", "v_b", 2, true)
	s.version("backup", "v_b", apikey.Current, true)
	expect("and compromised too", "", 0, true)
}

// TestTakeNoticesAnEmergency: between the choice and the release another version may have become the one to use.
func TestTakeNoticesAnEmergency(t *testing.T) {
	s := open(t)
	s.version("app", "v_1", apikey.Current, false)
	got := s.standing("app")
	s.version("app", "v_1", apikey.Current, true)
	if _, err := s.book.Take(t.Context(), release.Access{Key: "app", Version: got.Version, Reader: "r", Way: "socket", Generation: got.Generation}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a compromised version was released: %v", err)
	}
	err := s.store.View(t.Context(), func(tx *store.Tx) error {
		for e, err := range tx.Audit() {
			if err != nil || e.Event.Type == event.ValueAccessed {
				t.Errorf("%v %v", e.Event, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWaitersAreTold: all who wait hear of a change, one that came before they began to wait too.
func TestWaitersAreTold(t *testing.T) {
	s := open(t)
	s.version("app", "v_1", apikey.Current, false)
	have := s.standing("app").Generation
	told := make(chan error, 8)
	for range cap(told) {
		go func() {
			_, err := s.book.Wait(context.Background(), "app", have)
			told <- err
		}()
	}
	s.version("app", "v_1", apikey.Previous, false)
	s.version("app", "v_2", apikey.Current, false)
	for range cap(told) {
		if err := <-told; err != nil {
			t.Error(err)
		}
	}
	if got, err := s.book.Wait(t.Context(), "app", have); err != nil || got.Version != "v_2" {
		t.Errorf("%+v %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.book.Wait(ctx, "app", s.standing("app").Generation); !fault.Is(err, fault.Canceled) {
		t.Error(err)
	}
}
