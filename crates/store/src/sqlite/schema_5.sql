-- What was done on the control plane's machine with the daemon's own commands, until it is in the audit log. It is no part of
-- the inventory; what was done has raised the sequence.
CREATE TABLE operator_events (
    number INTEGER NOT NULL PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    time INTEGER NOT NULL,
    uid INTEGER NOT NULL CHECK (uid BETWEEN 0 AND 4294967295),
    action TEXT NOT NULL
) STRICT;

-- From when on a push has to be signed, where keys were revoked: a captured one could be sent again.
CREATE TABLE revocations (
    account TEXT NOT NULL REFERENCES accounts (id),
    -- What was revoked is what fits in every respect that is not empty.
    instance TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    principal TEXT NOT NULL,
    revoked_at INTEGER NOT NULL,
    PRIMARY KEY (account, instance, fingerprint, principal)
) STRICT, WITHOUT ROWID;

CREATE INDEX revocations_by_time ON revocations (revoked_at);
