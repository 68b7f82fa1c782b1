package app

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"os"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/store"
)

// VerifyAudit checks the whole record against the checkpoints in the store, those of the witness, and those in a file that was kept elsewhere (when
// against is not empty). The report says what was found; the error is about reading.
func (a *App) VerifyAudit(ctx context.Context, against string) (report audit.Report, err error) {
	v, err := a.verifier(ctx, against)
	if err != nil {
		return report, err
	}
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		report, err = v.Verify(tx.Audit())
		return err
	})
	if err != nil && len(report.Problems) > 0 {
		err = nil // the report says it
	}
	return report, err
}

func (a *App) verifier(ctx context.Context, against string) (audit.Verifier, error) {
	v := audit.Verifier{Store: a.Store.ID(), Keys: []ed25519.PublicKey{a.signer.Public()}}
	err := a.Store.View(ctx, func(tx *store.Tx) error {
		raw, err := tx.Checkpoints()
		if err != nil {
			return err
		}
		v.Checkpoints, err = checkpoints(raw)
		return err
	})
	if err != nil {
		return v, err
	}
	if path := a.Config.State.Witness; path != "" {
		w, err := audit.NewFileWitness(path).Read(ctx)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return v, err
		}
		v.Witnessed = append(v.Witnessed, w...)
	}
	if against == "" {
		return v, nil
	}
	w, err := readCheckpoints(against)
	v.Witnessed = append(v.Witnessed, w...)
	return v, err
}

func readCheckpoints(path string) ([]audit.Checkpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, err, "read checkpoints")
	}
	defer f.Close()
	return audit.ReadCheckpoints(f)
}

// VerifyExport checks a file that ExportAudit wrote, without a store. key is a file with the public keys to trust, or empty to take those in the
// export; against is a file of checkpoints that was kept elsewhere, or empty. What is wrong with the record stands in the report.
func VerifyExport(export, key, against string) (audit.Report, error) {
	var v audit.Verifier
	if key != "" {
		text, err := os.ReadFile(key)
		if err != nil {
			return audit.Report{}, fault.Wrap(fault.NotFound, err, "read public key")
		}
		if v.Keys, err = audit.ParsePublicKeys(text); err != nil {
			return audit.Report{}, err
		}
	}
	if against != "" {
		var err error
		if v.Witnessed, err = readCheckpoints(against); err != nil {
			return audit.Report{}, err
		}
	}
	f, err := os.Open(export)
	if err != nil {
		return audit.Report{}, fault.Wrap(fault.NotFound, err, "read export")
	}
	defer f.Close()
	report, err := audit.VerifyExport(f, v)
	if err != nil && len(report.Problems) > 0 {
		err = nil // the report says it
	}
	return report, err
}

// AuditKey gives the public key of the record in PEM.
func (a *App) AuditKey() ([]byte, error) { return audit.PublicPEM(a.signer.Public()) }

func checkpoints(raw []json.RawMessage) (list []audit.Checkpoint, err error) {
	for _, line := range raw {
		c, err := audit.ParseCheckpoint(line)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// AuditTail gives the last n entries, oldest first.
func (a *App) AuditTail(ctx context.Context, n int) (entries []audit.Entry, err error) {
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		last, ok, err := tx.LastAudit()
		if err != nil || !ok {
			return err
		}
		entries, err = tx.AuditEntries(max(1, last.Seq-int64(n)+1), n)
		return err
	})
	return entries, err
}

// ExportAudit writes the record in the form of docs/audit-format.md.
func (a *App) ExportAudit(ctx context.Context, w io.Writer) (report audit.Report, err error) {
	v, err := a.verifier(ctx, "")
	if err != nil {
		return report, err
	}
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		report, err = audit.Export(w, v, tx.Audit(), a.signer, a.now())
		return err
	})
	return report, err
}
