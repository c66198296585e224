-- Which generation of the key signs documents for the metadata service. The keys are authorities.
CREATE TABLE stock_rotation (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    -- 0 before there is any.
    current INTEGER NOT NULL CHECK (current >= 0),
    changed_at INTEGER NOT NULL,
    -- Whether the one before is.
    is_revoked INTEGER NOT NULL CHECK (is_revoked IN (0, 1))
) STRICT;

INSERT INTO stock_rotation (only_row, current, changed_at, is_revoked) VALUES (1, 0, 0, 0);
