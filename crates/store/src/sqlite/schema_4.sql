-- Host keys: what the machines' agents claim that they are. Nothing is decided by them but what clients are told, so they
-- are no part of the inventory and leave the sequence as it is.
CREATE TABLE host_keys (
    instance TEXT NOT NULL REFERENCES instances (id),
    -- Pinned ones are what clients are told; pending ones are the last report, where that was something else.
    status TEXT NOT NULL CHECK (status IN ('pinned', 'pending')),
    key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 1024),
    PRIMARY KEY (instance, status, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX host_keys_by_key ON host_keys (key);

-- The identities of agents: which of their certificates are good, and whether they count at all.

ALTER TABLE agents RENAME TO agents_3;

CREATE TABLE agents (
    instance TEXT NOT NULL PRIMARY KEY REFERENCES instances (id),
    -- Generations: each certificate has its own, and they only go up.
    enrolled INTEGER NOT NULL CHECK (enrolled >= 1),
    used INTEGER NOT NULL CHECK (used >= enrolled),
    newest INTEGER NOT NULL CHECK (newest >= used),
    enrolled_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'revoked')),
    -- What its machine says of itself.
    anchor_set INTEGER NOT NULL CHECK (anchor_set >= 0)
) STRICT;

INSERT INTO agents (instance, enrolled, used, newest, enrolled_at, state, anchor_set)
SELECT instance, generation, generation, generation, enrolled_at, 'active', 0 FROM agents_3;

DROP TABLE agents_3;

-- Anchors that roll over. The keys are authorities.

CREATE TABLE anchor_rotation (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    current INTEGER NOT NULL CHECK (current >= 1),
    is_rolling_over INTEGER NOT NULL CHECK (is_rolling_over IN (0, 1)),
    changed_at INTEGER NOT NULL
) STRICT;

INSERT INTO anchor_rotation (only_row, current, is_rolling_over, changed_at) VALUES (1, 1, 0, 0);
