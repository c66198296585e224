-- What operators say of an instance beside its place, and when it was added or started last.

ALTER TABLE instances ADD COLUMN instance_type TEXT;
ALTER TABLE instances ADD COLUMN image_id TEXT;
ALTER TABLE instances ADD COLUMN private_ip TEXT;
ALTER TABLE instances ADD COLUMN public_ip TEXT;
ALTER TABLE instances ADD COLUMN ipv6 TEXT;
ALTER TABLE instances ADD COLUMN launched_at INTEGER NOT NULL DEFAULT 0;

-- Of those that are here nobody knows it: not before now, as far as this store can say.
UPDATE instances SET launched_at = unixepoch();

-- What the agents say of their machines. No part of the inventory but for what EC2's API shows of it, which is made of these.
CREATE TABLE host_facts (
    instance TEXT NOT NULL PRIMARY KEY REFERENCES instances (id),
    reported_at INTEGER NOT NULL,
    hostname TEXT NOT NULL,
    os_id TEXT NOT NULL,
    os_version TEXT NOT NULL,
    os_name TEXT NOT NULL,
    kernel TEXT NOT NULL,
    architecture TEXT NOT NULL,
    -- In the agent's order, with a blank between them.
    addresses TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What has changed, for whoever has an older inventory in memory.

-- The sequence that the last change of an instance comes to: of its row, or of one that belongs to it.
ALTER TABLE instances ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;

CREATE INDEX instances_by_change ON instances (changed);

-- Which change each of the last steps of the sequence was. Whoever has the inventory after one of these, by its id too, needs
-- only the instances that have changed since: a restored backup counts on from where it was, and is another history.
CREATE TABLE recent_changes (
    sequence INTEGER NOT NULL PRIMARY KEY,
    id BLOB NOT NULL CHECK (length(id) = 16)
) STRICT;

INSERT INTO recent_changes (sequence, id) SELECT value, randomblob(16) FROM sequence;

CREATE TRIGGER sequence_raised AFTER UPDATE OF value ON sequence BEGIN
    DELETE FROM recent_changes WHERE sequence NOT BETWEEN NEW.value - 10000 AND NEW.value - 1;
    INSERT INTO recent_changes (sequence, id) VALUES (NEW.value, randomblob(16));
END;

-- In a transaction the sequence is raised last, or not at all; then the next one that raises it tells of this change too.
CREATE TRIGGER instance_added AFTER INSERT ON instances BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = NEW.id;
END;
CREATE TRIGGER instance_changed AFTER UPDATE ON instances
WHEN NEW.changed <> (SELECT value + 1 FROM sequence) BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = NEW.id;
END;
CREATE TRIGGER instance_tag_added AFTER INSERT ON instance_tags BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = NEW.instance;
END;
CREATE TRIGGER instance_tag_changed AFTER UPDATE ON instance_tags BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = NEW.instance;
END;
CREATE TRIGGER instance_tag_removed AFTER DELETE ON instance_tags BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = OLD.instance;
END;
CREATE TRIGGER guest_added AFTER INSERT ON guests BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = NEW.instance;
END;
CREATE TRIGGER guest_changed AFTER UPDATE ON guests BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = NEW.instance;
END;
CREATE TRIGGER guest_removed AFTER DELETE ON guests BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = OLD.instance;
END;
CREATE TRIGGER agent_added AFTER INSERT ON agents BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = NEW.instance;
END;
CREATE TRIGGER agent_changed AFTER UPDATE ON agents BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = NEW.instance;
END;

CREATE TRIGGER host_facts_added AFTER INSERT ON host_facts BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = NEW.instance;
END;
CREATE TRIGGER host_facts_changed AFTER UPDATE ON host_facts BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = NEW.instance;
END;
CREATE TRIGGER host_facts_removed AFTER DELETE ON host_facts BEGIN
    UPDATE instances SET changed = (SELECT value + 1 FROM sequence) WHERE id = OLD.instance;
END;

-- Neither instances nor agents are ever deleted here. Where somebody else does it, all is loaded again.
CREATE TRIGGER instance_removed AFTER DELETE ON instances BEGIN
    DELETE FROM recent_changes;
END;
CREATE TRIGGER agent_removed AFTER DELETE ON agents BEGIN
    DELETE FROM recent_changes;
END;
