//! What policies would say, from the file alone: the decision that the service would make of the same inventory.

use super::file::{Documents, Inventory, User};
use crate::administration::arguments::Tag;
use crate::failure::{Exit, Failure};
use crate::output;
use instance_connect_client::UnixSeconds;
use instance_connect_core::administration::{SimulatedContext, SimulatedPush};
use instance_connect_core::api::ApiError;
use instance_connect_core::authz;
use instance_connect_core::iam::{Decision, Policy};
use instance_connect_core::ids::{
    AccountId, InstanceId, OsUser, PolicyName, Region, RequestId, UserId, UserName,
};
use instance_connect_core::inventory::{
    self as core, InstanceDetails, InstanceState, Status, UserKind, policy_arn,
};
use instance_connect_core::origin::Origin;
use instance_connect_core::printable::printable;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A question to the file.
pub(crate) struct Offline<'a> {
    pub(crate) file: &'a str,
    pub(crate) user: &'a UserName,
    pub(crate) action: &'a str,
    pub(crate) instance: &'a InstanceId,
    pub(crate) os_user: Option<&'a OsUser>,
    pub(crate) context: &'a [Tag],
    /// Where the file does not say it.
    pub(crate) region: Option<&'a str>,
    pub(crate) now: UnixSeconds,
}

impl Offline<'_> {
    /// Answers it. The exit code is 0 if the push would succeed as far as the file knows, else 1.
    pub(crate) fn answer(&self) -> Result<u8, Failure> {
        let (text, succeeds) = self.explain(&Inventory::read(self.file)?)?;
        output::result(&text)?;
        Ok(u8::from(!succeeds))
    }

    fn explain(&self, file: &Inventory) -> Result<(String, bool), Failure> {
        let refuse = |message: String| Failure::new(Exit::Parameter, message);
        let account = file.account.as_ref().ok_or_else(|| {
            refuse("the file does not say whose inventory it is".to_owned())
                .hint("ARNs have the account in them: add the line account = \"…\"")
        })?;
        let region: Region = match (&file.region, self.region) {
            (_, Some(region)) => region.parse().map_err(|_| refuse(format!("{region:?} is not a region")))?,
            (Some(region), None) => region.clone(),
            (None, None) => {
                return Err(refuse("in which region? Give --region, or add the line region".to_owned()));
            }
        };
        let user =
            file.users.get(self.user).ok_or_else(|| refuse(format!("the file has no user {}", self.user)))?;
        let user = principal(self.user, user, file, account)?;
        let push = SimulatedPush::of_action(self.action, self.instance.clone(), || {
            self.os_user.cloned().ok_or(ApiError::Service)
        });
        let push = push.map_err(|_| {
            refuse(
                "the action is SendSSHPublicKey, with --os-user, or SendSerialConsoleSSHPublicKey".to_owned(),
            )
        })?;
        let inventory = instances(file, account, &region);
        let explanation = authz::explain(&user, &push, &inventory, &region, &self.origin()?);
        let obstacles = self.obstacles(&user, &inventory);
        let is_allowed = matches!(explanation.decision, Decision::Allowed(_));
        let lines = explanation.to_string().trim_end().lines().map(printable).collect::<Vec<_>>();
        let shown = obstacles.iter().map(|obstacle| format!("In the way: {obstacle}"));
        Ok((
            lines.into_iter().chain(shown).collect::<Vec<_>>().join("\n"),
            is_allowed && obstacles.is_empty(),
        ))
    }

    /// From this machine over TLS, unless said otherwise.
    fn origin(&self) -> Result<Origin, Failure> {
        let mut context = SimulatedContext { secure_transport: Some(true), ..SimulatedContext::default() };
        for Tag { key, value } in self.context {
            context.set(key, value.clone()).map_err(|error| {
                let message = match error {
                    ApiError::Administration { message, .. } => message,
                    _ => "--context cannot be used".to_owned(),
                };
                Failure::new(Exit::Parameter, printable(&message))
            })?;
        }
        let request: Result<RequestId, _> = "00000000-0000-0000-0000-000000000000".parse();
        let request = request.map_err(|error| Failure::new(Exit::General, error.to_string()))?;
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Ok(context.origin(&Origin { request, time: self.now, source, user_agent: String::new(), tls: None }))
    }

    fn obstacles(&self, user: &core::User, inventory: &core::Inventory) -> Vec<String> {
        let state = inventory.instances.get(self.instance).map(|instance| instance.state);
        let obstacles = [
            (user.status != Status::Active, format!("The user {} is suspended.", user.name)),
            (state.is_none(), format!("There is no instance {} in this account and region.", self.instance)),
            (
                state.is_some_and(|state| state != InstanceState::Running),
                format!("The instance is {}.", state.map_or("gone", InstanceState::as_str)),
            ),
        ];
        obstacles.into_iter().filter(|(is_there, _)| *is_there).map(|(_, sentence)| sentence).collect()
    }
}

/// The unique id of a user whom the service has not seen: policies that ask for `aws:userid` are not answered offline.
const NO_ID: &str = "AIDAOFFLINE000000000";

/// The user with its policies, named and in the order in which the service has them.
fn principal(
    name: &UserName,
    user: &User,
    file: &Inventory,
    account: &AccountId,
) -> Result<core::User, Failure> {
    let groups = user
        .groups
        .iter()
        .map(|name| file.groups.get_key_value(name).ok_or_else(|| not_in_the_file(&format!("group {name}"))));
    let groups: Vec<_> = groups.collect::<Result<_, _>>()?;
    let attached_to_groups = groups.iter().flat_map(|(_, group)| &group.attached);
    let managed: BTreeSet<&PolicyName> = user.attached.iter().chain(attached_to_groups).collect();
    let mut policies = Vec::new();
    policies.extend(named(&user.inline, PolicyName::to_string)?);
    for (name, group) in &groups {
        policies.extend(named(&group.inline, |policy| format!("group/{name}/{policy}"))?);
    }
    for policy in managed {
        policies.push(managed_policy(policy, file, account)?);
    }
    let boundary = user.boundary.as_ref().map(|policy| managed_policy(policy, file, account)).transpose()?;
    let id: Result<UserId, _> = NO_ID.parse();
    Ok(core::User {
        kind: UserKind::IamUser,
        id: id.map_err(|error| Failure::new(Exit::General, error.to_string()))?,
        account: account.clone(),
        name: name.clone(),
        status: user.status,
        tags: user.tags.clone(),
        policies,
        boundary,
    })
}

fn named(
    documents: &Documents,
    full_name: impl Fn(&PolicyName) -> String,
) -> Result<Vec<Arc<Policy>>, Failure> {
    documents.iter().map(|(name, document)| parse(&full_name(name), document)).collect()
}

fn managed_policy(name: &PolicyName, file: &Inventory, account: &AccountId) -> Result<Arc<Policy>, Failure> {
    let document = file.policies.get(name).ok_or_else(|| not_in_the_file(&format!("policy {name}")))?;
    parse(&policy_arn(account, name), document)
}

/// What is not there may deny: without it there is no answer.
fn not_in_the_file(what: &str) -> Failure {
    Failure::new(Exit::Parameter, format!("the file refers to {what}, and does not have it"))
}

fn parse(name: &str, document: &str) -> Result<Arc<Policy>, Failure> {
    let policy = Policy::parse(name, document);
    policy.map(Arc::new).map_err(|error| Failure::new(Exit::Parameter, format!("policy {name}: {error}")))
}

/// What decisions need of the rest: the instances, with their tags.
fn instances(file: &Inventory, account: &AccountId, region: &Region) -> core::Inventory {
    let instances = file.instances.iter().map(|(id, instance)| {
        Arc::new(core::Instance {
            id: id.clone(),
            account: account.clone(),
            region: region.clone(),
            availability_zone: instance.availability_zone.clone(),
            state: instance.state,
            tags: instance.tags.clone(),
            host: instance.host.clone(),
            // No policy asks for the rest.
            details: InstanceDetails::default(),
            launched_at: UnixSeconds(0),
        })
    });
    core::Inventory { instances: instances.collect(), ..core::Inventory::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
account = "111122223333"
region = "us-east-1"
[policies]
push = '{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}'
[groups.ops]
[groups.ops.inline]
never = '{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}'
[users.bob]
groups = ["ops"]
attached = ["push"]
[instances.i-0123456789abcdef0]
availability_zone = "us-east-1a"
"#;

    fn answer(file: &str) -> Result<(String, bool), Failure> {
        let offline = Offline {
            file: "-",
            user: &"bob".parse().unwrap(),
            action: "SendSSHPublicKey",
            instance: &"i-0123456789abcdef0".parse().unwrap(),
            os_user: Some(&"deploy".parse().unwrap()),
            context: &[],
            region: None,
            now: UnixSeconds(0),
        };
        offline.explain(&toml::from_str(file).unwrap())
    }

    /// The Deny of a group that is not in the file would not be seen, and the answer would be that bob may.
    #[test]
    fn what_a_user_has_is_in_the_file_or_there_is_no_answer() {
        assert!(!answer(FILE).unwrap().1);
        assert!(answer(&FILE.replace("\"Deny\"", "\"Allow\"")).unwrap().1);
        for (now, then, missing) in [
            (r#"["ops"]"#, r#"["others"]"#, "group others"),
            (r#"["push"]"#, r#"["pull"]"#, "policy pull"),
            ("[groups.ops]", "[groups.ops]\nattached = [\"pull\"]", "policy pull"),
            ("[users.bob]", "[users.bob]\nboundary = \"pull\"", "policy pull"),
        ] {
            let refused = answer(&FILE.replace(now, then)).unwrap_err();
            let message = format!("the file refers to {missing}, and does not have it");
            assert_eq!((refused.exit, refused.message), (Exit::Parameter, message));
        }
    }
}
