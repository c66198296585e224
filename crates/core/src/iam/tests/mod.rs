//! The evaluator as a whole: a table of decisions, a table of refusals, and laws.

mod explanations;
mod laws;
mod refusals;
mod table;

use super::{AccessRequest, Decision, Denial, Policy, PolicyKind, RequestedAction, evaluate};
use crate::ids::{OsUser, Region};
use crate::inventory::{Status, User, UserKind, instance_arn};
use crate::origin::{Origin, TlsDetails};
use instance_connect_document::UnixSeconds;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A request that owns what it is about. Tests change what they are about.
#[derive(Clone, Debug)]
struct Asked {
    caller: User,
    action: Kind,
    os_user: OsUser,
    port: u16,
    address: Option<IpAddr>,
    duration: u32,
    resource: String,
    tags: Option<BTreeMap<String, String>>,
    region: Region,
    origin: Origin,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Push,
    Serial,
    Tunnel,
}

impl Default for Asked {
    /// alice pushes for `deploy` to an instance without tags, over TLS, and has no policy.
    fn default() -> Self {
        let region: Region = "us-east-1".parse().unwrap();
        let account = "111122223333".parse().unwrap();
        let resource = instance_arn(&region, &account, &"i-0123456789abcdef0".parse().unwrap());
        Self {
            caller: User {
                kind: UserKind::IamUser,
                id: "AIDAEXAMPLEEXAMPLE01".parse().unwrap(),
                account,
                name: "alice".parse().unwrap(),
                status: Status::Active,
                tags: BTreeMap::new(),
                policies: Vec::new(),
                boundary: None,
            },
            action: Kind::Push,
            os_user: "deploy".parse().unwrap(),
            port: 22,
            address: Some("10.0.1.9".parse().unwrap()),
            duration: 3600,
            resource,
            tags: Some(BTreeMap::new()),
            region,
            origin: Origin {
                request: "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
                time: UnixSeconds(1_928_462_706),
                source: "192.0.2.1".parse().unwrap(),
                user_agent: "aws-cli/2.15.0".to_owned(),
                tls: Some(tls()),
            },
        }
    }
}

fn tls() -> TlsDetails {
    TlsDetails { version: "TLSv1.3", cipher_suite: "TLS_AES_128_GCM_SHA256", host: "localhost".to_owned() }
}

impl Asked {
    fn request(&self) -> AccessRequest<'_> {
        let action = match self.action {
            Kind::Push => RequestedAction::SendSshPublicKey { os_user: &self.os_user },
            Kind::Serial => RequestedAction::SendSerialConsoleSshPublicKey,
            Kind::Tunnel => RequestedAction::OpenTunnel {
                remote_port: self.port,
                private_ip_address: self.address,
                max_tunnel_duration: self.duration,
            },
        };
        AccessRequest {
            caller: &self.caller,
            action,
            resource: &self.resource,
            resource_tags: self.tags.as_ref(),
            region: &self.region,
            origin: &self.origin,
        }
    }

    /// The decision on these statements in one policy, named `p`.
    fn decide(&self, statements: &[String]) -> Decision {
        let mut asked = self.clone();
        asked.caller.policies = vec![policy("p", &statements.join(","))];
        evaluate(&asked.request())
    }

    fn allows(&self, statements: &[String]) -> bool {
        matches!(self.decide(statements), Decision::Allowed(_))
    }
}

/// A policy of version 2012-10-17 with these statements.
fn policy(name: &str, statements: &str) -> Arc<Policy> {
    let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    Arc::new(Policy::parse(name, &document).unwrap_or_else(|error| panic!("{document}: {error}")))
}

/// A decision as the tables write it.
fn written(decision: &Decision) -> String {
    match decision {
        Decision::Allowed(Some(by)) => format!("allowed by {} {}", by.policy, by.statement),
        Decision::Allowed(None) => "allowed as root".to_owned(),
        Decision::Denied(Denial::Explicit(by)) => format!("denied by {} {}", by.policy, by.statement),
        Decision::Denied(Denial::Implicit(PolicyKind::IdentityBased)) => "not allowed".to_owned(),
        Decision::Denied(Denial::Implicit(PolicyKind::PermissionsBoundary)) => {
            "outside the boundary".to_owned()
        }
    }
}
