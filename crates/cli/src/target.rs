//! `[user@]i-…`: who logs in where.

use crate::failure::{Exit, Failure};
use instance_connect_core::ids::{InstanceId, OsUser};
use std::str::FromStr;

/// The user when nobody names one, as with the AWS CLI.
const DEFAULT_USER: &str = "ec2-user";

/// What stands on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) user: Option<OsUser>,
    pub(crate) instance: InstanceId,
}

impl Target {
    /// The user to log in as: the target's or `--os-user`, else `fallback`, else the default.
    pub(crate) fn user(&self, option: Option<&OsUser>, fallback: Option<OsUser>) -> Result<OsUser, Failure> {
        match (&self.user, option) {
            (Some(user), Some(other)) if user != other => Err(Failure::new(
                Exit::Parameter,
                format!("two users: {user} in the target and {other} in --os-user"),
            )),
            (Some(user), _) | (None, Some(user)) => Ok(user.clone()),
            (None, None) => match fallback {
                Some(user) => Ok(user),
                None => DEFAULT_USER.parse().map_err(|error| Failure::new(Exit::General, format!("{error}"))),
            },
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A user name may hold an @, an instance id never does.
        let (user, instance) = match text.rsplit_once('@') {
            Some((user, instance)) => (Some(user), instance),
            None => (None, text),
        };
        let user = user.map(OsUser::from_str).transpose().map_err(|error| error.to_string())?;
        let instance = instance.parse().map_err(|error| match instance {
            _ if instance.starts_with("mi-") => {
                "mi-… is an id of Systems Manager; use the instance id i-…".to_owned()
            }
            _ if instance.starts_with("i-") => format!("{error}; the whole id is needed"),
            _ => format!("{error}; host names and addresses are not instances"),
        })?;
        Ok(Self { user, instance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, user) in [
            ("i-0123456789abcdef0", None),
            ("admin@i-0123456789abcdef0", Some("admin")),
            ("a@b@i-0123456789abcdef0", Some("a@b")),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.user.as_ref().map(OsUser::as_str), user);
            assert_eq!(target.instance.as_str(), "i-0123456789abcdef0");
        }
        for (text, part) in [
            ("", "not instances"),
            ("@i-0123456789abcdef0", "OS user name"),
            ("-oProxyCommand=x@i-0123456789abcdef0", "OS user name"),
            ("admin@", "not instances"),
            ("host.example", "not instances"),
            ("mi-0123456789abcdef0", "Systems Manager"),
            ("i-0123", "the whole id"),
            ("i-0123456789ABCDEF0", "the whole id"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn users() {
        let user = |name: &str| name.parse::<OsUser>().unwrap();
        let plain: Target = "i-0123456789abcdef0".parse().unwrap();
        let named: Target = "admin@i-0123456789abcdef0".parse().unwrap();
        assert_eq!(plain.user(None, None).unwrap(), user("ec2-user"));
        assert_eq!(plain.user(None, Some(user("file"))).unwrap(), user("file"));
        assert_eq!(plain.user(Some(&user("option")), Some(user("file"))).unwrap(), user("option"));
        assert_eq!(named.user(Some(&user("admin")), Some(user("file"))).unwrap(), user("admin"));
        assert_eq!(named.user(Some(&user("other")), None).unwrap_err().exit, Exit::Parameter);
    }
}
