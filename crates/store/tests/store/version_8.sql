-- A database of schema version 8 with what fixtures.rs puts into it, as `.dump` shows it.
PRAGMA foreign_keys = OFF;
PRAGMA application_id = 1229149012;
PRAGMA user_version = 8;
BEGIN TRANSACTION;
CREATE TABLE access_keys (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 16 AND 128),
    user TEXT NOT NULL REFERENCES users (id),
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    sealed_secret BLOB NOT NULL
) STRICT;
INSERT INTO "access_keys" VALUES('AKIA0000000000000001','AIDA0000000000000001','active',X'014DDC78038F14BC5303000000000000000400000048F2CBD0307475AAAFF961F7E4F083DB81B386C9F2F6072611321DB512A1C7FE1A254A53542B9D0CD1BBD0DFBA110EE49D9EDF2886B0DDB9');
INSERT INTO "access_keys" VALUES('AKIA0000000000000002','AIDA0000000000000002','active',X'014DDC78038F14BC53050000000000000006000000DFE3A7C8230A2559A30905BF359575525F40A1213C0C0599A2E25CA01921EE5DDCB12394110BEDD574016510AA2F43F8C2BC61E534617692');
INSERT INTO "access_keys" VALUES('AKIA0000000000000003','000000000001','active',X'014DDC78038F14BC5309000000000000000A0000002179E5233357B2F58F9351CD37F133C7AD05C7BEC038069E9E135BA27865E04A43959112FA6FD2E367B2FA2905F5DBA16F351176ABED31E5');
CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 12),
    status TEXT NOT NULL CHECK (status IN ('active', 'suspended')),
    serial_console_access INTEGER NOT NULL CHECK (serial_console_access IN (0, 1))
) STRICT;
INSERT INTO "accounts" VALUES('000000000001','active',0);
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
INSERT INTO "agents" VALUES('i-00000000000000001',1,1,1,1800000000,'active',0);
CREATE TABLE anchor_rotation (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    current INTEGER NOT NULL CHECK (current >= 1),
    is_rolling_over INTEGER NOT NULL CHECK (is_rolling_over IN (0, 1)),
    changed_at INTEGER NOT NULL
) STRICT;
INSERT INTO "anchor_rotation" VALUES(1,1,0,0);
CREATE TABLE attached_group_policies (
    account TEXT NOT NULL,
    group_name TEXT NOT NULL,
    policy TEXT NOT NULL,
    PRIMARY KEY (account, group_name, policy),
    FOREIGN KEY (account, group_name) REFERENCES groups (account, name),
    FOREIGN KEY (account, policy) REFERENCES policies (account, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "attached_group_policies" VALUES('000000000001','ops','logins');
CREATE TABLE attached_user_policies (
    account TEXT NOT NULL,
    user TEXT NOT NULL CHECK (user <> account),
    policy TEXT NOT NULL,
    PRIMARY KEY (user, policy),
    FOREIGN KEY (account, user) REFERENCES users (account, id),
    FOREIGN KEY (account, policy) REFERENCES policies (account, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "attached_user_policies" VALUES('000000000001','AIDA0000000000000002','logins');
CREATE TABLE authorities (
    name TEXT NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    public BLOB NOT NULL,
    sealed_secret BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "authorities" VALUES('agents-ca',X'6365727469666963617465',X'014DDC78038F14BC530700000000000000080000007FFD99121B2100F3CF4F2B7553B85C0D99DE2C911A35DFDF4C7B8F972F3D6A7810A44849345BEAE29B1EB503');
CREATE TABLE forgotten_signatures (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    expired_before INTEGER NOT NULL
) STRICT;
INSERT INTO "forgotten_signatures" VALUES(1,0);
CREATE TABLE group_members (
    account TEXT NOT NULL,
    group_name TEXT NOT NULL,
    user TEXT NOT NULL CHECK (user <> account),
    PRIMARY KEY (user, group_name),
    FOREIGN KEY (account, user) REFERENCES users (account, id),
    FOREIGN KEY (account, group_name) REFERENCES groups (account, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "group_members" VALUES('000000000001','ops','AIDA0000000000000001');
CREATE TABLE group_policies (
    account TEXT NOT NULL,
    group_name TEXT NOT NULL,
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    document TEXT NOT NULL,
    PRIMARY KEY (account, group_name, name),
    FOREIGN KEY (account, group_name) REFERENCES groups (account, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "group_policies" VALUES('000000000001','ops','push','{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
    "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*"}]}');
CREATE TABLE groups (
    account TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "groups" VALUES('000000000001','ops');
CREATE TABLE guests (
    instance TEXT NOT NULL PRIMARY KEY,
    host TEXT NOT NULL CHECK (host <> instance),
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    FOREIGN KEY (account, region, instance) REFERENCES instances (account, region, id),
    FOREIGN KEY (account, region, host) REFERENCES instances (account, region, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "guests" VALUES('i-00000000000000002','i-00000000000000001','000000000001','us-east-1');
CREATE TABLE host_keys (
    instance TEXT NOT NULL REFERENCES instances (id),
    -- Pinned ones are what clients are told; pending ones are the last report, where that was something else.
    status TEXT NOT NULL CHECK (status IN ('pinned', 'pending')),
    key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 1024),
    PRIMARY KEY (instance, status, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "host_keys" VALUES('i-00000000000000001','pinned','ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp');
CREATE TABLE instance_tags (
    instance TEXT NOT NULL REFERENCES instances (id),
    key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 128),
    value TEXT NOT NULL CHECK (length(value) <= 256),
    PRIMARY KEY (instance, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "instance_tags" VALUES('i-00000000000000001','Name','web');
INSERT INTO "instance_tags" VALUES('i-00000000000000002','Name','web');
CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 10 AND 32),
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    availability_zone TEXT NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('pending', 'running', 'shutting-down', 'terminated', 'stopping', 'stopped'))
, instance_type TEXT, image_id TEXT, private_ip TEXT, public_ip TEXT, ipv6 TEXT, launched_at INTEGER NOT NULL DEFAULT 0, changed INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "instances" VALUES('i-00000000000000001','000000000001','us-east-1','us-east-1a','running',NULL,NULL,NULL,NULL,NULL,1800000000,25);
INSERT INTO "instances" VALUES('i-00000000000000002','000000000001','us-east-1','us-east-1a','running','m7i.metal-24xl','ami-0123456789abcdef0','10.0.1.9','192.0.2.9','2001:db8::9',1800000000,24);
CREATE TABLE join_tokens (
    secret_hash BLOB NOT NULL PRIMARY KEY CHECK (length(secret_hash) = 32),
    instance TEXT NOT NULL REFERENCES instances (id),
    expires_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT;
INSERT INTO "join_tokens" VALUES(X'0101010101010101010101010101010101010101010101010101010101010101','i-00000000000000001',1800000900,1800000000);
INSERT INTO "join_tokens" VALUES(X'0202020202020202020202020202020202020202020202020202020202020202','i-00000000000000002',1800000900,NULL);
CREATE TABLE management_account (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    account TEXT NOT NULL REFERENCES accounts (id)
) STRICT;
INSERT INTO "management_account" VALUES(1,'000000000001');
CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('master-key-check',X'014DDC78038F14BC5301000000000000000200000089B8593A64CEC4F1A22BB8FAB89CB47785D64A8CFF34F70FA5BB506C32BD0ECF');
CREATE TABLE operator_events (
    number INTEGER NOT NULL PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    time INTEGER NOT NULL,
    uid INTEGER NOT NULL CHECK (uid BETWEEN 0 AND 4294967295),
    action TEXT NOT NULL
) STRICT;
CREATE TABLE policies (
    account TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    document TEXT NOT NULL,
    PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "policies" VALUES('000000000001','logins','{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
    "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*"}]}');
CREATE TABLE recent_changes (
    sequence INTEGER NOT NULL PRIMARY KEY,
    id BLOB NOT NULL CHECK (length(id) = 16)
) STRICT;
INSERT INTO "recent_changes" VALUES(22,X'F4741C6A0DAE58248886A6FBF9132E62');
INSERT INTO "recent_changes" VALUES(23,X'7D6D0789F809FCA51A9564540F5CBF15');
INSERT INTO "recent_changes" VALUES(24,X'7CAEA995B7814E3D7A26CAFCB335B1E0');
INSERT INTO "recent_changes" VALUES(25,X'1B6F0C5E2D9A4F37B8E04C6A5D7F9021');
CREATE TABLE revocations (
    account TEXT NOT NULL REFERENCES accounts (id),
    -- What was revoked is what fits in every respect that is not empty.
    instance TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    principal TEXT NOT NULL,
    revoked_at INTEGER NOT NULL,
    PRIMARY KEY (account, instance, fingerprint, principal)
) STRICT, WITHOUT ROWID;
CREATE TABLE sequence (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT;
INSERT INTO "sequence" VALUES(1,25);
CREATE TABLE stock_rotation (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    -- 0 before there is any.
    current INTEGER NOT NULL CHECK (current >= 0),
    changed_at INTEGER NOT NULL,
    -- Whether the one before is.
    is_revoked INTEGER NOT NULL CHECK (is_revoked IN (0, 1))
) STRICT;
INSERT INTO "stock_rotation" VALUES(1,0,0,0);
CREATE TABLE used_signatures (
    signature BLOB NOT NULL PRIMARY KEY CHECK (length(signature) = 32),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE user_policies (
    user TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    document TEXT NOT NULL,
    PRIMARY KEY (user, name)
) STRICT, WITHOUT ROWID;
INSERT INTO "user_policies" VALUES('AIDA0000000000000001','push','{"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
    "Action": "ec2-instance-connect:SendSSHPublicKey", "Resource": "*"}]}');
CREATE TABLE user_tags (
    user TEXT NOT NULL REFERENCES users (id) CHECK (length(user) >= 16),
    -- As in IAM, two keys of one user that differ only in case are the same.
    key TEXT NOT NULL COLLATE NOCASE CHECK (length(key) BETWEEN 1 AND 128),
    value TEXT NOT NULL CHECK (length(value) <= 256),
    PRIMARY KEY (user, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "user_tags" VALUES('AIDA0000000000000002','Team','ops');
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
INSERT INTO "users" VALUES('AIDA0000000000000001','000000000001','ann','active',NULL);
INSERT INTO "users" VALUES('AIDA0000000000000002','000000000001','bob','active','logins');
INSERT INTO "users" VALUES('000000000001','000000000001',NULL,'active',NULL);
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
INSERT INTO "host_facts" VALUES('i-00000000000000001',1800000000,'web-1','debian','12','Debian GNU/Linux 12 (bookworm)','6.1.0','x86_64','10.0.1.1 2001:db8::9');
CREATE INDEX access_keys_by_user ON access_keys (user);
CREATE INDEX join_tokens_by_instance ON join_tokens (instance);
CREATE INDEX join_tokens_by_expiry ON join_tokens (expires_at);
CREATE UNIQUE INDEX policies_by_name ON policies (account, name COLLATE NOCASE);
CREATE INDEX users_by_boundary ON users (account, boundary);
CREATE INDEX attached_user_policies_by_policy ON attached_user_policies (account, policy);
CREATE UNIQUE INDEX groups_by_name ON groups (account, name COLLATE NOCASE);
CREATE INDEX group_members_by_group ON group_members (account, group_name);
CREATE INDEX attached_group_policies_by_policy ON attached_group_policies (account, policy);
CREATE INDEX used_signatures_by_expiry ON used_signatures (expires_at);
CREATE INDEX host_keys_by_key ON host_keys (key);
CREATE INDEX revocations_by_time ON revocations (revoked_at);
CREATE UNIQUE INDEX instances_by_account ON instances (account, region, id);
CREATE INDEX guests_by_host ON guests (host);
CREATE INDEX instances_by_change ON instances (changed);
CREATE TRIGGER sequence_raised AFTER UPDATE OF value ON sequence BEGIN
    DELETE FROM recent_changes WHERE sequence NOT BETWEEN NEW.value - 10000 AND NEW.value - 1;
    INSERT INTO recent_changes (sequence, id) VALUES (NEW.value, randomblob(16));
END;
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
CREATE TRIGGER instance_removed AFTER DELETE ON instances BEGIN
    DELETE FROM recent_changes;
END;
CREATE TRIGGER agent_removed AFTER DELETE ON agents BEGIN
    DELETE FROM recent_changes;
END;
COMMIT;
