package ledger

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// keeper is what a Ledger and a Memory do alike.
type keeper interface {
	Own(ctx context.Context, objects ...Object) error
	Objects(ctx context.Context, ids []string) ([]Object, error)
	ObjectsOf(ctx context.Context, app, kind string, after Object, n int) ([]Object, error)
	Forget(ctx context.Context, ids ...string) error
	Prune(ctx context.Context, before time.Time) error
}

var (
	_ keeper = (*Ledger)(nil)
	_ keeper = (*Memory)(nil)
)

func TestObjects(t *testing.T) {
	t.Run("ledger", func(t *testing.T) {
		dir := t.TempDir()
		l := open(t, dir)
		testObjects(t, l, func() keeper {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, dir)
		})
	})
	t.Run("memory", func(t *testing.T) {
		m := NewMemory()
		testObjects(t, m, func() keeper { return m })
	})
}

// testObjects is the contract. again gives what is kept after a restart, where there can be one.
func testObjects(t *testing.T, l keeper, again func() keeper) {
	t.Helper()
	at := time.Date(2026, 11, 22, 9, 0, 0, 123_000, time.UTC)
	var mine []string
	var all []Object
	for i := range 2*chunk + 3 {
		o := Object{ID: fmt.Sprint("file_", i), Kind: "file", App: "a", Organization: "o", Workspace: "w", Created: at.Add(time.Duration(i/2) * time.Second)}
		if i%3 == 0 {
			o.App = "b"
		} else {
			mine = append(mine, o.ID)
		}
		all = append(all, o)
	}
	if err := l.Own(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	l = again()
	got, err := l.Objects(t.Context(), append(slices.Clone(mine), "unknown"))
	if err != nil || len(got) != len(mine) || got[0].App != "a" || got[0].Organization != "o" || got[0].Workspace != "w" || got[0].Kind != "file" || !got[0].Expires.IsZero() {
		t.Fatalf("%d of %d objects, %v", len(got), len(mine), err)
	}

	// Paging gives each of an application's own once, newest first.
	var paged []string
	var after Object
	for {
		page, err := l.ObjectsOf(t.Context(), "a", "file", after, 50)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page {
			paged = append(paged, o.ID)
			after = o
		}
		if len(page) < 50 {
			break
		}
	}
	slices.Reverse(paged)
	if !slices.Equal(paged, mine) {
		t.Errorf("paging gave %d of %d", len(paged), len(mine))
	}
	if page, err := l.ObjectsOf(t.Context(), "a", "batch", Object{}, 50); err != nil || len(page) != 0 {
		t.Errorf("another kind: %v, %v", page, err)
	}

	// The first owner stays, and only it can move the expiry.
	for _, o := range []Object{
		{ID: "file_1", Kind: "file", App: "b", Created: at, Expires: at.Add(time.Hour)},
		{ID: "file_2", Kind: "file", App: "a", Workspace: "other", Created: at, Expires: at.Add(time.Hour)},
		{ID: "file_4", Kind: "skill", App: "a", Created: at, Expires: at.Add(time.Hour)},
	} {
		if err := l.Own(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	got, err = l.Objects(t.Context(), []string{"file_1", "file_2", "file_4"})
	slices.SortFunc(got, func(a, b Object) int { return int(a.Seq - b.Seq) })
	if err != nil || len(got) != 3 || got[0].App != "a" || !got[0].Expires.IsZero() || got[1].Workspace != "w" || !got[1].Expires.Equal(at.Add(time.Hour)) || !got[2].Expires.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if err := l.Prune(t.Context(), at.Add(time.Hour+time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := l.Forget(t.Context(), "file_1", "unknown"); err != nil {
		t.Fatal(err)
	}
	if got, err = l.Objects(t.Context(), []string{"file_1", "file_2", "file_4"}); err != nil || len(got) != 1 || got[0].ID != "file_4" {
		t.Errorf("after the end of two: %v, %v", got, err)
	}
}
