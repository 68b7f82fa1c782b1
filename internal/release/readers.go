package release

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/handover"
	"github.com/keywright/keywright/internal/store"
)

// Enrolled is a program elsewhere that the daemon knows by its certificate. Which keys it may read stands in keywright.yaml.
type Enrolled struct {
	handover.Public
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Expires time.Time `json:"expires"`
}

// metaReaders names the list of enrolled readers.
const metaReaders = "release.readers"

// Readers gives those that are enrolled, by name, also those whose time is over.
func Readers(tx *store.Tx) ([]Enrolled, error) {
	text, ok, err := tx.Meta(metaReaders)
	if err != nil || !ok {
		return nil, err
	}
	var list []Enrolled
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil, fault.New(fault.Corrupt, "read enrolled readers: the list in the store is damaged")
	}
	return list, nil
}

// Enroll adds a reader. A name that is taken must be revoked first. Kinds: Invalid, Conflict.
func Enroll(tx *store.Tx, e Enrolled) error {
	if err := e.Check(); err != nil {
		return err
	}
	list, err := Readers(tx)
	if err != nil {
		return err
	}
	for _, o := range list {
		if o.Name == e.Name || o.Pin == e.Pin {
			return fault.New(fault.Conflict, fmt.Sprintf("enroll reader %s: %s is enrolled already", e.Name, o.Name), fault.Hint("keywright reader revoke %s", o.Name))
		}
	}
	list = append(list, e)
	slices.SortFunc(list, func(a, b Enrolled) int { return strings.Compare(a.Name, b.Name) })
	if err := write(tx, list); err != nil {
		return err
	}
	return tx.Record(event.Event{Type: event.ReaderEnrolled, Actor: e.By, Text: e.Name, Fields: map[string]string{"pin": e.Pin.String(), "expires": e.Expires.UTC().Format(time.RFC3339)}})
}

// Revoke takes a reader off the list: its next request is refused, also on a connection that is open. Kind: NotFound.
func Revoke(tx *store.Tx, name, by string) error {
	list, err := Readers(tx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(e Enrolled) bool { return e.Name == name })
	if i < 0 {
		return fault.New(fault.NotFound, fmt.Sprintf("revoke reader %q: none is enrolled by that name", name), fault.Hint("keywright reader list"))
	}
	pin := list[i].Pin
	if err := write(tx, slices.Delete(list, i, i+1)); err != nil {
		return err
	}
	return tx.Record(event.Event{Type: event.ReaderRevoked, Actor: by, Text: name, Fields: map[string]string{"pin": pin.String()}})
}

func write(tx *store.Tx, list []Enrolled) error {
	b, err := json.Marshal(list)
	if err != nil {
		return fault.Wrap(fault.Unknown, err, "write enrolled readers")
	}
	return tx.SetMeta(metaReaders, string(b))
}
