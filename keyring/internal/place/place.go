// Package place makes a source of the keyring out of readers of places. It is the one way from the values of Keywright to those of the public
// package; the packages of sources beside this one call it.
package place

import (
	"context"
	"sync"

	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/keyring"
)

// Source reads several places: the first has the value to use, the others have backups.
type Source struct {
	readers []keysource.Reader

	mu    sync.Mutex
	marks []string
}

var (
	_ keyring.Source  = (*Source)(nil)
	_ keyring.Watcher = (*Source)(nil)
)

// New makes a Source.
func New(readers ...keysource.Reader) *Source {
	return &Source{readers: readers, marks: make([]string, len(readers))}
}

// Fetch reads every place. A backup that cannot be read is left out: it is not worth the outage of the first.
func (s *Source) Fetch(ctx context.Context) (keyring.Fetched, error) {
	var got keyring.Fetched
	for i, r := range s.readers {
		reading, err := r.Read(ctx)
		if err != nil {
			if i > 0 {
				continue
			}
			return keyring.Fetched{}, told{err}
		}
		s.mu.Lock()
		s.marks[i] = reading.Mark
		s.mu.Unlock()
		got.Values = append(got.Values, keyring.NewValue(reading.Value.RevealString()))
		reading.Value.Destroy()
	}
	return got, nil
}

// Watch returns nil when a place may hold something else than Fetch read, and an error when the first one cannot tell.
func (s *Source) Watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	heard := make(chan error, len(s.readers))
	var watching sync.WaitGroup
	for i, r := range s.readers {
		s.mu.Lock()
		mark := s.marks[i]
		s.mu.Unlock()
		if mark == "" && i > 0 {
			continue
		}
		watching.Go(func() {
			if err := r.Wait(ctx, mark); err == nil || i == 0 {
				heard <- err
			}
		})
	}
	err := <-heard
	cancel()
	watching.Wait()
	if err != nil {
		return told{err}
	}
	return nil
}

// told is an error with its hint in the text, since callers outside of Keywright cannot ask for it.
type told struct{ error }

// Error gives the text and the hint.
func (e told) Error() string {
	if hint := fault.HintOf(e.error); hint != "" {
		return e.error.Error() + " (" + hint + ")"
	}
	return e.error.Error()
}

// Unwrap gives the cause.
func (e told) Unwrap() error { return e.error }
