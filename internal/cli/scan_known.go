package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/keyfile"
	"github.com/keywright/keywright/internal/scan"
	"github.com/keywright/keywright/internal/scan/known"
	"github.com/keywright/keywright/internal/scan/report"
	"github.com/keywright/keywright/internal/scan/run"
)

// knownName is the file of known keys that lies beside the user's own configuration.
const knownName = "scan-known"

// knows is what a scan knows of keys beforehand: those of the configuration's store, and those of files.
type knows struct {
	store *inventory // may be nil
	named known.Set
}

// Shapes implements scan.Known.
func (k *knows) Shapes() []scan.Shape { return k.named.Shapes() }

// Holds implements scan.Known.
func (k *knows) Holds(d apikey.Digest) bool {
	_, ok := k.Find(d)
	return ok || k.named.Holds(d)
}

// Find implements run.Inventory.
func (k *knows) Find(d apikey.Digest) (report.Known, bool) {
	if k.store == nil {
		return report.Known{}, false
	}
	found, ok := k.store.known[d]
	return found, ok
}

// mark names what is known, so that what was remembered with other knowledge does not count.
func (k *knows) mark() string {
	var all []string
	if k.store != nil {
		for d := range k.store.known {
			all = append(all, string(d.Fingerprint()))
		}
	}
	for _, f := range k.named.Fingerprints() {
		all = append(all, string(f))
	}
	slices.Sort(all)
	sum := sha256.Sum256([]byte(strings.Join(all, " ")))
	return hex.EncodeToString(sum[:8])
}

var _ run.Inventory = (*knows)(nil)

// inventory reads what is known of keys: the store of --config, the user's own file of known keys, and those that are named.
func (s *scanning) inventory(ctx context.Context, f scanFlags, dirs config.Dirs, haveDirs bool) error {
	k := &knows{}
	if len(s.c.configs) > 0 {
		var err error
		if s.known, err = s.c.scanInventory(ctx); err != nil {
			return err
		}
		k.store = s.known
	}
	if haveDirs {
		own := filepath.Join(dirs.Config, knownName)
		text, err := keyfile.Read(own, keyfile.Public, known.MaxSize)
		if err == nil {
			err = k.named.Add(own, text)
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	for _, name := range f.knownKeys {
		text, err := readNamed(name, "known keys", known.MaxSize)
		if err == nil {
			err = k.named.Add(name, text)
		}
		if err != nil {
			return err
		}
	}
	if f.known && len(k.Shapes()) == 0 {
		return usageError{fault.New(fault.Invalid, "--known: no key of an unfamiliar shape is known",
			fault.Hint("name one: keywright scan known writes the line for a file that --known-keys reads"))}
	}
	if k.store == nil && len(k.Shapes()) == 0 {
		return nil
	}
	s.o.Inventory, s.o.Mark, s.o.Known = k, k.mark(), f.known
	return nil
}

func (c *console) scanKnown() *cobra.Command {
	return &cobra.Command{
		Use: "known [NOTE...]", Short: "write the line by which later scans know a key of an unfamiliar shape", Args: cobra.ArbitraryArgs,
		Long: `Known reads one value from a hidden prompt, or from stdin when that is no terminal, and writes a line with its fingerprint, its length and the
characters it is made of, and NOTE behind them. It keeps nothing. Scans look for the keys of the file scan-known in your configuration
directory, and of those that --known-keys names: whatever has that length and is made of those characters is compared by its fingerprint.

A value that is too short or too regular is refused, since its fingerprint would give it away.`,
		Example: "  (echo keywright-known 1; keywright scan known token of the build farm) > ~/.config/keywright/scan-known",
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := c.valueReader("value (not shown): ")
			if err != nil {
				return err
			}
			value := make([]byte, known.Longest+2)
			defer clear(value)
			n, err := io.ReadFull(r, value)
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return fault.New(fault.Unavailable, "read value: the input broke off")
			}
			line, err := known.Line(bytes.TrimRight(value[:n], "\r\n"))
			if err != nil {
				return err
			}
			note := strings.Join(args, " ")
			if note != "" {
				note = " " + report.NewMasker(scan.New(scan.Options{})).Text(note).String()
			}
			fmt.Fprintln(c.out, line+note)
			return nil
		},
	}
}
