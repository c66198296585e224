-- The management account, and the signatures of administrative requests that have been performed.

-- The account that was made first: its principals make and suspend the others.
CREATE TABLE management_account (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    account TEXT NOT NULL REFERENCES accounts (id)
) STRICT;

INSERT INTO management_account (only_row, account) SELECT 1, id FROM accounts ORDER BY rowid LIMIT 1;

-- Each signature is good for one administrative request. These two tables are no part of the inventory and leave the
-- sequence as it is.
CREATE TABLE used_signatures (
    signature BLOB NOT NULL PRIMARY KEY CHECK (length(signature) = 32),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX used_signatures_by_expiry ON used_signatures (expires_at);

-- Signatures that expired before this time are no longer known, so none of them is taken, whatever a clock says.
CREATE TABLE forgotten_signatures (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    expired_before INTEGER NOT NULL
) STRICT;

INSERT INTO forgotten_signatures (only_row, expired_before) VALUES (1, 0);
