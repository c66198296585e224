//! What a machine's agent says of a key's use. It is a claim: whoever has the machine can make its agent say anything.

use super::line::Line;
use super::shape::{Head, Rest, Shared, UserIdentity};
use crate::ids::{InstanceId, Region};
use crate::link::{AgentUrn, ExpiredUnused, KeyUse, Offered, UseEvent};
use instance_connect_document::{Fingerprint, OsUser, RequestId, UnixSeconds};
use serde::Serialize;
use std::num::NonZeroU32;
use std::slice;

/// A report of an agent.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// sshd was given a key.
    Offered(&'a Offered),
    /// Somebody has logged in with a key.
    KeyUse(&'a KeyUse),
    /// A key's time has ended, and sshd was never given it.
    ExpiredUnused(&'a ExpiredUnused),
}

impl<'a> Proof<'a> {
    const fn event_name(self) -> &'static str {
        match self {
            Self::Offered(_) => "KeyOffered",
            Self::KeyUse(KeyUse { event: UseEvent::Used, .. }) => "KeyUsed",
            Self::KeyUse(KeyUse { event: UseEvent::Opened, .. }) => "SessionOpened",
            Self::KeyUse(KeyUse { event: UseEvent::Closed, .. }) => "SessionClosed",
            Self::ExpiredUnused(_) => "KeyExpiredUnused",
        }
    }

    /// The key, for whom it was pushed, and the requests that pushed it, newest last.
    fn key(self) -> (Fingerprint, &'a OsUser, &'a [RequestId]) {
        match self {
            Self::Offered(report) => (report.fingerprint, &report.os_user, &report.request_ids),
            Self::KeyUse(report) => (report.fingerprint, &report.os_user, &report.request_ids),
            Self::ExpiredUnused(report) => {
                (report.fingerprint, &report.os_user, slice::from_ref(&report.request_id))
            }
        }
    }

    const fn lost(self) -> u32 {
        match self {
            Self::Offered(report) => report.lost,
            Self::KeyUse(report) => report.lost,
            Self::ExpiredUnused(report) => report.lost,
        }
    }
}

/// The record of a report that came at `time`, on the instance `of`: the agent's own, or one for which it answers.
/// `not_recorded` reports of this machine before it are not on record.
pub fn proof(
    proof: Proof<'_>,
    not_recorded: u32,
    (identity, of): (&AgentUrn, &InstanceId),
    time: UnixSeconds,
    region: &Region,
    event_id: &str,
) -> Line {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded<'a> {
        instance_id: &'a str,
        #[serde(rename = "instanceOSUser")]
        os_user: &'a str,
        fingerprint: String,
    }
    let account_id = identity.account.as_str();
    let agent = UserIdentity::Agent { principal_id: &identity.to_string(), account_id };
    let (fingerprint, os_user, requests) = proof.key();
    let mut shared = Shared::new(&Head::new(proof.event_name(), agent, time, region));
    shared.set_parameters(&Recorded {
        instance_id: of.as_str(),
        os_user: os_user.as_str(),
        fingerprint: fingerprint.to_string(),
    });
    let mut rest =
        Rest { request: requests.last().map(RequestId::as_str), ..Rest::of_instance(identity, event_id) };
    let data = &mut rest.additional_event_data;
    data.requests = (requests.len() > 1).then(|| requests.iter().map(RequestId::as_str).collect());
    if let Proof::KeyUse(key_use) = proof {
        data.session = Some(key_use.session.to_string());
        data.remote_host = Some(key_use.from.as_str());
    }
    data.reports_lost = NonZeroU32::new(proof.lost());
    data.reports_not_recorded = NonZeroU32::new(not_recorded);
    shared.line(None, &rest)
}
