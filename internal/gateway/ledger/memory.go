package ledger

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Memory keeps objects until the process ends, for a gateway without a state directory. It is as a Ledger to those who ask whose an object is, and may be
// used from several goroutines.
type Memory struct {
	mu  sync.Mutex
	seq int64
	by  map[string]Object
}

// NewMemory makes a Memory without objects.
func NewMemory() *Memory { return &Memory{by: map[string]Object{}} }

// Own records that objects belong to applications, as Ledger.Own does.
func (m *Memory) Own(_ context.Context, objects ...Object) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range objects {
		old, known := m.by[o.ID]
		switch {
		case !known:
			m.seq++
			o.Seq = m.seq
			m.by[o.ID] = o
		case old.App == o.App && old.Kind == o.Kind:
			old.Expires = o.Expires
			m.by[o.ID] = old
		}
	}
	return nil
}

// Objects gives what is recorded of some ids, in their order.
func (m *Memory) Objects(_ context.Context, ids []string) ([]Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Object
	for _, id := range ids {
		if o, ok := m.by[id]; ok {
			all = append(all, o)
		}
	}
	return all, nil
}

// ObjectsOf gives a page of the objects of an application and kind, as Ledger.ObjectsOf does.
func (m *Memory) ObjectsOf(_ context.Context, app, kind string, after Object, n int) ([]Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Object
	for _, o := range m.by {
		if o.App == app && o.Kind == kind && (after.Seq == 0 || Newer(after, o) < 0) {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, Newer)
	return all[:min(n, len(all))], nil
}

// Newer orders objects as their lists do: the newest first, and of those made at one time the one that was recorded last.
func Newer(a, b Object) int {
	return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.Seq, a.Seq))
}

// Forget removes objects.
func (m *Memory) Forget(_ context.Context, ids ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		delete(m.by, id)
	}
	return nil
}

// Prune removes what has expired before a time.
func (m *Memory) Prune(_ context.Context, before time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, o := range m.by {
		if !o.Expires.IsZero() && o.Expires.Before(before) {
			delete(m.by, id)
		}
	}
	return nil
}
