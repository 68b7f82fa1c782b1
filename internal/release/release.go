// Package release hands out the value of a key to those who may read it: to the gateway of this process, to programs on the daemon's own socket,
// and to enrolled readers elsewhere. What leaves is sealed to the one who asked, and written down in the audit log first. It never releases a
// compromised version, never asks the provider, and listens on nothing. app mounts it on the daemon's listeners.
package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keysource"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// Book knows which version of each key is the one to use, and how often that has changed. It is safe for concurrent use.
type Book struct {
	// Store is where the inventory is.
	Store *store.Store
	// Unseal gives the value of a version.
	Unseal func(ctx context.Context, id apikey.VersionID) (secret.Value, error)
	// Now is the clock.
	Now func() time.Time

	mu      sync.Mutex
	waiting int
	changed chan struct{} // closed when the store may say something else than before; nil while nobody waits
}

// Standing is what a reader of a key is to use.
type Standing struct {
	Key apikey.Name
	// Version is empty when every candidate is compromised, or when there is none; Why says so then.
	Version     apikey.VersionID
	Fingerprint apikey.Fingerprint
	Why         error
	// Generation grows with each change of the rest.
	Generation uint64
	// Denied lists the compromised values of the key. It is empty while there is no other to use: a leaked key that works is better than an
	// outage until the emergency has found one.
	Denied []apikey.Digest
}

// Standing gives the state of now. Kinds: NotFound (no such key), and those of the store.
func (b *Book) Standing(ctx context.Context, key apikey.Name) (Standing, error) {
	var s Standing
	var known bool
	look := func(tx *store.Tx) (err error) {
		s, known, err = look(tx, key)
		return err
	}
	if err := b.Store.View(ctx, look); err != nil || known {
		return s, fault.In(err, "find version of "+string(key))
	}
	err := b.Store.Update(ctx, func(tx *store.Tx) error {
		if err := look(tx); err != nil || known {
			return err
		}
		// The count keeps going up after the store was restored from an older backup, since time has passed; clocks that step back do not hold it.
		s.Generation = max(s.Generation+1, uint64(max(0, b.Now().Unix())))
		return tx.SetMeta(metaGeneration+string(key), counted{Of: s.state(), Generation: s.Generation}.text())
	})
	return s, fault.In(err, "find version of "+string(key))
}

// metaGeneration and the name of a key name the count of its changes.
const metaGeneration = "release.generation/"

// counted is the form of a count in the store.
type counted struct {
	Of         string `json:"of"`
	Generation uint64 `json:"generation"`
}

func (c counted) text() string {
	b, _ := json.Marshal(c) // a text and a number
	return string(b)
}

// state names all that a change of counts.
func (s Standing) state() string {
	return fmt.Sprintf("%s denied %d", s.Version, len(s.Denied))
}

// look reads the standing of a key, with the generation that was counted last; known says whether that is the one of this standing.
func look(tx *store.Tx, key apikey.Name) (s Standing, known bool, err error) {
	s.Key = key
	versions, err := tx.Versions(key)
	if err != nil {
		return s, false, err
	}
	use, ok, err := choose(tx, key, versions)
	if err != nil {
		return s, false, err
	}
	if ok {
		s.Version, s.Fingerprint = use.ID, use.Fingerprint()
		for _, v := range versions {
			if v.Compromised && v.Digest.Known() && v.Digest != use.Digest {
				s.Denied = append(s.Denied, v.Digest)
			}
		}
	} else {
		s.Why = nothing(key, versions)
	}
	var c counted
	text, there, err := tx.Meta(metaGeneration + string(key))
	if err != nil {
		return s, false, err
	}
	if there && json.Unmarshal([]byte(text), &c) != nil {
		return s, false, fault.New(fault.Corrupt, "read generation: the note in the store is damaged")
	}
	s.Generation = c.Generation
	return s, there && c.Of == s.state(), nil
}

// choose picks the version to use: the current one; when that is compromised the one that an emergency is bringing in, be it the key's own or one
// that another key has lent.
func choose(tx *store.Tx, key apikey.Name, versions []apikey.Version) (apikey.Version, bool, error) {
	lost := false
	for _, state := range []apikey.State{apikey.Current, apikey.Pending} {
		for _, v := range versions {
			if v.State == state && !v.Compromised && (state == apikey.Current || lost) {
				return v, true, nil
			}
			lost = lost || v.State == apikey.Current
		}
	}
	if !lost && !slices.ContainsFunc(versions, func(v apikey.Version) bool { return v.Compromised }) {
		return apikey.Version{}, false, nil
	}
	wanted, err := tx.Desired(key)
	if err != nil {
		return apikey.Version{}, false, err
	}
	slices.SortStableFunc(wanted, func(a, b store.Desired) int { return b.At.Compare(a.At) })
	for _, d := range wanted {
		v, err := tx.Version(d.Version)
		if err != nil {
			return apikey.Version{}, false, err
		}
		if v.State.Live() && !v.Compromised && v.Key != key {
			return v, true, nil
		}
	}
	return apikey.Version{}, false, nil
}

func nothing(key apikey.Name, versions []apikey.Version) error {
	if slices.ContainsFunc(versions, func(v apikey.Version) bool { return v.State == apikey.Current }) {
		return fault.New(fault.Forbidden, fmt.Sprintf("release %s: its version is compromised, and there is no other yet", key), fault.Hint("keywright emergency %s", key))
	}
	return fault.New(fault.NotFound, fmt.Sprintf("release %s: it has no version in use", key), fault.Hint("keywright key adopt %s", key))
}

// lookEvery is the pause between two looks at the head of the audit chain, which every change of a version moves.
const lookEvery = 100 * time.Millisecond

// Wait returns the standing as soon as its generation is larger than have, and the error of ctx when it ends before.
func (b *Book) Wait(ctx context.Context, key apikey.Name, have uint64) (Standing, error) {
	for {
		changed, leave := b.join()
		s, err := b.Standing(ctx, key)
		if err != nil || s.Generation > have {
			leave()
			return s, err
		}
		select {
		case <-changed:
			leave()
		case <-ctx.Done():
			leave()
			return s, fault.In(context.Cause(ctx), "wait for a version of "+string(key))
		}
	}
}

// join gives a channel that is closed at the next change after this call, and the call that ends the wait. The first one who waits starts the
// looking.
func (b *Book) join() (<-chan struct{}, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting++
	if b.changed == nil {
		// The head is read before the caller reads the standing, so that no change falls between the two.
		first := b.head()
		b.changed = make(chan struct{})
		go b.watch(b.changed, first)
	}
	return b.changed, func() {
		b.mu.Lock()
		b.waiting--
		b.mu.Unlock()
	}
}

// watch closes the channel when the head is another than first, and ends when nobody waits.
func (b *Book) watch(changed chan struct{}, first string) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for range tick.C {
		head := b.head()
		b.mu.Lock()
		if b.waiting == 0 || head != "" && head != first {
			b.changed = nil
			close(changed)
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
	}
}

// head names the last entry of the audit chain, or is empty when it cannot be read now.
func (b *Book) head() (hash string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := b.Store.View(ctx, func(tx *store.Tx) error {
		entry, _, err := tx.LastAudit()
		hash = fmt.Sprint(entry.Seq)
		return err
	})
	if err != nil {
		return ""
	}
	return hash
}

// Access is one release, for the audit log.
type Access struct {
	Key     apikey.Name
	Version apikey.VersionID
	// Reader is who got the value, as the system or a certificate vouches for it.
	Reader string
	// Way is how: "socket", "mutual TLS" or "this process".
	Way        string
	Generation uint64
}

// Take writes a release down and gives the value. Nothing is released that was not written down.
func (b *Book) Take(ctx context.Context, a Access) (secret.Value, error) {
	v, err := b.Unseal(ctx, a.Version)
	if err != nil {
		return secret.Value{}, fault.In(err, "release "+string(a.Key))
	}
	err = b.Store.Update(ctx, func(tx *store.Tx) error {
		// Between the choice and now an emergency may have begun.
		s, _, err := look(tx, a.Key)
		if err != nil {
			return err
		}
		if s.Version != a.Version {
			return errMoved
		}
		return tx.Record(event.Event{Type: event.ValueAccessed, Actor: a.Reader, Key: a.Key, Version: a.Version, Text: "released by " + a.Way,
			Fields: map[string]string{"generation": fmt.Sprint(a.Generation), "fingerprint": string(v.Fingerprint())}})
	})
	if err != nil {
		v.Destroy()
		return secret.Value{}, fault.In(err, "release "+string(a.Key))
	}
	return v, nil
}

// errMoved says that another version is the one to use by now.
var errMoved = fault.New(fault.Unavailable, "another version is the one to use by now")

// Reader reads a key for this process: the reader's name stands in the audit log.
func (b *Book) Reader(key apikey.Name, reader string) keysource.Reader {
	return &local{book: b, key: key, reader: reader}
}

// local is a reader in this process. It keeps the last value, so that a look that finds nothing new is no release.
type local struct {
	book   *Book
	key    apikey.Name
	reader string

	mu   sync.Mutex
	last keysource.Reading
}

var _ keysource.Reader = (*local)(nil)

// Read implements keysource.Reader.
func (l *local) Read(ctx context.Context) (keysource.Reading, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for try := 0; ; try++ {
		s, err := l.book.Standing(ctx, l.key)
		if err == nil {
			err = s.Why
		}
		if err != nil {
			return keysource.Reading{Mark: mark(s.Generation)}, err
		}
		if s.Generation == l.last.Generation {
			r := l.last
			r.Value = r.Value.Clone()
			return r, nil
		}
		v, err := l.book.Take(ctx, Access{Key: l.key, Version: s.Version, Reader: l.reader, Way: "this process", Generation: s.Generation})
		if errors.Is(err, errMoved) && try < 3 {
			continue
		}
		if err != nil {
			return keysource.Reading{}, err
		}
		l.last.Value.Destroy()
		l.last = keysource.Reading{Value: v, Mark: mark(s.Generation), Generation: s.Generation, Denied: s.Denied}
		r := l.last
		r.Value = v.Clone()
		return r, nil
	}
}

// Wait implements keysource.Reader.
func (l *local) Wait(ctx context.Context, at string) error {
	_, err := l.book.Wait(ctx, l.key, unmark(at))
	return err
}

func mark(generation uint64) string { return fmt.Sprint(generation) }

func unmark(s string) (n uint64) {
	_, _ = fmt.Sscan(s, &n) // an empty mark is zero
	return n
}
