-- Groups, managed policies, permissions boundaries, tags of users, and each account's root.

-- Every table below that joins two things of an account has the account in it, and both of its foreign keys name the
-- account: no row can give somebody another account's policy or group.

-- Managed policies.
CREATE TABLE policies (
    account TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    document TEXT NOT NULL,
    PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;

-- As in IAM, two names of one account that differ only in case are the same. What refers to one spells it as it is here.
CREATE UNIQUE INDEX policies_by_name ON policies (account, name COLLATE NOCASE);

-- SQLite changes no check of a table that exists, so this one is made anew. Its rows are back before the commit, which
-- is when the foreign keys of others to them are looked at.
PRAGMA defer_foreign_keys = ON;
CREATE TABLE users_of_version_1 AS SELECT id, account, name, status FROM users;
DROP TABLE users;

CREATE TABLE users (
    -- An account's root is the one user whose id is the account's. It has no name.
    id TEXT NOT NULL PRIMARY KEY CHECK (id = account OR length(id) BETWEEN 16 AND 128),
    account TEXT NOT NULL REFERENCES accounts (id),
    -- As in IAM, two names of one account that differ only in case are the same.
    name TEXT COLLATE NOCASE CHECK ((name IS NULL) = (id = account) AND length(name) BETWEEN 1 AND 64),
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    -- The managed policy that is its permissions boundary.
    boundary TEXT CHECK (id <> account OR boundary IS NULL),
    UNIQUE (account, name),
    UNIQUE (account, id),
    FOREIGN KEY (account, boundary) REFERENCES policies (account, name)
) STRICT;

INSERT INTO users (id, account, name, status) SELECT id, account, name, status FROM users_of_version_1;
DROP TABLE users_of_version_1;

CREATE INDEX users_by_boundary ON users (account, boundary);

CREATE TABLE user_tags (
    user TEXT NOT NULL REFERENCES users (id) CHECK (length(user) >= 16),
    -- As in IAM, two keys of one user that differ only in case are the same.
    key TEXT NOT NULL COLLATE NOCASE CHECK (length(key) BETWEEN 1 AND 128),
    value TEXT NOT NULL CHECK (length(value) <= 256),
    PRIMARY KEY (user, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE attached_user_policies (
    account TEXT NOT NULL,
    user TEXT NOT NULL CHECK (user <> account),
    policy TEXT NOT NULL,
    PRIMARY KEY (user, policy),
    FOREIGN KEY (account, user) REFERENCES users (account, id),
    FOREIGN KEY (account, policy) REFERENCES policies (account, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX attached_user_policies_by_policy ON attached_user_policies (account, policy);

CREATE TABLE groups (
    account TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX groups_by_name ON groups (account, name COLLATE NOCASE);

CREATE TABLE group_members (
    account TEXT NOT NULL,
    group_name TEXT NOT NULL,
    user TEXT NOT NULL CHECK (user <> account),
    PRIMARY KEY (user, group_name),
    FOREIGN KEY (account, user) REFERENCES users (account, id),
    FOREIGN KEY (account, group_name) REFERENCES groups (account, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX group_members_by_group ON group_members (account, group_name);

CREATE TABLE group_policies (
    account TEXT NOT NULL,
    group_name TEXT NOT NULL,
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    document TEXT NOT NULL,
    PRIMARY KEY (account, group_name, name),
    FOREIGN KEY (account, group_name) REFERENCES groups (account, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE attached_group_policies (
    account TEXT NOT NULL,
    group_name TEXT NOT NULL,
    policy TEXT NOT NULL,
    PRIMARY KEY (account, group_name, policy),
    FOREIGN KEY (account, group_name) REFERENCES groups (account, name),
    FOREIGN KEY (account, policy) REFERENCES policies (account, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX attached_group_policies_by_policy ON attached_group_policies (account, policy);
