//! Enrolment: a one-time token for an identity.

use super::{Agents, host_keys, refusal};
use crate::new_ids;
use crate::pki::{AgentKey, Pki};
use instance_connect_core::audit;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Random;
use instance_connect_core::host_key::claimed;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::{Instance, InstanceState, JoinToken};
use instance_connect_core::limits;
use instance_connect_core::link::{
    AgentUrn, EnrollAnswer, EnrollError, EnrollErrorCode as Code, EnrollRequest, JoinTokenText,
};
use instance_connect_core::origin::Origin;
use instance_connect_store::{RedeemError, RedeemRefusal, Store, StoreError};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Answers one enrolment request.
pub(super) async fn enroll(
    agents: &Agents,
    body: &[u8],
    origin: &Origin,
) -> Result<EnrollAnswer, EnrollError> {
    let request = EnrollRequest::from_json(body)?;
    let now = origin.time;
    let pki = agents.links.pki();
    // A request that cannot be certified must not use the token up, nor tell which instances there are.
    let key = AgentKey::from_request(&request.csr);
    let key = key.map_err(|error| refusal(Code::CsrRefused, &format!("{error:#}")))?;
    let instance = instance_of(agents, request.token.instance())?;
    let redeemed = agents
        .inventory
        .store()
        .redeem_join_token(&request.token.secret_hash(), &instance.id, now, request.replace)
        .await;
    let identity = redeemed.map_err(redeem_refusal)?;
    let urn = AgentUrn {
        region: agents.region.clone(),
        account: instance.account.clone(),
        instance: instance.id.clone(),
        generation: identity.newest,
    };
    let record = audit::enrolment(origin, &urn, &new_ids::uuid(agents.random.as_ref()));
    agents.audit.commit(record).await.map_err(|error| {
        tracing::error!(%error, "an enrolment cannot be recorded");
        unavailable()
    })?;
    // Its first host keys are pinned; another machine's, enrolled with --replace, wait to be accepted.
    let host_keys = claimed(request.ssh_host_keys.iter().map(String::as_str));
    host_keys::take_or_log(agents, &urn, &host_keys).await;
    let certificate_chain =
        pki.agent_chain(&key, &urn, now, agents.certificate_lifetime).map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "cannot issue an agent's certificate");
            unavailable()
        })?;
    // The agent opens its link at once; the snapshot has to know it by then.
    if let Err(error) = agents.inventory.refresh().await {
        tracing::error!(error = format!("{error:#}"), "cannot follow the store after an enrolment");
    }
    let (id, generation) = (&instance.id, identity.newest);
    tracing::info!(instance = %id, generation, agent_version = request.agent_version.as_str(), "enrolled");
    Ok(EnrollAnswer {
        instance_id: instance.id.clone(),
        region: agents.region.clone(),
        account_id: instance.account.clone(),
        certificate_chain,
        server_ca: pki.server_ca(),
        anchors: pki.anchors(),
    })
}

/// Makes a join token for an existing instance. Its text is shown once and never stored.
///
/// # Errors
/// When the instance does not exist or the store fails.
pub(crate) async fn create_join_token(
    store: &dyn Store,
    pki: &Pki,
    random: &dyn Random,
    instance: &InstanceId,
    now: UnixSeconds,
) -> Result<Zeroizing<String>, StoreError> {
    let mut secret = Zeroizing::new([0; 32]);
    random.fill(secret.as_mut_slice());
    let token = JoinTokenText::new(instance.clone(), secret, pki.root_sha256());
    let lifetime = i64::try_from(limits::JOIN_TOKEN_LIFETIME.as_secs()).unwrap_or(0);
    let expires_at = UnixSeconds(now.0.saturating_add(lifetime));
    let record = JoinToken { secret_hash: token.secret_hash(), instance: instance.clone(), expires_at };
    store.create_join_token(&record, now).await?;
    Ok(token.expose())
}

fn instance_of(agents: &Agents, id: &InstanceId) -> Result<Arc<Instance>, EnrollError> {
    let inventory = agents.inventory.current().map_err(|_| unavailable())?;
    let instance = inventory.instances.get(id);
    // To someone without a good token these are all the same: there is no token for such an instance.
    let usable = instance.filter(|instance| {
        !matches!(instance.state, InstanceState::Terminated | InstanceState::ShuttingDown)
    });
    usable.map(Arc::clone).ok_or_else(unknown_token)
}

fn redeem_refusal(error: RedeemError) -> EnrollError {
    let refused = match error {
        RedeemError::Refused(refused) => refused,
        RedeemError::Store(error) => {
            tracing::error!(%error, "the store failed during an enrolment");
            return unavailable();
        }
    };
    match refused {
        RedeemRefusal::Unknown | RedeemRefusal::OtherInstance | RedeemRefusal::InstanceUnknown => {
            unknown_token()
        }
        RedeemRefusal::AlreadyUsed => {
            refusal(Code::TokenUsed, "this join token has been used; create another")
        }
        RedeemRefusal::Expired => refusal(Code::TokenExpired, "this join token has expired; create another"),
        RedeemRefusal::AlreadyEnrolled => refusal(
            Code::AlreadyEnrolled,
            "the instance is enrolled already; use --replace to revoke its old identity",
        ),
    }
}

fn unknown_token() -> EnrollError {
    refusal(Code::TokenUnknown, "there is no such join token for an instance in use; create one")
}

pub(super) fn unavailable() -> EnrollError {
    refusal(Code::Unavailable, "not now; try again in a moment")
}
