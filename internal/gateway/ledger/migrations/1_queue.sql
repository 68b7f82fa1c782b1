-- Words that the gateway keeps: the wrapped key of the queue, a declared degradation.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Requests that wait for the provider, and their results. Package queue says what the columns mean.
CREATE TABLE queue (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
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

CREATE UNIQUE INDEX queue_once ON queue (app, once) WHERE once IS NOT NULL;
