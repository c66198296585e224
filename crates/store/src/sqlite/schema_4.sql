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
