//! A small world: one account with a user, an instance, and requests signed by that user.

use instance_connect_core::api::{ApiError, SendSshPublicKey};
use instance_connect_core::authz::{Authorized, Caller, authorize, claimed_caller};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::iam::Policy;
use instance_connect_core::ids::{AccessKeyId, AccountId, InstanceId, Region, UserId};
use instance_connect_core::inventory::{
    AccessKey, Account, Instance, InstanceDetails, InstanceState, Inventory, Status, User, UserKind,
};
use instance_connect_core::limits::CLOCK_WINDOW;
use instance_connect_core::origin::Origin;
use instance_connect_core::secret::Secret;
use instance_connect_core::sigv4::{
    AuthenticationError, Credentials, Expected, Presented, RequestHead, SigningScope, Verified, sign_headers,
};
use instance_connect_core::ssh_key::KeyTypes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The secret of the world's access key.
pub const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A public key whose private half nobody needs.
pub const KEY_LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";

/// One account, one user allowed everything, one running instance; tests change what they are about.
#[derive(Clone, Debug)]
pub struct World {
    /// The inventory.
    pub inventory: Inventory,
    /// The account.
    pub account: AccountId,
    /// The user `alice`.
    pub user: UserId,
    /// Her access key.
    pub access_key: AccessKeyId,
    /// The instance.
    pub instance: InstanceId,
    /// The region it is in.
    pub region: Region,
    /// The time at which requests are signed.
    pub now: UnixSeconds,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::unwrap_used, reason = "a test that gets something wrong here must fail")]
impl World {
    /// The world as it begins.
    pub fn new() -> Self {
        let account: AccountId = "111122223333".parse().unwrap();
        let user: UserId = "AIDAEXAMPLEEXAMPLE01".parse().unwrap();
        let access_key: AccessKeyId = "AKIAEXAMPLEEXAMPLE01".parse().unwrap();
        let instance: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let region: Region = "us-east-1".parse().unwrap();
        let mut world = Self {
            inventory: Inventory { sequence: 1, ..Inventory::default() },
            account: account.clone(),
            user: user.clone(),
            access_key: access_key.clone(),
            instance: instance.clone(),
            region: region.clone(),
            now: UnixSeconds(1_928_541_906),
        };
        let inventory = &mut world.inventory;
        let record = Account { id: account.clone(), status: Status::Active, serial_console_access: false };
        inventory.accounts.insert(account.clone(), record);
        let secret = Secret::new(SECRET_ACCESS_KEY.into());
        let key = AccessKey { id: access_key.clone(), secret, user, status: Status::Active };
        inventory.access_keys = HashMap::from([(access_key, key)]);
        let availability_zone = "us-east-1a".parse().unwrap();
        let (state, tags) = (InstanceState::Running, BTreeMap::new());
        let id = instance.clone();
        let record = Instance {
            id,
            account,
            region,
            availability_zone,
            state,
            tags,
            host: None,
            details: InstanceDetails::default(),
            launched_at: world.now,
        };
        inventory.instances.put(Arc::new(record));
        let (id, account, name) = (world.user.clone(), world.account.clone(), "alice".parse().unwrap());
        let (kind, status, policies) = (UserKind::IamUser, Status::Active, Vec::new());
        let record = User {
            kind,
            id: id.clone(),
            account,
            name,
            status,
            tags: BTreeMap::new(),
            policies,
            boundary: None,
        };
        world.inventory.users.insert(id, Arc::new(record));
        world.set_policies(&[r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#]);
        world
    }

    /// Gives alice these policies and no others.
    pub fn set_policies(&mut self, documents: &[&str]) {
        let policies = documents.iter().map(|document| policy("policy", document)).collect();
        self.change_user(|alice| alice.policies = policies);
    }

    /// Gives alice this permissions boundary.
    pub fn set_boundary(&mut self, document: &str) {
        self.change_user(|alice| alice.boundary = Some(policy("boundary", document)));
    }

    /// Suspends alice.
    pub fn suspend_user(&mut self) {
        self.change_user(|alice| alice.status = Status::Suspended);
    }

    /// Changes alice.
    pub fn change_user(&mut self, change: impl FnOnce(&mut User)) {
        let user = self.inventory.users.get_mut(&self.user).unwrap();
        change(Arc::make_mut(user));
    }

    /// Changes the instance.
    pub fn change_instance(&mut self, change: impl FnOnce(&mut Instance)) {
        let mut instance = Arc::clone(self.inventory.instances.get(&self.instance).unwrap());
        change(Arc::make_mut(&mut instance));
        self.inventory.instances.put(instance);
    }

    /// This world with a guest of its instance, which is then the one that requests are about.
    pub fn with_guest(&self, id: &str) -> Self {
        let mut world = Self { instance: id.parse().unwrap(), ..self.clone() };
        let mut guest = Arc::clone(self.inventory.instances.get(&self.instance).unwrap());
        Arc::make_mut(&mut guest).id = world.instance.clone();
        Arc::make_mut(&mut guest).host = Some(self.instance.clone());
        world.inventory.instances.put(guest);
        world
    }

    /// A request of alice, signed and verified: there is no other way to a verified caller.
    ///
    /// # Errors
    /// Whatever verification refuses.
    pub fn verified(&self, body: &[u8]) -> Result<Verified<Caller>, AuthenticationError> {
        let credentials = Credentials {
            access_key_id: self.access_key.to_string(),
            secret_access_key: Secret::new(SECRET_ACCESS_KEY.into()),
            session_token: None,
        };
        let scope = SigningScope { region: self.region.as_str(), service: "ec2-instance-connect" };
        let signed =
            sign_headers("POST", "/", &[("host", "localhost")], body, &credentials, scope, self.now).unwrap();
        let headers = [
            ("host", "localhost"),
            ("x-amz-date", signed.amz_date.as_str()),
            ("authorization", &signed.authorization),
        ];
        let headers = headers.into_iter().map(|(name, value)| (name, value.as_bytes()));
        let head = RequestHead::read("POST", "/", headers).unwrap();
        let window = CLOCK_WINDOW;
        let expected = Expected { region: scope.region, service: scope.service, now: self.now, window };
        let presented = Presented::read(&head, &expected)?;
        let key = presented.access_key_id().and_then(|claimed| claimed_caller(&self.inventory, claimed));
        presented.verify(body, key)
    }

    /// Where the requests of this world come from.
    pub fn origin(&self) -> Origin {
        Origin {
            request: "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
            time: self.now,
            source: "192.0.2.1".parse().unwrap(),
            user_agent: "test\n".to_owned(),
            tls: None,
        }
    }

    /// The body of a push of [`KEY_LINE`] for this OS user.
    pub fn push_body(&self, os_user: &str) -> String {
        format!(
            r#"{{"InstanceId":"{}","InstanceOSUser":"{os_user}","SSHPublicKey":"{KEY_LINE}"}}"#,
            self.instance
        )
    }

    /// A push of [`KEY_LINE`] for this OS user, judged.
    ///
    /// # Errors
    /// Whatever authentication, the parameters or authorization refuse.
    pub fn authorized(&self, os_user: &str) -> Result<Authorized<SendSshPublicKey>, ApiError> {
        let body = self.push_body(os_user);
        let caller = self.verified(body.as_bytes())?;
        let operation = SendSshPublicKey::parse(body.as_bytes(), &KeyTypes::default())?;
        authorize(caller, operation, &self.inventory, &self.region, &self.origin())
    }
}

#[expect(clippy::unwrap_used, reason = "a test that gets something wrong here must fail")]
fn policy(name: &str, document: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(name, document).unwrap())
}
