//! Events that AWS does not have, in the same shape.

use super::line::Line;
use super::sampling::RefusalCounts;
use super::shape::{EventType, Failure, Head, ResponseElements, Rest, Shared, Tls, UserIdentity};
use crate::host_facts::{HostAddress, HostFacts};
use crate::host_key::{HostKeyReport, HostKeys};
use crate::ids::{AccessKeyId, Region};
use crate::limits;
use crate::link::AgentUrn;
use crate::origin::Origin;
use instance_connect_document::{BootId, UnixSeconds};
use serde::Serialize;
use std::net::IpAddr;

/// What was asked for and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A request to the control API.
    ApiRequest,
    /// An enrolment.
    Enrolment,
}

/// The record of an enrolment, on disk before the machine has its certificate. A generation above 1 has replaced, and
/// so revoked, the identity before it.
pub fn enrolment(origin: &Origin, identity: &AgentUrn, event_id: &str) -> Line {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded<'a> {
        instance_id: &'a str,
    }
    let account_id = identity.account.as_str();
    let agent = UserIdentity::Agent { principal_id: &identity.to_string(), account_id };
    let mut shared = Shared::new(&Head {
        source: Some(origin.source),
        user_agent: Some(&origin.user_agent),
        ..Head::new("EnrollAgent", agent, origin.time, &identity.region)
    });
    shared.set_parameters(&Recorded { instance_id: identity.instance.as_str() });
    let rest = Rest {
        response_elements: Some(ResponseElements::Enrolled { generation: identity.generation }),
        request: Some(origin.request.as_str()),
        tls_details: origin.tls.as_ref().map(Tls::from),
        ..Rest::of_instance(identity, event_id)
    };
    shared.line(None, &rest)
}

/// The record of an agent's word that its machine has other host keys than are known: on disk before anybody is told them.
/// `in_use` is the other instance of the account that one of them belongs to.
pub fn host_key_report(
    identity: &AgentUrn,
    keys: &HostKeys,
    report: &HostKeyReport,
    time: UnixSeconds,
    event_id: &str,
) -> Line {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded<'a> {
        instance_id: &'a str,
        fingerprints: Vec<String>,
    }
    let account_id = identity.account.as_str();
    let agent = UserIdentity::Agent { principal_id: &identity.to_string(), account_id };
    let mut shared = Shared::new(&Head::new("ReportHostKeys", agent, time, &identity.region));
    shared.set_parameters(&Recorded {
        instance_id: identity.instance.as_str(),
        fingerprints: keys.iter().map(|key| key.fingerprint().to_string()).collect(),
    });
    let message = match report {
        HostKeyReport::InUse(other) => Some(format!("a host key of {other}")),
        HostKeyReport::Known | HostKeyReport::Pinned | HostKeyReport::Pending => None,
    };
    let failure = message
        .as_deref()
        .map(|message| Failure { error_code: "HostKeyInUse", error_message: Some(message) });
    let pinned = matches!(report, HostKeyReport::Pinned);
    let rest = Rest {
        response_elements: failure.is_none().then_some(ResponseElements::HostKeysReported { pinned }),
        ..Rest::of_instance(identity, event_id)
    };
    shared.line(failure, &rest)
}

/// The record of an agent's word for where its machine is and what it is called, where it says something else than before: on
/// disk before anybody is shown it.
pub fn host_facts_report(identity: &AgentUrn, facts: &HostFacts, time: UnixSeconds, event_id: &str) -> Line {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded<'a> {
        instance_id: &'a str,
        hostname: &'a str,
        architecture: &'a str,
        addresses: Vec<String>,
    }
    let account_id = identity.account.as_str();
    let agent = UserIdentity::Agent { principal_id: &identity.to_string(), account_id };
    let mut shared = Shared::new(&Head::new("ReportHostFacts", agent, time, &identity.region));
    shared.set_parameters(&Recorded {
        instance_id: identity.instance.as_str(),
        hostname: facts.hostname.as_str(),
        architecture: facts.architecture.as_str(),
        addresses: facts.addresses.iter().map(HostAddress::to_string).collect(),
    });
    shared.line(None, &Rest::of_instance(identity, event_id))
}

/// Why an identity is suspended: what two machines that hold it have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloneEvidence {
    /// Two links of different boots, both of which answer.
    TwoLinks,
    /// A certificate in whose place a newer one had been used.
    StaleCertificate,
}

/// What one of those machines has said, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkClaim {
    /// The boot it says it is in.
    pub boot_id: BootId,
    /// Where its connection came from.
    pub source: IpAddr,
    /// The generation of its certificate.
    pub generation: u64,
}

/// The link that showed that two machines hold an identity. Its certificate is the one that is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownBy<'a> {
    /// The boot it says it is in, if it has said so.
    pub boot_id: Option<&'a BootId>,
    /// Where its connection came from.
    pub source: IpAddr,
}

/// The record of a suspension: the link that showed it, and the one that was open, if there was one.
pub fn suspension(
    evidence: CloneEvidence,
    identity: &AgentUrn,
    (shown_by, open): (ShownBy<'_>, Option<&LinkClaim>),
    time: UnixSeconds,
    event_id: &str,
) -> Line {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded<'a> {
        instance_id: &'a str,
        reason: &'a str,
        links: Vec<RecordedLink<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct RecordedLink<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        boot_id: Option<&'a str>,
        #[serde(rename = "sourceIPAddress")]
        source: IpAddr,
        generation: u64,
    }
    let first = RecordedLink {
        boot_id: shown_by.boot_id.map(BootId::as_str),
        source: shown_by.source,
        generation: identity.generation,
    };
    let open = open.map(|claim| RecordedLink {
        boot_id: Some(claim.boot_id.as_str()),
        source: claim.source,
        generation: claim.generation,
    });
    let mut shared = Shared::new(&Head {
        source: Some(shown_by.source),
        ..Head::new("SuspendAgent", UserIdentity::InstanceConnect, time, &identity.region)
    });
    shared.set_parameters(&Recorded {
        instance_id: identity.instance.as_str(),
        reason: match evidence {
            CloneEvidence::TwoLinks => "two_links",
            CloneEvidence::StaleCertificate => "stale_certificate",
        },
        links: std::iter::once(first).chain(open).collect(),
    });
    shared.line(None, &Rest::of_instance(identity, event_id))
}

/// The record of a renewal, on disk before the machine has its certificate. `identity` has the new generation.
pub fn renewal(
    identity: &AgentUrn,
    presented: u64,
    source: IpAddr,
    time: UnixSeconds,
    event_id: &str,
) -> Line {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Recorded<'a> {
        instance_id: &'a str,
        generation: u64,
    }
    let account_id = identity.account.as_str();
    let presenting = AgentUrn { generation: presented, ..identity.clone() }.to_string();
    let agent = UserIdentity::Agent { principal_id: &presenting, account_id };
    let mut shared =
        Shared::new(&Head { source: Some(source), ..Head::new("RenewAgent", agent, time, &identity.region) });
    shared.set_parameters(&Recorded { instance_id: identity.instance.as_str(), generation: presented });
    let rest = Rest {
        response_elements: Some(ResponseElements::Enrolled { generation: identity.generation }),
        ..Rest::of_instance(identity, event_id)
    };
    shared.line(None, &rest)
}

/// The record of a request that was refused before anybody was verified: nothing in it is proved but its address. Only
/// what a [`super::Sampler`] admits is recorded. The error's message is left out, for it may repeat what was sent.
pub fn refusal(
    refused: Refused,
    origin: &Origin,
    region: &Region,
    error_code: &str,
    claimed: Option<&AccessKeyId>,
    event_id: &str,
) -> Line {
    let event_name = match refused {
        Refused::ApiRequest => "RefuseRequest",
        Refused::Enrolment => "EnrollAgent",
    };
    // A secret sent in the place of its id by mistake has lower-case letters.
    let is_id = |id: &&str| id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let access_key_id = claimed.map(AccessKeyId::as_str).filter(is_id);
    let user_agent: String = origin.user_agent.chars().take(limits::REFUSED_USER_AGENT).collect();
    let shared = Shared::new(&Head {
        source: Some(origin.source),
        user_agent: Some(&user_agent),
        ..Head::new(event_name, UserIdentity::Unknown { access_key_id }, origin.time, region)
    });
    let rest = Rest {
        request: Some(origin.request.as_str()),
        event_id: Some(event_id),
        ..Rest::new(EventType::Event)
    };
    shared.line(Some(Failure { error_code, error_message: None }), &rest)
}

/// The record of a minute in which requests were refused: how many, and how many of them are not on record.
pub fn refusal_counts(counts: &RefusalCounts, time: UnixSeconds, region: &Region, event_id: &str) -> Line {
    let head = Head::new("CountRefusals", UserIdentity::InstanceConnect, time, region);
    let mut rest = Rest { event_id: Some(event_id), ..Rest::new(EventType::Event) };
    rest.additional_event_data.refusals = Some(counts);
    Shared::new(&head).line(None, &rest)
}
