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
	f, err := os.Open(against)
	if err != nil {
		return v, fault.Wrap(fault.NotFound, err, "read checkpoints")
	}
	defer f.Close()
	w, err := audit.ReadCheckpoints(f)
	v.Witnessed = append(v.Witnessed, w...)
	return v, err
}

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
