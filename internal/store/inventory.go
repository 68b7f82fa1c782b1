package store

import (
	"cmp"
	"slices"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/fault"
	"github.com/keywright/keywright/internal/secret"
)

const versionColumns = `id, key_name, state, compromised, digest, provider_id, provider_name, binding, environment, organization,
	workspace, principal, purpose, created_by, adopted, created, added, tested, activated, expires, changed`

// versionScan makes a function that reads one version after another. Its variables serve every row, since there may be thousands; names are
// read as plain strings, which database/sql assigns without reflection.
func versionScan() func(scanner) (apikey.Version, error) {
	v := new(apikey.Version)
	dest := []any{
		(*string)(&v.ID), (*string)(&v.Key), (*string)(&v.State), &v.Compromised, digestColumn{&v.Digest}, &v.ProviderID, &v.ProviderName, (*string)(&v.Binding),
		(*string)(&v.Environment), &v.Organization, &v.Workspace, &v.Principal, &v.Purpose, &v.CreatedBy, &v.Adopted,
		timeColumn{&v.Created}, timeColumn{&v.Added}, timeColumn{&v.Tested}, timeColumn{&v.Activated}, timeColumn{&v.Expires}, timeColumn{&v.Changed},
	}
	return func(row scanner) (apikey.Version, error) {
		*v = apikey.Version{}
		err := row.Scan(dest...)
		return *v, err
	}
}

// PutVersion adds a version, or replaces the one with its ID; a zero Added becomes now. Among the versions that were not
// forgotten a digest occurs once, and a key has one current version: to replace that, put the old one as previous first.
// A version never changes its key, nor its digest once that is known. Kinds: Invalid, Conflict.
func (t *Tx) PutVersion(v apikey.Version) error {
	const what = "put version"
	if v.ID == "" || v.State == "" || !v.Key.Valid() {
		return fault.New(fault.Invalid, what+": it lacks an id, a state or a valid key")
	}
	if v.Added.IsZero() {
		v.Added = t.s.now()
	}
	if err := t.clash(v); err != nil {
		return fault.In(err, what)
	}
	n, err := t.exec(what, `INSERT INTO versions (`+versionColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, compromised = excluded.compromised, digest = excluded.digest,
			provider_id = excluded.provider_id, provider_name = excluded.provider_name, binding = excluded.binding,
			environment = excluded.environment, organization = excluded.organization, workspace = excluded.workspace,
			principal = excluded.principal, purpose = excluded.purpose, created_by = excluded.created_by,
			adopted = excluded.adopted, created = excluded.created, added = excluded.added, tested = excluded.tested,
			activated = excluded.activated, expires = excluded.expires, changed = excluded.changed
		WHERE versions.forgotten = 0 AND versions.key_name = excluded.key_name
			AND (versions.digest IS NULL OR versions.digest = excluded.digest)`,
		string(v.ID), string(v.Key), string(v.State), v.Compromised, digestText(v.Digest), v.ProviderID, v.ProviderName,
		string(v.Binding), string(v.Environment), v.Organization, v.Workspace, v.Principal, v.Purpose, v.CreatedBy, v.Adopted,
		nanos(v.Created), nanos(v.Added), nanos(v.Tested), nanos(v.Activated), nanos(v.Expires), nanos(v.Changed))
	if err == nil && n == 0 {
		err = fault.Newf(fault.Conflict, "%s: %s was forgotten, or belongs to another key or value", what, v.ID)
	}
	return err
}

// clash finds the version that a unique index would name without words.
func (t *Tx) clash(v apikey.Version) error {
	if other, ok, err := t.VersionByDigest(v.Digest); err != nil || ok && other.ID != v.ID {
		if err != nil {
			return err
		}
		return fault.New(fault.Conflict, "the value is known as version "+string(other.ID)+" of key "+string(other.Key),
			fault.Hint("keywright key show %s", other.Key))
	}
	if v.State != apikey.Current {
		return nil
	}
	other, ok, err := one(t, "read current version", versionScan(), `SELECT `+versionColumns+` FROM versions
		WHERE key_name = $1 AND state = 'current' AND forgotten = 0 AND id <> $2`, string(v.Key), string(v.ID))
	if err != nil || !ok {
		return err
	}
	return fault.New(fault.Conflict, "key "+string(v.Key)+" has a current version, "+string(other.ID))
}

// Version gives the version with this id, also when it was forgotten. Kind: NotFound.
func (t *Tx) Version(id apikey.VersionID) (apikey.Version, error) {
	v, ok, err := one(t, "read version", versionScan(), `SELECT `+versionColumns+` FROM versions WHERE id = $1`, string(id))
	if err == nil && !ok {
		err = fault.Newf(fault.NotFound, "read version: there is no %q", string(id))
	}
	return v, err
}

// Versions gives the versions of a key, or of all keys when it is empty, ordered by when they were added. Forgotten ones are
// left out.
func (t *Tx) Versions(key apikey.Name) ([]apikey.Version, error) {
	const what, query = "read versions", `SELECT ` + versionColumns + ` FROM versions WHERE forgotten + 0 = 0`
	if key != "" {
		return all(t, what, versionScan(), query+` AND key_name = $1 ORDER BY added, id`, string(key))
	}
	// The whole table is read as it lies, which the sum tells SQLite, and sorted here: by its index each row is looked up, and its sort copies all
	// columns.
	n, err := t.count(what, `SELECT COUNT(*) FROM versions`)
	if err != nil {
		return nil, err
	}
	list, err := some(t, what, n, versionScan(), query)
	older := func(a, b apikey.Version) int {
		return cmp.Or(a.Added.Compare(b.Added), cmp.Compare(a.ID, b.ID))
	}
	if !slices.IsSortedFunc(list, older) {
		slices.SortFunc(list, older)
	}
	return list, err
}

// VersionByDigest finds the version with this whole digest; forgotten ones are left out. The zero Digest finds nothing.
func (t *Tx) VersionByDigest(d apikey.Digest) (apikey.Version, bool, error) {
	if !d.Known() {
		return apikey.Version{}, false, nil
	}
	return one(t, "read version", versionScan(),
		`SELECT `+versionColumns+` FROM versions WHERE digest = $1 AND forgotten = 0`, digestText(d))
}

// Forget drops the sealed value of a version and leaves the version out of Versions and VersionByDigest, so that its value may
// be handed in again. A compromised version is kept, since its digest is what keeps that value out; so is one that a rotation
// holds. Kinds: NotFound, Conflict.
func (t *Tx) Forget(id apikey.VersionID) error {
	const what = "forget version"
	v, err := t.Version(id)
	if err != nil {
		return fault.In(err, what)
	}
	if v.Compromised {
		return fault.New(fault.Conflict, what+": it is compromised, and its record keeps the value from coming back")
	}
	claims, err := t.Claims()
	if err != nil {
		return fault.In(err, what)
	}
	for _, c := range claims {
		if c.Version == id {
			return fault.New(fault.Conflict, what+": rotation "+c.Rotation+" holds it", fault.Hint("keywright rotation show %s", c.Rotation))
		}
	}
	if err := t.DropSealed(id); err != nil {
		return err
	}
	_, err = t.exec(what, `UPDATE versions SET forgotten = $2 WHERE id = $1 AND forgotten = 0`, string(id), nanos(t.s.now()))
	return err
}

type sealedRow struct {
	value      secret.Sealed
	generation int
}

// PutSealed keeps the sealed value of a version, in place of an earlier one. The version must be there. Generation is that of
// the master key. Kinds: Invalid, NotFound.
func (t *Tx) PutSealed(id apikey.VersionID, value secret.Sealed, generation int) error {
	const what = "put sealed value"
	if len(value) == 0 {
		return fault.New(fault.Invalid, what+": it is empty")
	}
	if _, err := t.Version(id); err != nil {
		return fault.In(err, what)
	}
	_, err := t.exec(what, `INSERT INTO sealed (version_id, value, generation) VALUES ($1, $2, $3)
		ON CONFLICT (version_id) DO UPDATE SET value = excluded.value, generation = excluded.generation`,
		string(id), []byte(value), int64(generation))
	return err
}

// Sealed gives the sealed value of a version and the generation of its master key. Kind: NotFound.
func (t *Tx) Sealed(id apikey.VersionID) (secret.Sealed, int, error) {
	scan := func(row scanner) (r sealedRow, err error) {
		var b []byte
		err = row.Scan(&b, &r.generation)
		r.value = secret.Sealed(b)
		return r, err
	}
	r, ok, err := one(t, "read sealed value", scan, `SELECT value, generation FROM sealed WHERE version_id = $1`, string(id))
	if err == nil && !ok {
		err = fault.Newf(fault.NotFound, "read sealed value: custody has none of version %q", string(id))
	}
	return r.value, r.generation, err
}

// DropSealed removes the sealed value of a version; it is no error when there is none. The file's free pages are overwritten;
// copies in backups and in the write-ahead log stay until those go.
func (t *Tx) DropSealed(id apikey.VersionID) error {
	_, err := t.exec("drop sealed value", `DELETE FROM sealed WHERE version_id = $1`, string(id))
	return err
}

// SealedIDs lists the versions that have a sealed value, by id.
func (t *Tx) SealedIDs() ([]apikey.VersionID, error) {
	scan := func(row scanner) (id apikey.VersionID, err error) {
		err = row.Scan(&id)
		return id, err
	}
	return all(t, "read sealed values", scan, `SELECT version_id FROM sealed ORDER BY version_id`)
}

// ClaimSpare gives a version to a rotation, for it alone. Repeating it for the same rotation does nothing. Kinds: NotFound;
// Conflict when another rotation holds it, when the rotation holds another version, or when it is compromised.
func (t *Tx) ClaimSpare(version apikey.VersionID, rotationID string) error {
	const what = "claim version"
	v, err := t.Version(version)
	if err != nil {
		return fault.In(err, what)
	}
	if v.Compromised {
		return fault.New(fault.Conflict, what+": it is compromised")
	}
	if rotationID == "" {
		return fault.New(fault.Invalid, what+": no rotation is named")
	}
	if _, err := t.exec(what, `INSERT INTO claims (version_id, rotation_id, made_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		string(version), rotationID, nanos(t.s.now())); err != nil {
		return err
	}
	c, ok, err := one(t, what, scanClaim, `SELECT version_id, rotation_id, made_at FROM claims
		WHERE version_id = $1 OR rotation_id = $2 ORDER BY CASE WHEN version_id = $1 THEN 0 ELSE 1 END`, string(version), rotationID)
	switch {
	case err != nil:
		return err
	case ok && c.Version == version && c.Rotation == rotationID:
		return nil
	case c.Version == version:
		return fault.New(fault.Conflict, what+": rotation "+c.Rotation+" holds it", fault.Hint("keywright rotation show %s", c.Rotation))
	}
	return fault.New(fault.Conflict, what+": the rotation holds version "+string(c.Version))
}

func scanClaim(row scanner) (c SpareClaim, err error) {
	err = row.Scan(&c.Version, &c.Rotation, timeColumn{&c.At})
	return c, err
}

// ReleaseClaim ends the rotation's hold on a version, if it has one.
func (t *Tx) ReleaseClaim(rotationID string) error {
	_, err := t.exec("release claim", `DELETE FROM claims WHERE rotation_id = $1`, rotationID)
	return err
}

// Claim gives the version that the rotation holds; ok is false when it holds none.
func (t *Tx) Claim(rotationID string) (id apikey.VersionID, ok bool, err error) {
	c, ok, err := one(t, "read claim", scanClaim, `SELECT version_id, rotation_id, made_at FROM claims WHERE rotation_id = $1`, rotationID)
	return c.Version, ok, err
}

// Claims gives every hold of a rotation on a version, oldest first.
func (t *Tx) Claims() ([]SpareClaim, error) {
	return all(t, "read claims", scanClaim, `SELECT version_id, rotation_id, made_at FROM claims ORDER BY made_at, version_id`)
}

func scanSlot(row scanner) (s Slot, err error) {
	err = row.Scan(&s.Key, &s.Organization, &s.Workspace, &s.ProviderURL, timeColumn{&s.Pinned}, &s.PinnedBy)
	return s, err
}

// Slot gives where a key is pinned; ok is false when it is not.
func (t *Tx) Slot(key apikey.Name) (slot Slot, ok bool, err error) {
	return one(t, "read slot", scanSlot, `SELECT key_name, organization, workspace, provider_url, pinned, pinned_by FROM slots
		WHERE key_name = $1`, string(key))
}

// PutSlot pins a key, in place of what was pinned before; a zero Pinned becomes now. Kind: Invalid.
func (t *Tx) PutSlot(slot Slot) error {
	if !slot.Key.Valid() {
		return fault.New(fault.Invalid, "put slot: no valid key")
	}
	if slot.Pinned.IsZero() {
		slot.Pinned = t.s.now()
	}
	_, err := t.exec("put slot", `INSERT INTO slots (key_name, organization, workspace, provider_url, pinned, pinned_by)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (key_name) DO UPDATE SET organization = excluded.organization, workspace = excluded.workspace,
			provider_url = excluded.provider_url, pinned = excluded.pinned, pinned_by = excluded.pinned_by`,
		string(slot.Key), slot.Organization, slot.Workspace, slot.ProviderURL, nanos(slot.Pinned), slot.PinnedBy)
	return err
}

const metaStoreID = "store.id"

// Meta gives a named text; ok is false when it was never set.
func (t *Tx) Meta(name string) (value string, ok bool, err error) {
	scan := func(row scanner) (v string, err error) {
		err = row.Scan(&v)
		return v, err
	}
	return one(t, "read meta", scan, `SELECT value FROM meta WHERE name = $1`, name)
}

// SetMeta sets a named text. Names beginning with "store." are the store's own.
func (t *Tx) SetMeta(name, value string) error {
	_, err := t.exec("set meta", `INSERT INTO meta (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return err
}
