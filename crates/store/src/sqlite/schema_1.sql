-- Whoever reads these tables by hand: secrets are sealed, the hashes in join_tokens are of secrets that are kept nowhere.

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: raised by one in every transaction that changes anything below.
CREATE TABLE sequence (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT;

INSERT INTO sequence (only_row, value) VALUES (1, 0);

CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 12),
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    serial_console_access INTEGER NOT NULL CHECK (serial_console_access IN (0, 1))
) STRICT;

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 16 AND 128),
    account TEXT NOT NULL REFERENCES accounts (id),
    -- As in IAM, two names of one account that differ only in case are the same.
    name TEXT NOT NULL COLLATE NOCASE CHECK (length(name) BETWEEN 1 AND 64),
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    UNIQUE (account, name)
) STRICT;

CREATE TABLE user_policies (
    user TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    document TEXT NOT NULL,
    PRIMARY KEY (user, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE access_keys (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 16 AND 128),
    user TEXT NOT NULL REFERENCES users (id),
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    sealed_secret BLOB NOT NULL
) STRICT;

CREATE INDEX access_keys_by_user ON access_keys (user);

CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 10 AND 32),
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    availability_zone TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('pending', 'running', 'shutting-down', 'terminated', 'stopping', 'stopped'))
) STRICT;

CREATE INDEX instances_by_account ON instances (account);

CREATE TABLE instance_tags (
    instance TEXT NOT NULL REFERENCES instances (id),
    key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 128),
    value TEXT NOT NULL CHECK (length(value) <= 256),
    PRIMARY KEY (instance, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
    instance TEXT NOT NULL PRIMARY KEY REFERENCES instances (id),
    generation INTEGER NOT NULL CHECK (generation >= 1),
    enrolled_at INTEGER NOT NULL
) STRICT;

CREATE TABLE join_tokens (
    secret_hash BLOB NOT NULL PRIMARY KEY CHECK (length(secret_hash) = 32),
    instance TEXT NOT NULL REFERENCES instances (id),
    expires_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT;

CREATE INDEX join_tokens_by_instance ON join_tokens (instance);
CREATE INDEX join_tokens_by_expiry ON join_tokens (expires_at);

CREATE TABLE authorities (
    name TEXT NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    public BLOB NOT NULL,
    sealed_secret BLOB NOT NULL
) STRICT, WITHOUT ROWID;
