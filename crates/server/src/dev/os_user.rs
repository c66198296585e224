//! Which OS account the logins of `dev` open.

use crate::os_accounts::{self, Account};
use anyhow::{Context as _, bail};
use instance_connect_core::ids::OsUser;

/// The chosen account, and whether this process may become any account at all.
#[derive(Clone, Debug)]
pub(super) struct OsAccount {
    pub(super) name: OsUser,
    pub(super) uid: u32,
    /// Running as root: real logins through PAM, as any account.
    pub(super) root: bool,
}

impl OsAccount {
    /// The account named, or the one a user would expect: `SUDO_USER`, else the first ordinary account, else oneself.
    pub(super) fn choose(named: Option<&str>) -> anyhow::Result<Self> {
        let own_uid = rustix::process::getuid().as_raw();
        let root = own_uid == 0;
        let known = os_accounts::all()?;
        let own = known
            .iter()
            .find(|account| account.uid == own_uid)
            .context("the invoking user has no account")?;
        let chosen = match named {
            Some(name) => {
                os_accounts::named(name)?.with_context(|| format!("--os-user: there is no account {name}"))?
            }
            None if root => default_for_root(&known).unwrap_or_else(|| {
                tracing::warn!("this machine has no ordinary account; logins open {}", own.name);
                own.clone()
            }),
            None => own.clone(),
        };
        if !root && chosen.uid != own_uid {
            bail!(
                "--os-user {}: only root can open other accounts than its own; run dev as root for that",
                chosen.name
            );
        }
        let name = chosen.name.parse().with_context(|| format!("account name {:?}", chosen.name))?;
        Ok(Self { name, uid: chosen.uid, root })
    }
}

fn default_for_root(known: &[Account]) -> Option<Account> {
    let sudo_user = std::env::var("SUDO_USER").ok();
    let by_sudo = known.iter().find(|account| sudo_user.as_ref() == Some(&account.name) && account.uid != 0);
    let ordinary = || known.iter().find(|account| account.is_ordinary());
    by_sudo.or_else(ordinary).cloned()
}
