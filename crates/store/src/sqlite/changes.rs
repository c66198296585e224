//! What each change does inside of its transaction. All of them hold the database's only write lock, so what they looked
//! at stays true until they commit; the constraints in the schema are the second line, never the first answer.

pub(super) mod host_facts;
pub(super) mod host_keys;
mod iam;
pub(super) mod operator;
pub(super) mod revocations;

pub(super) use iam::*;

use super::load::{self, damaged};
use crate::limits::{ACCESS_KEYS_PER_USER, EXPIRED_SIGNATURE_KEPT, LAPSED_TOKEN_KEPT};
use crate::{AuthorityName, Entity, RedeemRefusal, Refusal, StoreError};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::ids::{AccessKeyId, AccountId, ImageId, InstanceId, InstanceType};
use instance_connect_core::inventory::{
    AccessKey, Account, AgentChange, AgentIdentity, AnchorChange, AnchorRotation, Instance, InstanceDetails,
    InstanceState, JoinToken, Status, StockChange, StockRotation,
};
use instance_connect_core::sigv4::UsedSignature;
use instance_connect_planted::planted;
use rusqlite::{OptionalExtension, Params, Transaction};
use std::collections::BTreeMap;

const ACCOUNT: &str = "SELECT 1 FROM accounts WHERE id = ?1";
const USER: &str = "SELECT 1 FROM users WHERE id = ?1";
const ACCESS_KEY: &str = "SELECT 1 FROM access_keys WHERE id = ?1";
const INSTANCE: &str = "SELECT 1 FROM instances WHERE id = ?1";
const TERMINATED: &str = "SELECT 1 FROM instances WHERE id = ?1 AND state = 'terminated'";
/// Two instances of one account and region.
const NEIGHBOURS: &str = "SELECT 1 FROM instances AS one JOIN instances AS other USING (account, region)
                          WHERE one.id = ?1 AND other.id = ?2";
const GUEST: &str = "SELECT 1 FROM guests WHERE instance = ?1";
const HOST: &str = "SELECT 1 FROM guests WHERE host = ?1";
/// A revoked identity is nobody's, so another one replaces nothing.
const AGENT: &str = "SELECT 1 FROM agents WHERE instance = ?1 AND state <> 'revoked'";
const INSERT_INSTANCE_TAG: &str = "INSERT INTO instance_tags (instance, key, value) VALUES (?1, ?2, ?3)";
const JOIN_TOKEN: &str = "SELECT 1 FROM join_tokens WHERE secret_hash = ?1";

type Done = Result<(), StoreError>;

pub(super) fn raise_sequence(tx: &Transaction<'_>) -> Done {
    tx.prepare_cached("UPDATE sequence SET value = value + 1")?.execute(())?;
    Ok(())
}

pub(super) fn create_account(tx: &Transaction<'_>, account: &Account) -> Done {
    absent(tx, Entity::Account, ACCOUNT, [account.id.as_str()])?;
    let row = (account.id.as_str(), status_name(account.status), account.serial_console_access);
    tx.execute("INSERT INTO accounts (id, status, serial_console_access) VALUES (?1, ?2, ?3)", row)?;
    let first = "INSERT INTO management_account (only_row, account) VALUES (1, ?1) ON CONFLICT DO NOTHING";
    tx.execute(first, [account.id.as_str()])?;
    Ok(())
}

/// Whether a signature had not been used before; from now on it has.
pub(super) fn use_signature(
    tx: &Transaction<'_>,
    used: &UsedSignature,
    now: UnixSeconds,
) -> Result<bool, StoreError> {
    let forgotten = "SELECT expired_before FROM forgotten_signatures";
    let forgotten: i64 = tx.prepare_cached(forgotten)?.query_row((), |row| row.get(0))?;
    if used.expires_at.0 < forgotten {
        return Ok(false);
    }
    let statement =
        "INSERT INTO used_signatures (signature, expires_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    let is_new = tx.prepare_cached(statement)?.execute((used.signature, used.expires_at.0))? > 0;
    let forget_before = now.0.saturating_sub(EXPIRED_SIGNATURE_KEPT);
    let statement = "DELETE FROM used_signatures WHERE expires_at < ?1";
    if tx.prepare_cached(statement)?.execute([forget_before])? > 0 {
        let statement = "UPDATE forgotten_signatures SET expired_before = max(expired_before, ?1)";
        tx.prepare_cached(statement)?.execute([forget_before])?;
    }
    Ok(is_new)
}

pub(super) fn set_account_status(tx: &Transaction<'_>, account: &AccountId, status: Status) -> Done {
    let row = (account.as_str(), status_name(status));
    update(tx, Entity::Account, "UPDATE accounts SET status = ?2 WHERE id = ?1", row)
}

pub(super) fn set_serial_console_access(tx: &Transaction<'_>, account: &AccountId, enabled: bool) -> Done {
    let row = (account.as_str(), enabled);
    update(tx, Entity::Account, "UPDATE accounts SET serial_console_access = ?2 WHERE id = ?1", row)
}

pub(super) fn create_access_key(tx: &Transaction<'_>, key: &AccessKey, sealed_secret: &[u8]) -> Done {
    require(tx, Entity::User, USER, [key.user.as_str()])?;
    absent(tx, Entity::AccessKey, ACCESS_KEY, [key.id.as_str()])?;
    let row = (key.id.as_str(), key.user.as_str(), status_name(key.status), sealed_secret);
    tx.execute("INSERT INTO access_keys (id, user, status, sealed_secret) VALUES (?1, ?2, ?3, ?4)", row)?;
    let keys = "SELECT count(*) FROM access_keys WHERE user = ?1";
    at_most(tx, ACCESS_KEYS_PER_USER, Refusal::TooManyAccessKeys, keys, [key.user.as_str()])
}

pub(super) fn set_access_key_status(tx: &Transaction<'_>, key: &AccessKeyId, status: Status) -> Done {
    let row = (key.as_str(), status_name(status));
    update(tx, Entity::AccessKey, "UPDATE access_keys SET status = ?2 WHERE id = ?1", row)
}

pub(super) fn delete_access_key(tx: &Transaction<'_>, key: &AccessKeyId) -> Done {
    update(tx, Entity::AccessKey, "DELETE FROM access_keys WHERE id = ?1", [key.as_str()])
}

pub(super) fn create_instance(tx: &Transaction<'_>, instance: &Instance) -> Done {
    require(tx, Entity::Account, ACCOUNT, [instance.account.as_str()])?;
    absent(tx, Entity::Instance, INSTANCE, [instance.id.as_str()])?;
    let statement = "INSERT INTO instances (id, account, region, availability_zone, state, launched_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let row = (
        instance.id.as_str(),
        instance.account.as_str(),
        instance.region.as_str(),
        instance.availability_zone.as_str(),
        instance.state.as_str(),
        instance.launched_at.0,
    );
    tx.execute(statement, row)?;
    put_instance_details(tx, &instance.id, &instance.details)?;
    insert_tags(tx, INSERT_INSTANCE_TAG, instance.id.as_str(), &instance.tags)?;
    set_instance_host(tx, &instance.id, instance.host.as_ref())
}

pub(super) fn set_instance_state(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    state: InstanceState,
    now: UnixSeconds,
) -> Done {
    let statement = "UPDATE instances
                     SET launched_at = iif(?2 = 'running' AND state <> 'running', ?3, launched_at), state = ?2
                     WHERE id = ?1";
    update(tx, Entity::Instance, statement, (instance.as_str(), state.as_str(), now.0))
}

pub(super) fn put_instance_details(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    details: &InstanceDetails,
) -> Done {
    let InstanceDetails { instance_type, image_id, private_ip, public_ip, ipv6 } = details;
    let statement = "UPDATE instances
                     SET instance_type = ?2, image_id = ?3, private_ip = ?4, public_ip = ?5, ipv6 = ?6
                     WHERE id = ?1";
    let row = (
        instance.as_str(),
        instance_type.as_ref().map(InstanceType::as_str),
        image_id.as_ref().map(ImageId::as_str),
        private_ip.map(|address| address.to_string()),
        public_ip.map(|address| address.to_string()),
        ipv6.map(|address| address.to_string()),
    );
    update(tx, Entity::Instance, statement, row)
}

pub(super) fn set_instance_host(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    host: Option<&InstanceId>,
) -> Done {
    require(tx, Entity::Instance, INSTANCE, [instance.as_str()])?;
    let Some(host) = host else {
        tx.execute("DELETE FROM guests WHERE instance = ?1", [instance.as_str()])?;
        return Ok(());
    };
    require(tx, Entity::Instance, INSTANCE, [host.as_str()])?;
    if host == instance {
        return Err(Refusal::OwnHost.into());
    }
    let pair = (instance.as_str(), host.as_str());
    if !exists(tx, NEIGHBOURS, pair)? {
        return Err(Refusal::HostElsewhere.into());
    }
    refuse(tx, Refusal::HostTerminated, TERMINATED, [host.as_str()])?;
    if !planted("guests-of-guests") {
        refuse(tx, Refusal::HostIsGuest, GUEST, [host.as_str()])?;
    }
    refuse(tx, Refusal::GuestIsHost, HOST, [instance.as_str()])?;
    let statement = "INSERT INTO guests (instance, host, account, region)
                     SELECT id, ?2, account, region FROM instances WHERE id = ?1
                     ON CONFLICT (instance) DO UPDATE SET host = excluded.host";
    tx.execute(statement, pair)?;
    Ok(())
}

pub(super) fn put_instance_tags(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    tags: &BTreeMap<String, String>,
) -> Done {
    require(tx, Entity::Instance, INSTANCE, [instance.as_str()])?;
    tx.execute("DELETE FROM instance_tags WHERE instance = ?1", [instance.as_str()])?;
    insert_tags(tx, INSERT_INSTANCE_TAG, instance.as_str(), tags)
}

fn insert_tags(tx: &Transaction<'_>, insert: &str, id: &str, tags: &BTreeMap<String, String>) -> Done {
    let mut insert = tx.prepare_cached(insert)?;
    for (key, value) in tags {
        insert.execute((id, key, value))?;
    }
    Ok(())
}

pub(super) fn create_join_token(tx: &Transaction<'_>, token: &JoinToken, now: UnixSeconds) -> Done {
    require(tx, Entity::Instance, INSTANCE, [token.instance.as_str()])?;
    absent(tx, Entity::JoinToken, JOIN_TOKEN, [token.secret_hash])?;
    let lapsed_before = now.0.saturating_sub(LAPSED_TOKEN_KEPT);
    tx.execute("DELETE FROM join_tokens WHERE expires_at < ?1", [lapsed_before])?;
    let row = (token.secret_hash, token.instance.as_str(), token.expires_at.0);
    tx.execute("INSERT INTO join_tokens (secret_hash, instance, expires_at) VALUES (?1, ?2, ?3)", row)?;
    Ok(())
}

/// Enrols or refuses. Nothing is written before the last check, so a refusal leaves no trace.
pub(super) fn redeem_join_token(
    tx: &Transaction<'_>,
    secret_hash: &[u8; 32],
    instance: &InstanceId,
    now: UnixSeconds,
    replace: bool,
) -> Result<Result<AgentIdentity, RedeemRefusal>, StoreError> {
    if let Some(refusal) = refusal(tx, secret_hash, instance, now, replace)? {
        return Ok(Err(refusal));
    }
    tx.execute("UPDATE join_tokens SET used_at = ?2 WHERE secret_hash = ?1", (secret_hash, now.0))?;
    let identity = AgentIdentity::enrolled(instance, load::agent(tx, instance)?.as_ref(), now);
    put_agent(tx, &identity)?;
    host_facts::forget(tx, instance)?;
    raise_sequence(tx)?;
    Ok(Ok(identity))
}

pub(super) fn change_agent(
    tx: &Transaction<'_>,
    instance: &InstanceId,
    change: AgentChange,
) -> Result<AgentIdentity, StoreError> {
    let identity = load::agent(tx, instance)?.ok_or(StoreError::NotFound(Entity::Agent))?;
    let changed = identity.changed(change).ok_or(Refusal::AgentState)?;
    if let AgentChange::TrustAnchors { .. } = change {
        // Machines say so again and again, and nobody waits for it.
        if changed != identity {
            put_agent(tx, &changed)?;
        }
        return Ok(changed);
    }
    put_agent(tx, &changed)?;
    if change == AgentChange::Revoke {
        host_facts::forget(tx, instance)?;
    }
    raise_sequence(tx)?;
    Ok(changed)
}

pub(super) fn change_anchors(
    tx: &Transaction<'_>,
    change: AnchorChange,
    now: UnixSeconds,
) -> Result<AnchorRotation, StoreError> {
    let changed = load::anchor_rotation(tx)?.changed(change, now).ok_or(Refusal::AnchorChange)?;
    let statement = "UPDATE anchor_rotation SET current = ?1, is_rolling_over = ?2, changed_at = ?3";
    tx.execute(statement, (changed.current, changed.is_rolling_over, changed.changed_at.0))?;
    raise_sequence(tx)?;
    Ok(changed)
}

pub(super) fn change_stock_signer(
    tx: &Transaction<'_>,
    from: u32,
    change: StockChange,
    now: UnixSeconds,
) -> Result<StockRotation, StoreError> {
    let changed = load::stock_rotation(tx)?.changed(from, change, now).ok_or(Refusal::StockChange)?;
    let statement = "UPDATE stock_rotation SET current = ?1, changed_at = ?2, is_revoked = ?3";
    tx.execute(statement, (changed.current, changed.changed_at.0, changed.is_revoked))?;
    raise_sequence(tx)?;
    Ok(changed)
}

fn put_agent(tx: &Transaction<'_>, identity: &AgentIdentity) -> Done {
    let statement = "INSERT INTO agents (instance, enrolled, used, newest, enrolled_at, state, anchor_set)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                     ON CONFLICT (instance) DO UPDATE
                     SET enrolled = excluded.enrolled, used = excluded.used, newest = excluded.newest,
                         enrolled_at = excluded.enrolled_at, state = excluded.state,
                         anchor_set = excluded.anchor_set";
    let number =
        |generation| i64::try_from(generation).map_err(|error| damaged("an agent's generation", error));
    let row = (
        identity.instance.as_str(),
        number(identity.enrolled)?,
        number(identity.used)?,
        number(identity.newest)?,
        identity.enrolled_at.0,
        identity.state.as_str(),
        identity.anchor_set,
    );
    tx.prepare_cached(statement)?.execute(row)?;
    Ok(())
}

fn refusal(
    tx: &Transaction<'_>,
    secret_hash: &[u8; 32],
    instance: &InstanceId,
    now: UnixSeconds,
    replace: bool,
) -> Result<Option<RedeemRefusal>, StoreError> {
    let query = "SELECT instance, expires_at, used_at IS NOT NULL FROM join_tokens WHERE secret_hash = ?1";
    let token = tx.query_row(query, [secret_hash], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let Some((bound_to, expires_at, used)): Option<(String, i64, bool)> = token.optional()? else {
        return Ok(Some(RedeemRefusal::Unknown));
    };
    if used && !planted("token-reuse") {
        return Ok(Some(RedeemRefusal::AlreadyUsed));
    }
    if now.0 >= expires_at {
        return Ok(Some(RedeemRefusal::Expired));
    }
    if bound_to != instance.as_str() {
        let known = exists(tx, INSTANCE, [instance.as_str()])?;
        return Ok(Some(if known { RedeemRefusal::OtherInstance } else { RedeemRefusal::InstanceUnknown }));
    }
    if !replace && exists(tx, AGENT, [instance.as_str()])? {
        return Ok(Some(RedeemRefusal::AlreadyEnrolled));
    }
    Ok(None)
}

pub(super) fn put_authority(
    tx: &Transaction<'_>,
    name: &AuthorityName,
    public: &[u8],
    sealed_secret: &[u8],
) -> Done {
    let statement = "INSERT INTO authorities (name, public, sealed_secret) VALUES (?1, ?2, ?3)
                     ON CONFLICT (name) DO NOTHING";
    if tx.execute(statement, (name.as_str(), public, sealed_secret))? > 0 {
        raise_sequence(tx)?;
    }
    Ok(())
}

fn require(tx: &Transaction<'_>, entity: Entity, query: &str, key: impl Params) -> Done {
    if exists(tx, query, key)? { Ok(()) } else { Err(StoreError::NotFound(entity)) }
}

fn absent(tx: &Transaction<'_>, entity: Entity, query: &str, key: impl Params) -> Done {
    if exists(tx, query, key)? { Err(StoreError::AlreadyExists(entity)) } else { Ok(()) }
}

fn refuse(tx: &Transaction<'_>, refusal: Refusal, query: &str, key: impl Params) -> Done {
    if exists(tx, query, key)? { Err(refusal.into()) } else { Ok(()) }
}

fn exists(tx: &Transaction<'_>, query: &str, key: impl Params) -> Result<bool, StoreError> {
    Ok(tx.prepare_cached(query)?.exists(key)?)
}

/// Refuses what was just inserted where that is one too many: it goes with the transaction.
fn at_most(tx: &Transaction<'_>, limit: u32, refusal: Refusal, count: &str, key: impl Params) -> Done {
    let count: u32 = tx.prepare_cached(count)?.query_row(key, |row| row.get(0))?;
    if count > limit { Err(refusal.into()) } else { Ok(()) }
}

fn update(tx: &Transaction<'_>, entity: Entity, statement: &str, row: impl Params) -> Done {
    if tx.prepare_cached(statement)?.execute(row)? > 0 { Ok(()) } else { Err(StoreError::NotFound(entity)) }
}

const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Active => "active",
        Status::Suspended => "suspended",
    }
}
