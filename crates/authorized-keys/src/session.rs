//! What `instance-connect-session` tells the agent, from what PAM tells it.

use instance_connect_document::{
    BootInstant, Fingerprint, OsUser, RemoteHost, SessionChange, SessionEvent, SessionId, base64_decode,
};
use std::ffi::OsString;

/// Most keys of one login that are told: sshd can demand several (`AuthenticationMethods publickey,publickey`).
const KEYS: usize = 4;

/// What PAM says, as its environment has it. Absent is empty.
#[derive(Clone, Debug, Default)]
pub struct PamEnvironment {
    /// `PAM_TYPE`: what of the PAM stack runs.
    pub kind: String,
    /// `PAM_USER`: whose account.
    pub user: String,
    /// `PAM_RHOST`: where the login comes from.
    pub remote_host: String,
    /// `SSH_AUTH_INFO_0`: how sshd was convinced, a method a line; for a key `publickey <type> <base64>`.
    pub authentication: String,
}

impl PamEnvironment {
    /// What PAM says, of all variables in their order. Before its own pam_exec puts those of modules, and behind `pam_env` with
    /// `user_readenv` users name and choose them: only the last of each name is PAM's.
    pub fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        let mut authentications = 0;
        for (name, value) in variables {
            let variable = match name.to_str() {
                Some("PAM_TYPE") => &mut environment.kind,
                Some("PAM_USER") => &mut environment.user,
                Some("PAM_RHOST") => &mut environment.remote_host,
                Some("SSH_AUTH_INFO_0") => {
                    authentications += 1;
                    &mut environment.authentication
                }
                _ => continue,
            };
            *variable = value.into_string().unwrap_or_default();
        }
        // sshd sets it before a login opens, and once. At any other time, and beside another, it is a user's word.
        if environment.kind != "open_session" || authentications > 1 {
            environment.authentication.clear();
        }
        environment
    }
}

/// What happened to a login: nothing that matters where no key has opened it, or no key can have been pushed for its user.
pub fn session_events(
    environment: &PamEnvironment,
    session: SessionId,
    at: BootInstant,
) -> Vec<SessionEvent> {
    let Ok(user) = environment.user.parse::<OsUser>() else { return Vec::new() };
    let event = |change| SessionEvent { user: user.clone(), session, change, at };
    match environment.kind.as_str() {
        "open_session" => {
            let from = environment.remote_host.parse().unwrap_or_else(|_| RemoteHost::unknown());
            let keys = environment.authentication.lines().filter_map(key).take(KEYS);
            keys.map(|fingerprint| event(SessionChange::Opened { fingerprint, from: from.clone() })).collect()
        }
        "close_session" => vec![event(SessionChange::Closed)],
        _ => Vec::new(),
    }
}

fn key(method: &str) -> Option<Fingerprint> {
    let (_key_type, blob) = method.strip_prefix("publickey ")?.split_once(' ')?;
    base64_decode(blob).map(|blob| Fingerprint::of_blob(&blob))
}

/// When a process started, in clock ticks since the boot: of its `/proc/<process>/stat`, proc(5).
pub fn started(stat: &str) -> Option<u64> {
    // The program's name is in parentheses, and may have blanks and parentheses of its own. Behind it is the third field.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId { process: 7, started: 9 };
    const BLOB: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIM2VECaVgwiCWRaCaZBWtY4Gkjp4Um9qddbMai+IUXw7";

    fn events(kind: &str, user: &str, remote_host: &str, authentication: &str) -> Vec<SessionEvent> {
        let [kind, user, remote_host, authentication] =
            [kind, user, remote_host, authentication].map(str::to_owned);
        let environment = PamEnvironment { kind, user, remote_host, authentication };
        session_events(&environment, SESSION, BootInstant(1))
    }

    #[test]
    fn what_pam_says() {
        let opened = |from: &str| {
            let fingerprint = Fingerprint::of_blob(&base64_decode(BLOB).unwrap());
            SessionChange::Opened { fingerprint, from: from.parse().unwrap() }
        };
        let by_key = format!("publickey ssh-ed25519 {BLOB}\n");
        let by_both = format!("password\n{by_key}keyboard-interactive/pam\n");
        let by_many = by_key.repeat(9);
        let rows: [(&str, &str, &str, &str, Vec<SessionChange>); 9] = [
            ("open_session", "alice", "192.0.2.7", &by_key, vec![opened("192.0.2.7")]),
            ("open_session", "alice", "192.0.2.7", &by_both, vec![opened("192.0.2.7")]),
            ("open_session", "alice", "", &by_key, vec![opened("UNKNOWN")]),
            ("open_session", "alice", "a\nAt=1", &by_many, vec![opened("UNKNOWN"); 4]),
            ("open_session", "alice", "h", "password\n", vec![]),
            ("open_session", "alice", "h", "publickey ssh-ed25519 A=A=\npublickey x\n", vec![]),
            ("close_session", "alice", "h", &by_key, vec![SessionChange::Closed]),
            ("open_session", "al ice", "h", &by_key, vec![]),
            ("account", "alice", "h", &by_key, vec![]),
        ];
        for (kind, user, remote_host, authentication, expected) in rows {
            let changes: Vec<_> = events(kind, user, remote_host, authentication)
                .into_iter()
                .map(|event| event.change)
                .collect();
            assert_eq!(changes, expected, "{kind} {user} {remote_host} {authentication}");
        }
    }

    /// A user's `~/.pam_environment` stands before what PAM says, and is there while the login is closed.
    #[test]
    fn variables_that_users_choose_say_nothing() {
        let by_key = format!("publickey ssh-ed25519 {BLOB}");
        let forged = [("PAM_TYPE", "open_session"), ("PAM_USER", "bob"), ("PAM_RHOST", "203.0.113.9")];
        let said = |kind| [("PAM_RHOST", "192.0.2.7"), ("PAM_USER", "alice"), ("PAM_TYPE", kind)];
        let by_key = [("SSH_AUTH_INFO_0", by_key.as_str())];
        let rows = [
            ([&by_key[..], &said("open_session")].concat(), Some(true)),
            ([&by_key[..], &forged, &said("open_session")].concat(), Some(true)),
            ([&by_key[..], &forged, &said("close_session")].concat(), Some(false)),
            ([&by_key[..], &by_key, &said("open_session")].concat(), None),
            ([&forged[..], &by_key, &said("setcred")].concat(), None),
        ];
        for (variables, opened) in rows {
            let shown = format!("{variables:?}");
            let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
            let environment = PamEnvironment::read(variables);
            let told = session_events(&environment, SESSION, BootInstant(1));
            let told: Vec<_> = told.iter().map(|event| (event.user.as_str(), &event.change)).collect();
            match (opened, told.as_slice()) {
                (Some(true), [("alice", SessionChange::Opened { from, .. })]) => {
                    assert_eq!(from.to_string(), "192.0.2.7", "{shown}");
                }
                (Some(false), [("alice", SessionChange::Closed)]) | (None, []) => {}
                other => panic!("{shown}: {other:?}"),
            }
        }
    }

    #[test]
    fn when_a_process_started() {
        let after = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 3578050 1 2 3";
        assert_eq!(started(&format!("7 (sshd) {after}")), Some(3_578_050));
        assert_eq!(started(&format!("7 (a) b (c)) {after}")), Some(3_578_050));
        for stat in ["", "7 (sshd", "7 (sshd) S 1"] {
            assert_eq!(started(stat), None, "{stat}");
        }
    }
}
