package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/report"
	"github.com/keywright/keywright/internal/scan/run"
	"github.com/keywright/keywright/internal/secret"
)

// localNamesSize is the size of the key that makes the names "kl_…" of values that could be guessed back from a hash.
const localNamesSize = 32

// localNames reads the key of local names, or makes one that is kept only when a report uses it.
func (s *scanning) localNames() {
	if s.store != "" {
		if b, err := keyfile.Read(s.store, keyfile.Private, localNamesSize); err == nil && len(b) == localNamesSize {
			s.o.StoreKey = secret.New(b)
			return
		}
	}
	s.key, s.fresh = make([]byte, localNamesSize), true
	_, _ = rand.Read(s.key) // never fails
	s.o.StoreKey = secret.New(bytes.Clone(s.key))
}

// keepLocalNames keeps the key when the report has such a name, so that the next scan gives the same.
func (s *scanning) keepLocalNames(r *report.Report) {
	defer clear(s.key)
	local := false
	for i := range r.Keys {
		local = local || strings.HasPrefix(string(r.Keys[i].Fingerprint), "kl_")
	}
	if !local || !s.fresh {
		return
	}
	if s.store == "" || keyfile.Create(s.store, keyfile.Private, s.key) != nil {
		r.Notes = append(r.Notes, "names that begin with kl_ hold for this scan alone: the key that makes them could not be kept")
	}
}

// inventory is what the configuration's store knows about keys.
type inventory struct {
	known map[apikey.Digest]report.Known
}

// Shapes implements scan.Known.
func (i inventory) Shapes() []scan.Shape { return nil }

// Holds implements scan.Known.
func (i inventory) Holds(d apikey.Digest) bool {
	_, ok := i.known[d]
	return ok
}

// Find implements run.Inventory.
func (i inventory) Find(d apikey.Digest) (report.Known, bool) {
	k, ok := i.known[d]
	return k, ok
}

var _ run.Inventory = inventory{}

// scanInventory reads what is known about keys.
func (c *console) scanInventory(ctx context.Context) (run.Inventory, error) {
	a, err := c.app(ctx)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	versions, err := a.Versions(ctx, "")
	if err != nil {
		return nil, fault.In(err, "read inventory")
	}
	i := inventory{known: map[apikey.Digest]report.Known{}}
	for _, v := range versions {
		k := report.Known{Key: v.Key, Version: v.ID, State: v.State, Compromised: v.Compromised}
		if !v.State.Live() {
			k.Retired = v.Changed.UTC()
		}
		if v.Digest.Known() {
			i.known[v.Digest] = k
		}
	}
	return i, nil
}

// isTerminal reports whether w is a screen that somebody may look at.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
