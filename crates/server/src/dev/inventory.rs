//! What `dev` puts into its store: an account, an administrator, a limited user, instances.

use super::Arguments;
use super::machine;
use super::os_user::OsAccount;
use crate::new_ids;
use crate::system::{SystemClock, SystemRandom};
use instance_connect_core::environment::{Clock as _, Random as _};
use instance_connect_core::ids::UserName;
use instance_connect_core::inventory::{
    AccessKey, Account, Instance, InstanceDetails, InstanceState, Status,
};
use instance_connect_store::Store;
use serde_json::json;
use std::collections::BTreeMap;

/// What was created.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) account: Account,
    pub(super) admin: Principal,
    pub(super) limited: Principal,
    pub(super) instances: Vec<Instance>,
    pub(super) without_machine: Vec<Instance>,
}

/// A user with an access key.
#[derive(Debug)]
pub(super) struct Principal {
    pub(super) arn: String,
    pub(super) access_key: AccessKey,
}

/// Fills an empty store.
pub(super) async fn create(
    store: &dyn Store,
    arguments: &Arguments,
    os_account: &OsAccount,
) -> anyhow::Result<Created> {
    let account =
        Account { id: "111122223333".parse()?, status: Status::Active, serial_console_access: false };
    store.create_account(&account).await?;
    let mut instances = Vec::new();
    let with_machine = (0..arguments.instances).map(|number| Some(machine::address_of(number)));
    let without_machine = (0..arguments.instances_without_machine).map(|_| None);
    for (number, private_ip) in (1..=u32::MAX).zip(with_machine.chain(without_machine)) {
        let instance = Instance {
            id: format!("i-0{}", hex(8)).parse()?,
            account: account.id.clone(),
            region: arguments.region.clone(),
            availability_zone: super::zone_of(&arguments.region)?,
            state: InstanceState::Running,
            tags: BTreeMap::from([("Name".to_owned(), format!("dev-{number}"))]),
            host: None,
            details: InstanceDetails { private_ip, ..InstanceDetails::default() },
            launched_at: SystemClock.wall(),
        };
        store.create_instance(&instance).await?;
        instances.push(instance);
    }
    let without_machine = instances.split_off(arguments.instances.into());
    let everything = json!([{ "Effect": "Allow", "Action": "*", "Resource": "*" }]);
    let admin = principal(store, &account, "admin", &everything).await?;
    // Tools look up where a machine is before they push.
    let first_only = json!([
        {
            "Effect": "Allow",
            "Action": "ec2-instance-connect:SendSSHPublicKey",
            "Resource": instances.first().map(Instance::arn),
            "Condition": { "StringEquals": { "ec2:osuser": os_account.name.as_str() } },
        },
        { "Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*" },
    ]);
    let limited = principal(store, &account, "limited", &first_only).await?;
    Ok(Created { account, admin, limited, instances, without_machine })
}

async fn principal(
    store: &dyn Store,
    account: &Account,
    name: &str,
    statements: &serde_json::Value,
) -> anyhow::Result<Principal> {
    let user = new_ids::user_id(&SystemRandom)?;
    let name: UserName = name.parse()?;
    store.create_user(&user, &account.id, &name).await?;
    let document = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    store.put_user_policy(&user, &"dev".parse()?, &document).await?;
    let (access_key, _) = new_ids::access_key(&SystemRandom, user)?;
    store.create_access_key(&access_key).await?;
    Ok(Principal { arn: format!("arn:aws:iam::{}:user/{name}", account.id), access_key })
}

/// Random hex, two digits for each byte.
fn hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    SystemRandom.fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
