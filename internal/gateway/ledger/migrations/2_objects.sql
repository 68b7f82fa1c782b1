-- Objects at the provider that belong to an application: batches, files, skills, containers, conversations kept by the provider.
-- created and expires are unix microseconds; expires is 0 for what does not expire.
CREATE TABLE objects (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    kind         TEXT NOT NULL,
    app          TEXT NOT NULL,
    organization TEXT NOT NULL,
    workspace    TEXT NOT NULL,
    created      INTEGER NOT NULL,
    expires      INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX objects_of ON objects (app, kind, created, seq);
CREATE INDEX objects_expire ON objects (expires) WHERE expires > 0;
