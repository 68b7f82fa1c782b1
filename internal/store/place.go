package store

import (
	"database/sql"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/rotation"
)

// desiredScan makes a function that reads one after another; see versionScan.
func desiredScan() func(scanner) (Desired, error) {
	d := new(Desired)
	dest := []any{&d.Location, (*string)(&d.Key), (*string)(&d.Version), &d.Rotation, timeColumn{&d.At}}
	return func(row scanner) (Desired, error) {
		*d = Desired{}
		err := row.Scan(dest...)
		return *d, err
	}
}

// SetDesired says what a location is meant to hold from now on; a zero At becomes now. Kinds: Invalid, NotFound (no such
// version).
func (t *Tx) SetDesired(d Desired) error {
	const what = "set desired version"
	if d.Location == "" || !d.Key.Valid() {
		return fault.New(fault.Invalid, what+": it lacks a location or a valid key")
	}
	if _, err := t.Version(d.Version); err != nil {
		return fault.In(err, what)
	}
	if d.At.IsZero() {
		d.At = t.s.now()
	}
	_, err := t.exec(what, `INSERT INTO desired (location, key_name, version_id, rotation_id, made_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (location) DO UPDATE SET key_name = excluded.key_name, version_id = excluded.version_id,
			rotation_id = excluded.rotation_id, made_at = excluded.made_at`,
		d.Location, string(d.Key), string(d.Version), d.Rotation, nanos(d.At))
	return err
}

// Desired gives what the locations of a key, or of all keys when it is empty, are meant to hold, by location.
func (t *Tx) Desired(key apikey.Name) ([]Desired, error) {
	const what, query = "read desired versions", `SELECT location, key_name, version_id, rotation_id, made_at FROM desired`
	if key == "" {
		list, err := all(t, what, desiredScan(), query) // sorted here, since by its index SQLite looks up each row
		slices.SortFunc(list, func(a, b Desired) int { return strings.Compare(a.Location, b.Location) })
		return list, err
	}
	return all(t, what, desiredScan(), query+` WHERE key_name = $1 ORDER BY location`, string(key))
}

// DropDesired forgets a location that is no longer configured: what it was meant to hold and what was last seen there.
func (t *Tx) DropDesired(location string) error {
	if _, err := t.exec("drop desired version", `DELETE FROM desired WHERE location = $1`, location); err != nil {
		return err
	}
	_, err := t.exec("drop observation", `DELETE FROM observations WHERE location = $1`, location)
	return err
}

// PutObservation keeps what was seen at a location; a zero At becomes now. An observation older than the one that is kept is
// left out without an error. Unless Err is set, what the observation does not say stays as it was: the holding, and the
// confirmation as long as the location holds the same. Kind: Invalid.
func (t *Tx) PutObservation(o Observation) error {
	const what = "put observation"
	if o.Location == "" {
		return fault.New(fault.Invalid, what+": it lacks a location")
	}
	if o.At.IsZero() {
		o.At = t.s.now()
	}
	holding, err := rawText(what, o.Holding)
	if err != nil {
		return err
	}
	confirmation, err := rawText(what, o.Confirmation)
	if err != nil {
		return err
	}
	seen, err := faultText(what, o.Err)
	if err != nil {
		return err
	}
	_, err = t.exec(what, `INSERT INTO observations (location, made_at, holding, fault, confirmation) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (location) DO UPDATE SET made_at = excluded.made_at, fault = excluded.fault,
			holding = CASE WHEN excluded.fault IS NULL THEN COALESCE(excluded.holding, observations.holding)
				ELSE excluded.holding END,
			confirmation = CASE WHEN excluded.fault IS NULL AND COALESCE(excluded.holding = observations.holding, excluded.holding IS NULL)
				THEN COALESCE(excluded.confirmation, observations.confirmation) ELSE excluded.confirmation END
		WHERE observations.made_at <= excluded.made_at`, o.Location, nanos(o.At), holding, seen, confirmation)
	return err
}

// Observations gives the last thing seen at each location, by location.
func (t *Tx) Observations() ([]Observation, error) {
	o := new(Observation)
	dest := []any{&o.Location, timeColumn{&o.At}, rawColumn{&o.Holding}, jsonColumn{&o.Err}, rawColumn{&o.Confirmation}}
	scan := func(row scanner) (Observation, error) {
		*o = Observation{}
		err := row.Scan(dest...)
		return *o, err
	}
	list, err := all(t, "read observations", scan, `SELECT location, made_at, holding, fault, confirmation FROM observations`)
	slices.SortFunc(list, func(a, b Observation) int { return strings.Compare(a.Location, b.Location) })
	return list, err
}

func faultText(what string, f *rotation.Fault) (text sql.NullString, err error) {
	if f == nil {
		return text, nil
	}
	text.Valid = true
	text.String, err = jsonText(what, f)
	return text, err
}

// Sign keeps a signature; a zero At becomes now. Signatures are never changed or removed. Kind: Invalid.
func (t *Tx) Sign(s Signature) error {
	if s.Location == "" || s.By == "" {
		return fault.New(fault.Invalid, "sign: it lacks a location or a signer")
	}
	if s.At.IsZero() {
		s.At = t.s.now()
	}
	_, err := t.exec("sign", `INSERT INTO signatures (location, fingerprint, signed_by, uid, made_at, note, rotation_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		s.Location, string(s.Fingerprint), s.By, int64(s.UID), nanos(s.At), s.Note, s.Rotation)
	return err
}

// Signatures gives the signatures for a location, or for all when it is empty, newest first.
func (t *Tx) Signatures(location string) ([]Signature, error) {
	scan := func(row scanner) (s Signature, err error) {
		err = row.Scan(&s.Location, &s.Fingerprint, &s.By, &s.UID, timeColumn{&s.At}, &s.Note, &s.Rotation)
		return s, err
	}
	const what, query = "read signatures", `SELECT location, fingerprint, signed_by, uid, made_at, note, rotation_id FROM signatures`
	if location == "" {
		return all(t, what, scan, query+` ORDER BY made_at DESC, location`)
	}
	return all(t, what, scan, query+` WHERE location = $1 ORDER BY made_at DESC, signed_by`, location)
}

func scanLock(row scanner) (l Lock, err error) {
	err = row.Scan(&l.Name, &l.Holder, timeColumn{&l.At})
	return l, err
}

// TakeLock takes the lock for the holder; ok is false while another has it. Taking it again is fine. Kind: Invalid.
func (t *Tx) TakeLock(name, holder string) (ok bool, err error) {
	const what = "take lock"
	if name == "" || holder == "" {
		return false, fault.New(fault.Invalid, what+": it lacks a name or a holder")
	}
	if _, err := t.exec(what, `INSERT INTO place_locks (name, holder, made_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		name, holder, nanos(t.s.now())); err != nil {
		return false, err
	}
	l, _, err := one(t, what, scanLock, `SELECT name, holder, made_at FROM place_locks WHERE name = $1`, name)
	return err == nil && l.Holder == holder, err
}

// ReleaseLock ends the holder's lock of this name, if it has it.
func (t *Tx) ReleaseLock(name, holder string) error {
	_, err := t.exec("release lock", `DELETE FROM place_locks WHERE name = $1 AND holder = $2`, name, holder)
	return err
}

// ReleaseLocks ends all locks of the holder.
func (t *Tx) ReleaseLocks(holder string) error {
	_, err := t.exec("release locks", `DELETE FROM place_locks WHERE holder = $1`, holder)
	return err
}

// Locks gives all locks, by name.
func (t *Tx) Locks() ([]Lock, error) {
	return all(t, "read locks", scanLock, `SELECT name, holder, made_at FROM place_locks ORDER BY name`)
}

func scanIncident(row scanner) (i Incident, err error) {
	err = row.Scan(&i.ID, &i.Key, &i.Rotation, timeColumn{&i.Opened}, timeColumn{&i.Closed}, &i.Title, &i.Status)
	return i, err
}

// OpenIncident keeps a new incident; a zero Opened becomes now. Kinds: Invalid; Conflict when the id is in use.
func (t *Tx) OpenIncident(i Incident) error {
	const what = "open incident"
	if i.ID == "" {
		return fault.New(fault.Invalid, what+": it lacks an id")
	}
	if i.Opened.IsZero() {
		i.Opened = t.s.now()
	}
	n, err := t.exec(what, `INSERT INTO incidents (id, key_name, rotation_id, opened, closed, title, status)
		VALUES ($1, $2, $3, $4, 0, $5, $6) ON CONFLICT DO NOTHING`,
		i.ID, string(i.Key), i.Rotation, nanos(i.Opened), i.Title, i.Status)
	if err == nil && n == 0 {
		err = fault.Newf(fault.Conflict, "%s: %q exists", what, i.ID)
	}
	return err
}

// CloseIncident ends an incident now. Kinds: NotFound; Conflict when it is closed.
func (t *Tx) CloseIncident(id, status string) error {
	const what = "close incident"
	i, ok, err := one(t, what, scanIncident, incidentQuery+` WHERE id = $1`, id)
	switch {
	case err != nil:
		return err
	case !ok:
		return fault.Newf(fault.NotFound, "%s: there is no %q", what, id)
	case !i.Closed.IsZero():
		return fault.Newf(fault.Conflict, "%s: %q is closed", what, id)
	}
	_, err = t.exec(what, `UPDATE incidents SET closed = $2, status = $3 WHERE id = $1`, id, nanos(t.s.now()), status)
	return err
}

const incidentQuery = `SELECT id, key_name, rotation_id, opened, closed, title, status FROM incidents`

// Incidents gives all incidents, or the open ones alone, newest first.
func (t *Tx) Incidents(open bool) ([]Incident, error) {
	query := incidentQuery
	if open {
		query += ` WHERE closed = 0`
	}
	return all(t, "read incidents", scanIncident, query+` ORDER BY opened DESC, id DESC`)
}
