//! `instance-connectd init`: from nothing to a control plane that can be started.
//!
//! What is there already is used, so that a run that was interrupted is repeated and goes on where it ended; nothing is
//! overwritten. The last step adds the administrator's access key: whoever has one is initialised.

use crate::config::{Settings, Source};
use crate::master_key::MasterKeyPlace;
use crate::pki::Pki;
use crate::system::{SystemClock, SystemRandom};
use crate::{new_file, new_ids, os_accounts};
use anyhow::{Context as _, bail, ensure};
use instance_connect_core::environment::{Clock as _, Random as _};
use instance_connect_core::ids::{AccountId, UserName};
use instance_connect_core::inventory::{AccessKey, Account, Inventory, Status, UserKind};
use instance_connect_store::{SqliteStore, Store};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::Path;
use zeroize::Zeroizing;

/// The service's user, where there is one.
const SERVICE_USER: &str = "instance-connect";

/// The administrator's policy.
const POLICY: &str = "administrator";

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLE:
  instance-connectd init --public-names connect.example.com
      Writes /etc/instance-connect/instance-connectd.toml and what belongs to it, and prints the first
      administrator's access key, once.

What was left half done by an earlier run is finished. Nothing that exists is overwritten.")]
pub struct Arguments {
    #[command(flatten)]
    configuration: Source,
    /// The id of the management account, 12 digits [default: a random one]
    #[arg(long, value_name = "ID")]
    account_id: Option<AccountId>,
    /// The name of the first administrator
    #[arg(long, value_name = "NAME", default_value = "admin")]
    administrator: UserName,
    /// As root: the user that the service runs as, who is given the data directory [default: instance-connect, if
    /// there is such a user]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// Runs it.
///
/// # Errors
/// It is initialised already, or something cannot be made; the error says what to do.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let owner = Owner::choose(arguments.user.as_deref())?;
    run_for(owner, arguments, &mut std::io::stdout())
}

fn run_for(owner: Option<Owner>, arguments: &Arguments, output: &mut impl Write) -> anyhow::Result<()> {
    let settings = configuration(&arguments.configuration, owner)?;
    // Of several at a time one goes on.
    let lock = File::open(arguments.configuration.file())?;
    lock.try_lock().context("another init is at work")?;
    master_key(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(initialise(arguments, &settings, owner, output))
}

/// Fills the inventory. The administrator's access key is the last that is put there.
async fn initialise(
    arguments: &Arguments,
    settings: &Settings,
    owner: Option<Owner>,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let store = settings.open_store()?;
    let inventory = store.inventory().await?.inventory;
    if let Some(key) = inventory.access_keys.values().next() {
        let account = inventory.users.get(&key.user).map_or("", |user| user.account.as_str());
        let directory = settings.data_dir.display();
        bail!("{directory} is initialised already (account {account}); nothing was changed");
    }
    if let Some(owner) = owner {
        owner.give_directory(&settings.data_dir)?;
    }
    let pki = Pki::load(store.as_ref(), &SystemRandom, &settings.region, SystemClock.wall()).await?;
    let ca = settings.directory.join("ca.pem");
    new_file::replace(&ca, pki.root_pem().as_bytes(), 0o644)?;
    let account = management_account(store.as_ref(), &inventory, arguments.account_id.as_ref()).await?;
    let key = administrator(store.as_ref(), &inventory, &account, &arguments.administrator).await?;
    // First told, then put: were it the other way round, a failure in between would leave a key that nobody knows.
    let said = told(arguments, settings, &account, &key, &ca)?;
    let said = output.write_all(&said).and_then(|()| output.flush());
    said.context("cannot write to standard output; run init again")?;
    store
        .create_first_access_key(&key, SystemClock.wall())
        .await
        .context("the access key above is not valid; run init again")?;
    Ok(())
}

/// Reads the configuration, and before that writes it where there is none.
fn configuration(source: &Source, owner: Option<Owner>) -> anyhow::Result<Settings> {
    let file = source.file();
    if file.exists() {
        ensure!(
            !source.has_flags(),
            "{} is there already: change settings in it, and leave their flags out",
            file.display()
        );
        return source.load();
    }
    let text = source.as_file()?;
    if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    }
    new_file::create(file, text.as_bytes(), 0o640)?;
    if let Some(owner) = owner {
        chown(file, None, Some(owner.group))
            .with_context(|| format!("cannot give {} away", file.display()))?;
    }
    Source::of_file(Some(file.to_owned())).load()
}

/// Makes the master key where there is none, unless there is an inventory that was sealed with one.
fn master_key(settings: &Settings) -> anyhow::Result<()> {
    let place = MasterKeyPlace::here(settings);
    let path = place.path();
    if path.exists() {
        return Ok(());
    }
    ensure!(
        !SqliteStore::exists(&settings.data_dir),
        "the inventory in {} is there, and its master key {} is not: put that back from where it is kept. Without it \
         the secrets in the inventory are lost; to begin anew, move the directory away",
        settings.data_dir.display(),
        path.display()
    );
    let mut key = Zeroizing::new([0; 32]);
    SystemRandom.fill(key.as_mut_slice());
    new_file::create(path, key.as_slice(), 0o600)
}

/// The account that administers all others: the one that an earlier run has made, or a new one.
async fn management_account(
    store: &dyn Store,
    inventory: &Inventory,
    wanted: Option<&AccountId>,
) -> anyhow::Result<AccountId> {
    if let Some(id) = inventory.accounts.keys().next() {
        ensure!(
            wanted.is_none_or(|wanted| wanted == id),
            "an earlier run has made account {id}; leave --account-id out, or move the data directory away to begin anew"
        );
        return Ok(id.clone());
    }
    let id = match wanted {
        Some(id) => id.clone(),
        None => new_ids::account_id(&SystemRandom)?,
    };
    let account = Account { id: id.clone(), status: Status::Active, serial_console_access: false };
    store.create_account(&account).await?;
    Ok(id)
}

/// The first administrator, with a policy that allows everything. Gives an access key for it that is not valid yet.
async fn administrator(
    store: &dyn Store,
    inventory: &Inventory,
    account: &AccountId,
    name: &UserName,
) -> anyhow::Result<AccessKey> {
    let named = |kind, known: &UserName| kind == UserKind::IamUser && known == name;
    let made_before = inventory.users.values().find(|user| named(user.kind, &user.name));
    let user = match made_before {
        Some(user) => user.id.clone(),
        None => {
            let id = new_ids::user_id(&SystemRandom)?;
            store.create_user(&id, account, name).await?;
            id
        }
    };
    let everything = json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }],
    });
    store.put_user_policy(&user, &POLICY.parse()?, &everything.to_string()).await?;
    let (key, _) = new_ids::access_key(&SystemRandom, user)?;
    Ok(key)
}

/// What was made and what to do next. The secret is in it, and nowhere else.
fn told(
    arguments: &Arguments,
    settings: &Settings,
    account: &AccountId,
    key: &AccessKey,
    ca: &Path,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    let file = arguments.configuration.file().display();
    let (name, ca) = (&arguments.administrator, ca.display());
    let (id, region) = (&key.id, &settings.region);
    let master_key = MasterKeyPlace::here(settings);
    writeln!(text, "Account {account} in {region}, administrator arn:aws:iam::{account}:user/{name}")?;
    writeln!(text, "\nIts access key. The secret is kept nowhere in clear and not shown again:\n")?;
    writeln!(text, "  export AWS_ACCESS_KEY_ID='{id}'")?;
    text.extend_from_slice(b"  export AWS_SECRET_ACCESS_KEY='");
    text.extend_from_slice(key.secret.expose());
    text.extend_from_slice(b"'\n");
    // Which of the two is read depends on the client.
    writeln!(text, "  export AWS_REGION='{region}' AWS_DEFAULT_REGION='{region}'")?;
    writeln!(text, "\nConfiguration  {file}")?;
    writeln!(text, "Inventory      {}", settings.data_dir.display())?;
    writeln!(
        text,
        "Master key     {}: back it up, and apart from the inventory",
        master_key.path().display()
    )?;
    writeln!(
        text,
        "Authority      {ca}: what clients trust (AWS_CA_BUNDLE), unless you have certificates of your own"
    )?;
    writeln!(text, "\nNext: instance-connectd serve --config {file}")?;
    Ok(text)
}

/// The user that the service runs as.
#[derive(Clone, Copy, Debug)]
struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    /// The one named, or the usual one if root is asking and there is one.
    fn choose(named: Option<&str>) -> anyhow::Result<Option<Self>> {
        let is_root = rustix::process::geteuid().is_root();
        ensure!(named.is_none() || is_root, "only root can give files to another user (--user)");
        if !is_root {
            return Ok(None);
        }
        let account = os_accounts::named(named.unwrap_or(SERVICE_USER))?;
        if let (Some(name), None) = (named, &account) {
            bail!("--user: there is no account {name}");
        }
        Ok(account.map(|account| Self { user: account.uid, group: account.gid }))
    }

    /// Gives a directory and the files in it away.
    fn give_directory(self, directory: &Path) -> anyhow::Result<()> {
        let give = |path: &Path| {
            let given = std::os::unix::fs::lchown(path, Some(self.user), Some(self.group));
            given.with_context(|| format!("cannot give {} away", path.display()))
        };
        for entry in fs::read_dir(directory)? {
            give(&entry?.path())?;
        }
        give(directory)
    }
}

#[cfg(test)]
mod tests;
