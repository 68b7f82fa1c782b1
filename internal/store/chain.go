package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/keywright/keywright/internal/event"
	"github.com/keywright/keywright/internal/fault"
)

// AuditEntry is one link of the record.
type AuditEntry struct {
	Seq   int64       `json:"seq"`
	Event event.Event `json:"event"`
	Prev  string      `json:"prev"`
	Hash  string      `json:"hash"`
}

func link(prev AuditEntry, e event.Event, storeID string) (AuditEntry, error) {
	entry := AuditEntry{Seq: prev.Seq + 1, Event: e, Prev: prev.Hash}
	b, err := json.Marshal(entry)
	if err != nil {
		return AuditEntry{}, fault.Wrap(fault.Invalid, err, "link entry")
	}
	sum := sha256.Sum256(append([]byte(storeID), b...))
	entry.Hash = hex.EncodeToString(sum[:])
	return entry, nil
}
