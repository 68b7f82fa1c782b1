package ledger

import (
	"context"
	"strings"
	"time"
)

// Object says to whom something at the provider belongs.
type Object struct {
	// ID is the provider's.
	ID string
	// Kind is a word of the caller's, such as "file".
	Kind string
	// App is the application that owns it.
	App string
	// Organization and Workspace are where it is at the provider; empty means "not known".
	Organization, Workspace string
	// Created and Expires are the provider's times, kept to the microsecond; zero Expires means never.
	Created, Expires time.Time
	// Seq is the order of recording, given by the ledger.
	Seq int64
}

// Own records that objects belong to applications. It is on the disk when Own returns. An object that is recorded already keeps its owner
// and its place; the expiry of one with the same owner is replaced.
func (l *Ledger) Own(ctx context.Context, objects ...Object) error {
	return l.Update(ctx, "record objects", func(t *Tx) error {
		for _, o := range objects {
			if _, err := t.Exec(`INSERT INTO objects (id, kind, app, organization, workspace, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)
				ON CONFLICT (id) DO UPDATE SET expires = excluded.expires WHERE app = excluded.app AND kind = excluded.kind`,
				o.ID, o.Kind, o.App, o.Organization, o.Workspace, o.Created.UnixMicro(), micros(o.Expires)); err != nil {
				return err
			}
		}
		return nil
	})
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

const objectColumns = `SELECT seq, id, kind, app, organization, workspace, created, expires FROM objects `

func readObject(scan func(dest ...any) error) (Object, error) {
	var o Object
	var created, expires int64
	if err := scan(&o.Seq, &o.ID, &o.Kind, &o.App, &o.Organization, &o.Workspace, &created, &expires); err != nil {
		return o, err
	}
	o.Created = time.UnixMicro(created).UTC()
	if expires > 0 {
		o.Expires = time.UnixMicro(expires).UTC()
	}
	return o, nil
}

// chunk is how many ids one query asks for.
const chunk = 500

// Objects gives those of the ids that are recorded, in no order.
func (l *Ledger) Objects(ctx context.Context, ids []string) ([]Object, error) {
	var all []Object
	for len(ids) > 0 {
		n := min(len(ids), chunk)
		args := make([]any, n)
		for i, id := range ids[:n] {
			args[i] = id
		}
		ids = ids[n:]
		err := l.Each(ctx, "read objects", objectColumns+`WHERE id IN (?`+strings.Repeat(`,?`, n-1)+`)`, args, func(scan func(...any) error) error {
			o, err := readObject(scan)
			all = append(all, o)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ObjectsOf gives at most n objects of an application and kind, newest first: those before the place of after, or from the newest when after is
// the zero Object.
func (l *Ledger) ObjectsOf(ctx context.Context, app, kind string, after Object, n int) ([]Object, error) {
	query, args := objectColumns+`WHERE app = ? AND kind = ? `, []any{app, kind}
	if after.Seq != 0 {
		query += `AND (created, seq) < (?, ?) `
		args = append(args, after.Created.UnixMicro(), after.Seq)
	}
	var all []Object
	err := l.Each(ctx, "list objects", query+`ORDER BY created DESC, seq DESC LIMIT ?`, append(args, n), func(scan func(...any) error) error {
		o, err := readObject(scan)
		all = append(all, o)
		return err
	})
	return all, err
}

// Forget removes objects; ids that are not recorded are passed over.
func (l *Ledger) Forget(ctx context.Context, ids ...string) error {
	return l.Update(ctx, "forget objects", func(t *Tx) error {
		for _, id := range ids {
			if _, err := t.Exec(`DELETE FROM objects WHERE id = ?`, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// Prune removes the objects that expired before a time.
func (l *Ledger) Prune(ctx context.Context, before time.Time) error {
	return l.Update(ctx, "prune objects", func(t *Tx) error {
		_, err := t.Exec(`DELETE FROM objects WHERE expires > 0 AND expires < ?`, before.UnixMicro())
		return err
	})
}
