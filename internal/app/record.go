package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/report"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// LogPath and CalendarPath are the files of the record, in the state directory.
func (a *App) LogPath() string { return filepath.Join(a.stateDir, "rotation-log.md") }

// CalendarPath is the file with the next due date of every key.
func (a *App) CalendarPath() string { return filepath.Join(a.stateDir, "rotations.ics") }

// Record gives what is known of a rotation to the reports.
func (a *App) Record(ctx context.Context, id string) (report.Input, error) {
	v, err := a.Rotation(ctx, id)
	if err != nil {
		return report.Input{}, err
	}
	in := report.Input{Row: v.Row, Journal: v.Journal, Versions: v.Versions, Now: a.now(), Documented: a.LogPath(), DocumentedAt: recordedAt(v.Journal), ScheduledIn: a.CalendarPath()}
	if k, ok := a.Config.Keys[v.Row.Key]; ok {
		in.Owner = k.Owner
		if next := v.Versions[rotation.New]; !next.Activated.IsZero() {
			in.NextDue = policy.Due(a.class(k), next.Activated, next.Expires)
		}
	}
	err = a.Store.View(ctx, func(tx *store.Tx) error { return recordFacts(tx, &in) })
	return in, err
}

// recordFacts reads what the inventory says about the places and versions of a rotation.
func recordFacts(tx *store.Tx, in *report.Input) error {
	in.Seen, in.Told, in.Spares = nil, nil, 0
	told, err := tx.Deliveries(in.Row.ID)
	if err != nil {
		return err
	}
	for _, d := range told {
		in.Told = append(in.Told, report.Told{At: d.At, What: d.What, Channel: d.Channel})
	}
	seen, err := tx.Observations()
	if err != nil {
		return err
	}
	for _, o := range seen {
		if _, planned := in.Row.Plan.Place(o.Location); planned {
			in.Seen = append(in.Seen, report.SeenAt(o.Location, o.At, o.Holding, o.Confirmation))
		}
	}
	versions, err := tx.Versions(in.Row.Key)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if v.State == apikey.Spare {
			in.Spares++
		}
		if v.ID == in.Row.Plan.Old {
			in.Accepted = v.Tested
		}
	}
	if in.Row.Plan.Old == "" {
		return nil
	}
	_, _, err = tx.Sealed(in.Row.Plan.Old)
	in.InCustody = err == nil
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// recordedAt is when the rotation log was written, or zero.
func recordedAt(journal []rotation.Entry) (at time.Time) {
	for _, e := range journal {
		if e.Type == rotation.Made && strings.HasSuffix(e.Effect, "/"+string(rotation.Record)) {
			at = e.At
		}
	}
	return at
}

// report writes the rotation log and the calendar, and makes an audit checkpoint. It may be called again for the same rotation. outcome says how the
// rotation is about to end.
func (a *App) report(ctx context.Context, row rotation.Row, outcome string) error {
	in, err := a.Record(ctx, row.ID)
	if err != nil {
		return err
	}
	in.Outcome, in.DocumentedAt = outcome, a.now()
	if err := report.WriteLog(ctx, a.LogPath(), report.LogEntry(in)); err != nil {
		return err
	}
	if err := a.writeCalendar(ctx); err != nil {
		return err
	}
	return a.Checkpoint(ctx)
}

// witnessed refuses, as Invalid, a witness that the record could not be handed to. It writes nothing.
func (a *App) witnessed() error {
	path := a.Config.State.Witness
	if path == "" {
		return nil
	}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fault.New(fault.Invalid, fmt.Sprintf("look for the witness: there is no directory %q", dir), fault.Hint("make or mount it, or change state.witness in keywright.yaml"))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // the first checkpoint makes it
	case err != nil:
		return fault.New(fault.Invalid, fmt.Sprintf("look for the witness: %q cannot be appended to", path), fault.Hint("let the user that runs Keywright write it, or change state.witness in keywright.yaml"))
	}
	return fault.Wrap(fault.Unavailable, f.Close(), "look for the witness")
}

func (a *App) writeCalendar(ctx context.Context) error {
	versions, err := a.Versions(ctx, "")
	if err != nil {
		return err
	}
	var dues []report.Due
	for _, v := range versions {
		k, ok := a.Config.Keys[v.Key]
		if v.State != apikey.Current || !ok {
			continue
		}
		dues = append(dues, report.Due{Key: v.Key, Owner: k.Owner, At: policy.Due(a.class(k), v.Activated, v.Expires)})
	}
	return report.WriteCalendar(ctx, a.CalendarPath(), report.Calendar(a.Config.Organization, dues, a.now()))
}
