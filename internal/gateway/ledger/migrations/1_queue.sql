-- Words that the gateway keeps: the wrapped key of the queue, a declared degradation.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Requests that wait for the provider, and their results. Package queue says what the columns mean. It finds rows by seq
-- alone and holds ids and idempotency keys in memory: an index over random ids would dirty a page for each request.
CREATE TABLE queue (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL,
    app      TEXT NOT NULL,
    once     BLOB,
    state    TEXT NOT NULL,
    created  INTEGER NOT NULL,
    ended    INTEGER NOT NULL DEFAULT 0,
    wake     INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    size     INTEGER NOT NULL,
    status   INTEGER NOT NULL DEFAULT 0,
    sealed   BLOB NOT NULL
) STRICT;
