-- Which instance's agent answers for another one: a hypervisor's for its guest's.

-- Both foreign keys name account and region: no row can give somebody's keys to another account's machine.
DROP INDEX instances_by_account;
CREATE UNIQUE INDEX instances_by_account ON instances (account, region, id);

CREATE TABLE guests (
    instance TEXT NOT NULL PRIMARY KEY,
    host TEXT NOT NULL CHECK (host <> instance),
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    FOREIGN KEY (account, region, instance) REFERENCES instances (account, region, id),
    FOREIGN KEY (account, region, host) REFERENCES instances (account, region, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX guests_by_host ON guests (host);
