//! Reading back what [`changes`](super::changes) wrote. Every text is parsed again: a database is a file that others may
//! have edited.

mod details;
pub(super) mod facts;
mod users;

use crate::limits;
use crate::seal::{SealedRow, Sealer};
use crate::{Authority, AuthorityName, Problem, Snapshot, StoreError};
pub(super) use details::account_details;
use instance_connect_core::audit::{OperatorAction, OperatorEvent};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::host_key::{HostKey, KnownHostKeys};
use instance_connect_core::ids::{AccessKeyId, AccountId, InstanceId};
use instance_connect_core::inventory::{
    AccessKey, Account, AgentIdentity, AgentState, AnchorRotation, Instance, InstanceDetails, InstanceState,
    Instances, Inventory, Status, StockRotation,
};
use instance_connect_core::revocation::{Revocation, Revocations};
use instance_connect_planted::planted;
use rpds::HashTrieMapSync;
use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{OptionalExtension, Row, Transaction};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use users::users;

pub(super) fn sequence(tx: &Transaction<'_>) -> Result<u64, StoreError> {
    let value: i64 = tx.prepare_cached("SELECT value FROM sequence")?.query_row((), |row| row.get(0))?;
    u64::try_from(value).map_err(|error| damaged("sequence.value", error))
}

/// What the store holds. Of the instances only those are read that have changed since a `known` inventory, if it is one of
/// this store that is not too old.
pub(super) fn snapshot(
    tx: &Transaction<'_>,
    sealer: &Sealer,
    known: Option<&Inventory>,
) -> Result<Snapshot, StoreError> {
    let (mut problems, mut warnings) = (Vec::new(), BTreeSet::new());
    let known = match known {
        Some(known) if change_id(tx, known.sequence)? == Some(known.change_id) => Some(known),
        Some(_) | None => None,
    };
    let sequence = sequence(tx)?;
    let inventory = Inventory {
        sequence,
        change_id: change_id(tx, sequence)?.unwrap_or_default(),
        management_account: management_account(tx)?,
        accounts: accounts(tx)?,
        users: users(tx, &mut problems, &mut warnings)?,
        access_keys: access_keys(tx, sealer, &mut problems)?,
        instances: instances(tx, known)?,
        agents: agents(tx, known)?,
        claims: facts::claims(tx, known)?,
        revocations: revocations(tx)?,
    };
    Ok(Snapshot { inventory, problems, warnings })
}

/// The id of the change that raised the sequence to this, if it is known.
fn change_id(tx: &Transaction<'_>, sequence: u64) -> Result<Option<[u8; 16]>, StoreError> {
    let Ok(sequence) = i64::try_from(sequence) else { return Ok(None) };
    let mut statement = tx.prepare_cached("SELECT id FROM recent_changes WHERE sequence = ?1")?;
    statement
        .query_row([sequence], |row| row.get(0))
        .optional()
        .map_err(|error| damaged("recent_changes.id", error))
}

pub(super) fn authority(
    tx: &Transaction<'_>,
    name: &AuthorityName,
    sealer: &Sealer,
) -> Result<Option<Authority>, StoreError> {
    let query = "SELECT public, sealed_secret FROM authorities WHERE name = ?1";
    let stored = tx.query_row(query, [name.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((public, sealed)): Option<(Vec<u8>, Vec<u8>)> = stored else { return Ok(None) };
    let row = SealedRow::Authority(name, &public);
    let secret =
        sealer.open(row, &sealed).map_err(|error| StoreError::Sealed { row: row.to_string(), error })?;
    Ok(Some(Authority { public, secret }))
}

fn management_account(tx: &Transaction<'_>) -> Result<Option<AccountId>, StoreError> {
    let query = "SELECT account FROM management_account";
    let found: Vec<AccountId> = each_row(tx, query, |row| parsed(row, 0, "management_account.account"))?;
    Ok(found.into_iter().next())
}

fn accounts(tx: &Transaction<'_>) -> Result<HashMap<AccountId, Account>, StoreError> {
    let query = "SELECT id, status, serial_console_access FROM accounts";
    each_row(tx, query, |row| {
        let id: AccountId = parsed(row, 0, "accounts.id")?;
        let serial_console_access = column(row, 2, "accounts.serial_console_access")?;
        Ok((id.clone(), Account { id, status: status(row, 1, "accounts.status")?, serial_console_access }))
    })
}

fn access_keys(
    tx: &Transaction<'_>,
    sealer: &Sealer,
    problems: &mut Vec<Problem>,
) -> Result<HashMap<AccessKeyId, AccessKey>, StoreError> {
    let query = "SELECT id, user, status, sealed_secret FROM access_keys ORDER BY id";
    let keys: Vec<Option<(AccessKeyId, AccessKey)>> = each_row(tx, query, |row| {
        let (id, user) = (parsed(row, 0, "access_keys.id")?, parsed(row, 1, "access_keys.user")?);
        let status = status(row, 2, "access_keys.status")?;
        let sealed: Vec<u8> = column(row, 3, "access_keys.sealed_secret")?;
        match sealer.open(SealedRow::AccessKey(&id, &user), &sealed) {
            Ok(secret) => Ok(Some((id.clone(), AccessKey { id, secret, user, status }))),
            Err(error) => {
                problems.push(Problem::AccessKey { key: id, error });
                Ok(None)
            }
        }
    })?;
    Ok(keys.into_iter().flatten().collect())
}

fn instances(tx: &Transaction<'_>, known: Option<&Inventory>) -> Result<Instances, StoreError> {
    let query = "SELECT id, instances.account, instances.region, availability_zone, state, host,
                        instance_type, image_id, private_ip, public_ip, ipv6, launched_at
                 FROM instances LEFT JOIN guests ON instance = id";
    let (mut accounts, mut regions, mut zones) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut read = Vec::new();
    each_changed(tx, [query, "id", ""], known, |row| {
        read.push(Arc::new(Instance {
            id: parsed(row, 0, "instances.id")?,
            account: shared(row, 1, "instances.account", &mut accounts)?,
            region: shared(row, 2, "instances.region", &mut regions)?,
            availability_zone: shared(row, 3, "instances.availability_zone", &mut zones)?,
            state: state(row, 4, "instances.state")?,
            tags: BTreeMap::new(),
            host: nullable(row, 5, "guests.host")?,
            details: InstanceDetails {
                instance_type: nullable(row, 6, "instances.instance_type")?,
                image_id: nullable(row, 7, "instances.image_id")?,
                private_ip: nullable(row, 8, "instances.private_ip")?,
                public_ip: nullable(row, 9, "instances.public_ip")?,
                ipv6: nullable(row, 10, "instances.ipv6")?,
            },
            launched_at: UnixSeconds(column(row, 11, "instances.launched_at")?),
        }));
        Ok(())
    })?;
    // A million find their tags and their places in a fraction of the time if each is beside the one before.
    read.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let mut tags = instance_tags(tx, known)?.into_iter().peekable();
    let mut instances = known.map(|known| known.instances.clone()).unwrap_or_default();
    for mut instance in read {
        while let Some((id, tags)) = tags.next_if(|(id, _)| *id <= instance.id) {
            if id == instance.id {
                Arc::make_mut(&mut instance).tags = tags;
            }
        }
        instances.put(instance);
    }
    Ok(instances)
}

type Tags = BTreeMap<String, String>;

/// The tags of each instance that has any, in the order of their ids.
fn instance_tags(
    tx: &Transaction<'_>,
    known: Option<&Inventory>,
) -> Result<Vec<(InstanceId, Tags)>, StoreError> {
    let query = "SELECT instance, key, value FROM instance_tags";
    let mut all: Vec<(InstanceId, Tags)> = Vec::new();
    each_changed(tx, [query, "instance", "ORDER BY instance"], known, |row| {
        let (key, value) = (column(row, 1, "instance_tags.key")?, column(row, 2, "instance_tags.value")?);
        let instance = text(row, 0, "instance_tags.instance")?;
        match all.last_mut() {
            Some((id, tags)) if id.as_str() == instance => {
                tags.insert(key, value);
            }
            Some(_) | None => {
                let id = parsed(row, 0, "instance_tags.instance")?;
                all.push((id, BTreeMap::from([(key, value)])));
            }
        }
        Ok(())
    })?;
    Ok(all)
}

/// Reads the rows of a query that belong to instances which have changed since the known inventory; all without one. `id` is
/// the column with the instance's id, and `order` stands at the end of the query.
fn each_changed(
    tx: &Transaction<'_>,
    [query, id, order]: [&str; 3],
    known: Option<&Inventory>,
    read: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let Some(known) = known else { return each_row(tx, &format!("{query} {order}"), read) };
    let since = i64::try_from(known.sequence).map_err(|error| damaged("sequence.value", error))?;
    let query = format!("{query} WHERE {id} IN (SELECT id FROM instances WHERE changed > ?1) {order}");
    tx.prepare_cached(&query)?.query_and_then([since], read)?.collect()
}

/// What is known of the host keys of one machine.
pub(super) fn known_host_keys(
    tx: &Transaction<'_>,
    instance: &InstanceId,
) -> Result<KnownHostKeys, StoreError> {
    let mut statement = tx.prepare_cached("SELECT status, key FROM host_keys WHERE instance = ?1")?;
    let rows = statement.query_and_then([instance.as_str()], |row| {
        let key: HostKey = parsed(row, 1, "host_keys.key")?;
        match text(row, 0, "host_keys.status")? {
            "pinned" => Ok((true, key)),
            "pending" => Ok((false, key)),
            _ => Err(damaged("host_keys.status", "no status")),
        }
    })?;
    let (pinned, pending): (Vec<_>, Vec<_>) =
        rows.collect::<Result<Vec<_>, StoreError>>()?.into_iter().partition(|(is_pinned, _)| *is_pinned);
    let keys = |rows: Vec<(bool, HostKey)>| rows.into_iter().map(|(_, key)| key).collect();
    Ok(KnownHostKeys { pinned: keys(pinned), pending: keys(pending) })
}

fn agents(
    tx: &Transaction<'_>,
    known: Option<&Inventory>,
) -> Result<HashTrieMapSync<InstanceId, AgentIdentity>, StoreError> {
    let mut agents = known.map(|known| known.agents.clone()).unwrap_or_default();
    if planted("changed-agents-missed") && known.is_some() {
        return Ok(agents);
    }
    each_changed(tx, [AGENTS, "instance", ""], known, |row| {
        let agent = agent_of(row)?;
        agents.insert_mut(agent.instance.clone(), agent);
        Ok(())
    })?;
    Ok(agents)
}

/// The identity of one instance's agent, if it was ever enrolled.
pub(super) fn agent(
    tx: &Transaction<'_>,
    instance: &InstanceId,
) -> Result<Option<AgentIdentity>, StoreError> {
    let mut statement = tx.prepare_cached(&format!("{AGENTS} WHERE instance = ?1"))?;
    let mut rows = statement.query([instance.as_str()])?;
    rows.next()?.map(agent_of).transpose()
}

const AGENTS: &str = "SELECT instance, enrolled, used, newest, enrolled_at, state, anchor_set FROM agents";

fn agent_of(row: &Row<'_>) -> Result<AgentIdentity, StoreError> {
    let generation = |index, name| {
        let generation: i64 = column(row, index, name)?;
        u64::try_from(generation).map_err(|error| damaged(name, error))
    };
    let state = text(row, 5, "agents.state")?;
    let state = AgentState::ALL.into_iter().find(|known| known.as_str() == state);
    Ok(AgentIdentity {
        instance: parsed(row, 0, "agents.instance")?,
        enrolled: generation(1, "agents.enrolled")?,
        used: generation(2, "agents.used")?,
        newest: generation(3, "agents.newest")?,
        enrolled_at: UnixSeconds(column(row, 4, "agents.enrolled_at")?),
        state: state.ok_or_else(|| damaged("agents.state", "no state of an agent"))?,
        anchor_set: column(row, 6, "agents.anchor_set")?,
    })
}

fn revocations(tx: &Transaction<'_>) -> Result<Revocations, StoreError> {
    let query = "SELECT account, instance, fingerprint, principal, revoked_at FROM revocations";
    let rows: Vec<(AccountId, Revocation)> = each_row(tx, query, |row| {
        let principal: String = column(row, 3, "revocations.principal")?;
        let revocation = Revocation {
            instance: given(row, 1, "revocations.instance")?,
            fingerprint: given(row, 2, "revocations.fingerprint")?,
            principal: (!principal.is_empty()).then_some(principal),
            at: UnixSeconds(column(row, 4, "revocations.revoked_at")?),
        };
        Ok((parsed(row, 0, "revocations.account")?, revocation))
    })?;
    let mut revocations = Revocations::default();
    for (account, revocation) in rows {
        revocations.0.entry(account).or_default().push(revocation);
    }
    Ok(revocations)
}

/// What is given where the text is not empty.
fn given<T: FromStr<Err: fmt::Display>>(
    row: &Row<'_>,
    index: usize,
    name: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: String = column(row, index, name)?;
    if text.is_empty() { Ok(None) } else { parsed(row, index, name).map(Some) }
}

pub(super) fn operator_events(tx: &Transaction<'_>) -> Result<Vec<OperatorEvent>, StoreError> {
    let query = format!(
        "SELECT id, time, uid, action FROM operator_events ORDER BY number LIMIT {}",
        limits::OPERATOR_EVENTS
    );
    each_row(tx, &query, |row| {
        let action: String = column(row, 3, "operator_events.action")?;
        Ok(OperatorEvent {
            id: column(row, 0, "operator_events.id")?,
            time: UnixSeconds(column(row, 1, "operator_events.time")?),
            uid: column(row, 2, "operator_events.uid")?,
            action: OperatorAction::from_json(&action)
                .map_err(|error| damaged("operator_events.action", error))?,
        })
    })
}

pub(super) fn anchor_rotation(tx: &Transaction<'_>) -> Result<AnchorRotation, StoreError> {
    let query = "SELECT current, is_rolling_over, changed_at FROM anchor_rotation";
    let found: Vec<AnchorRotation> = each_row(tx, query, |row| {
        Ok(AnchorRotation {
            current: column(row, 0, "anchor_rotation.current")?,
            is_rolling_over: column(row, 1, "anchor_rotation.is_rolling_over")?,
            changed_at: UnixSeconds(column(row, 2, "anchor_rotation.changed_at")?),
        })
    })?;
    found.into_iter().next().ok_or_else(|| damaged("anchor_rotation", "no row"))
}

pub(super) fn stock_rotation(tx: &Transaction<'_>) -> Result<StockRotation, StoreError> {
    let query = "SELECT current, changed_at, is_revoked FROM stock_rotation";
    let found: Vec<StockRotation> = each_row(tx, query, |row| {
        Ok(StockRotation {
            current: column(row, 0, "stock_rotation.current")?,
            changed_at: UnixSeconds(column(row, 1, "stock_rotation.changed_at")?),
            is_revoked: column(row, 2, "stock_rotation.is_revoked")?,
        })
    })?;
    found.into_iter().next().ok_or_else(|| damaged("stock_rotation", "no row"))
}

fn each_row<T, C: FromIterator<T>>(
    tx: &Transaction<'_>,
    query: &str,
    read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
) -> Result<C, StoreError> {
    tx.prepare_cached(query)?.query_and_then((), read)?.collect()
}

fn status(row: &Row<'_>, index: usize, column: &'static str) -> Result<Status, StoreError> {
    match text(row, index, column)? {
        "active" => Ok(Status::Active),
        "suspended" => Ok(Status::Suspended),
        _ => Err(damaged(column, "no status")),
    }
}

fn state(row: &Row<'_>, index: usize, column: &'static str) -> Result<InstanceState, StoreError> {
    let name = text(row, index, column)?;
    let known = InstanceState::ALL.into_iter().find(|state| state.as_str() == name);
    known.ok_or_else(|| damaged(column, "no instance state"))
}

fn parsed<T: FromStr<Err: fmt::Display>>(
    row: &Row<'_>,
    index: usize,
    column: &'static str,
) -> Result<T, StoreError> {
    text(row, index, column)?.parse().map_err(|error| damaged(column, error))
}

/// The same for the same text, so that a million instances have one account between them.
fn shared<T: FromStr<Err: fmt::Display> + Clone>(
    row: &Row<'_>,
    index: usize,
    column: &'static str,
    known: &mut HashMap<String, T>,
) -> Result<T, StoreError> {
    let text = text(row, index, column)?;
    if let Some(known) = known.get(text) {
        return Ok(known.clone());
    }
    let new: T = parsed(row, index, column)?;
    known.insert(text.to_owned(), new.clone());
    Ok(new)
}

/// What is there unless it is `NULL`.
fn nullable<T: FromStr<Err: fmt::Display>>(
    row: &Row<'_>,
    index: usize,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    if row.get_ref(index)? == ValueRef::Null { Ok(None) } else { parsed(row, index, column).map(Some) }
}

fn text<'row>(row: &'row Row<'_>, index: usize, column: &'static str) -> Result<&'row str, StoreError> {
    row.get_ref(index)?.as_str().map_err(|error| damaged(column, error))
}

fn column<T: FromSql>(row: &Row<'_>, index: usize, column: &'static str) -> Result<T, StoreError> {
    row.get(index).map_err(|error| damaged(column, error))
}

/// Names the column, not what stands in it: that may be anything.
pub(super) fn damaged(column: &'static str, reason: impl fmt::Display) -> StoreError {
    StoreError::Damaged(format!("{column}: {reason}"))
}
