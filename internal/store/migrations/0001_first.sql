-- One text serves SQLite and PostgreSQL. Times are nanoseconds since 1970 in UTC, 0 for none. JSON is text, written and read
-- by Keywright alone.

-- +goose Up
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Holds no rows. On PostgreSQL its lock makes the transactions that write take turns.
CREATE TABLE writer (
    held BIGINT
);

CREATE TABLE slots (
    key_name     TEXT PRIMARY KEY,
    organization TEXT NOT NULL,
    workspace    TEXT NOT NULL,
    provider_url TEXT NOT NULL,
    pinned       BIGINT NOT NULL,
    pinned_by    TEXT NOT NULL
);

CREATE TABLE versions (
    id            TEXT PRIMARY KEY,
    key_name      TEXT NOT NULL,
    state         TEXT NOT NULL,
    compromised   BOOLEAN NOT NULL,
    digest        TEXT,
    provider_id   TEXT NOT NULL,
    provider_name TEXT NOT NULL,
    binding       TEXT NOT NULL,
    environment   TEXT NOT NULL,
    organization  TEXT NOT NULL,
    workspace     TEXT NOT NULL,
    principal     TEXT NOT NULL,
    purpose       TEXT NOT NULL,
    created_by    TEXT NOT NULL,
    adopted       BOOLEAN NOT NULL,
    created       BIGINT NOT NULL,
    added         BIGINT NOT NULL,
    tested        BIGINT NOT NULL,
    activated     BIGINT NOT NULL,
    expires       BIGINT NOT NULL,
    changed       BIGINT NOT NULL,
    forgotten     BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX versions_key ON versions (key_name, added);
CREATE UNIQUE INDEX versions_digest ON versions (digest) WHERE forgotten = 0;
CREATE UNIQUE INDEX versions_current ON versions (key_name) WHERE state = 'current' AND forgotten = 0;

-- The value is sealed by custody; only custody opens it.
CREATE TABLE sealed (
    version_id TEXT PRIMARY KEY REFERENCES versions (id),
    value      BYTEA NOT NULL,
    generation BIGINT NOT NULL
);

CREATE TABLE claims (
    version_id  TEXT PRIMARY KEY REFERENCES versions (id),
    rotation_id TEXT NOT NULL UNIQUE,
    made_at     BIGINT NOT NULL
);

CREATE TABLE desired (
    location    TEXT PRIMARY KEY,
    key_name    TEXT NOT NULL,
    version_id  TEXT NOT NULL REFERENCES versions (id),
    rotation_id TEXT NOT NULL,
    made_at     BIGINT NOT NULL
);

CREATE TABLE observations (
    location     TEXT PRIMARY KEY,
    made_at      BIGINT NOT NULL,
    holding      TEXT,
    fault        TEXT,
    confirmation TEXT
);

CREATE TABLE signatures (
    location    TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    signed_by   TEXT NOT NULL,
    uid         BIGINT NOT NULL,
    made_at     BIGINT NOT NULL,
    note        TEXT NOT NULL,
    rotation_id TEXT NOT NULL,
    PRIMARY KEY (location, fingerprint, rotation_id, signed_by, made_at)
);

-- All that decides sleeping, waking and who may write is on this one row. entries counts the lines of its journal.
CREATE TABLE rotations (
    id          TEXT PRIMARY KEY,
    key_name    TEXT NOT NULL,
    kind        TEXT NOT NULL,
    status      TEXT NOT NULL,
    plan        TEXT NOT NULL,
    created     BIGINT NOT NULL,
    updated     BIGINT NOT NULL,
    ended       BIGINT NOT NULL,
    note        TEXT NOT NULL,
    hint        TEXT NOT NULL,
    wake_at     BIGINT NOT NULL,
    signals     BIGINT NOT NULL,
    fence       BIGINT NOT NULL,
    lease_owner TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    entries     BIGINT NOT NULL
);
CREATE UNIQUE INDEX rotations_active ON rotations (key_name) WHERE ended = 0;
CREATE INDEX rotations_due ON rotations (wake_at) WHERE ended = 0;
CREATE INDEX rotations_created ON rotations (created);
-- All that status asks of ended rotations, so that their plans, which are long, need not be passed over.
CREATE INDEX rotations_ended ON rotations (key_name, ended DESC, created DESC, id DESC, kind, status) WHERE ended <> 0;

CREATE TABLE journal (
    rotation_id TEXT NOT NULL REFERENCES rotations (id),
    seq         BIGINT NOT NULL,
    made_at     BIGINT NOT NULL,
    type        TEXT NOT NULL,
    effect      TEXT NOT NULL,
    fence       BIGINT NOT NULL,
    data        TEXT,
    fault       TEXT,
    signal      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    PRIMARY KEY (rotation_id, seq)
);

CREATE TABLE place_locks (
    name    TEXT PRIMARY KEY,
    holder  TEXT NOT NULL,
    made_at BIGINT NOT NULL
);

CREATE TABLE audit (
    seq   BIGINT PRIMARY KEY,
    entry TEXT NOT NULL
);

CREATE TABLE checkpoints (
    seq        BIGINT PRIMARY KEY,
    checkpoint TEXT NOT NULL
);

CREATE TABLE incidents (
    id          TEXT PRIMARY KEY,
    key_name    TEXT NOT NULL,
    rotation_id TEXT NOT NULL,
    opened      BIGINT NOT NULL,
    closed      BIGINT NOT NULL,
    title       TEXT NOT NULL,
    status      TEXT NOT NULL
);
