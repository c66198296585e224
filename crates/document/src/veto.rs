//! The machine's own veto, `host.toml`: what its administrator does not let a control plane do, not even a stolen one.
//!
//! ```toml
//! allow_users = ["alice", "deploy"]   # when given, nobody else
//! deny_users = ["backup"]             # wins over allow_users
//! max_lifetime_seconds = 30           # 60 without this line; more than 60 is 60
//! stream_ports = [22]                 # what streams may dial on this machine
//! ```
//! This crate may have no TOML library, so it reads just this much of TOML: `key = value` on one line each, with
//! strings without escapes, decimal numbers and lists of them, and comments. Anything else is an error with its line,
//! because a veto that is half understood is none.

use crate::deadline::LONGEST_LIFETIME;
use crate::{OsUser, decimal};
use instance_connect_planted::parser_entered;
use std::fmt;
use std::time::Duration;

/// What a machine lets a control plane do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostVeto {
    allow_users: Option<Vec<OsUser>>,
    deny_users: Vec<OsUser>,
    longest_lifetime: Duration,
    stream_ports: Vec<u16>,
}

/// Which rule of `host.toml` keeps a user from being logged in to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Veto {
    /// The user is in `deny_users`.
    Denied,
    /// There is an `allow_users`, and the user is not in it.
    NotAllowed,
    /// The user is root, and no `allow_users` names it.
    Root,
}

impl fmt::Display for Veto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied => "this machine's host.toml denies the user",
            Self::NotAllowed => "this machine's host.toml does not allow the user",
            Self::Root => "root is denied unless this machine's host.toml allows it by name",
        })
    }
}

impl std::error::Error for Veto {}

/// Why a `host.toml` is refused, with the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostVetoError {
    line: usize,
    reason: &'static str,
}

impl fmt::Display for HostVetoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for HostVetoError {}

/// The rules of a machine without a `host.toml`: everyone but root, for up to a minute, streams to port 22.
impl Default for HostVeto {
    fn default() -> Self {
        Self {
            allow_users: None,
            deny_users: Vec::new(),
            longest_lifetime: LONGEST_LIFETIME,
            stream_ports: vec![22],
        }
    }
}

impl HostVeto {
    /// Reads a `host.toml`.
    ///
    /// # Errors
    /// The first line that is not understood in full.
    pub fn parse(text: &str) -> Result<Self, HostVetoError> {
        parser_entered(text.as_bytes());
        let mut veto = Self::default();
        let mut seen = Vec::new();
        for (position, line) in text.lines().enumerate() {
            let refused = |reason| HostVetoError { line: position + 1, reason };
            let Some((key, value)) = parse_line(line).map_err(refused)? else { continue };
            if seen.contains(&key) {
                return Err(refused("this key is given twice"));
            }
            seen.push(key);
            veto.set(key, &value).map_err(refused)?;
        }
        Ok(veto)
    }

    fn set(&mut self, key: &str, value: &Value<'_>) -> Result<(), &'static str> {
        match key {
            "allow_users" => self.allow_users = Some(users(value)?),
            "deny_users" => self.deny_users = users(value)?,
            "max_lifetime_seconds" => {
                let Value::Number(seconds) = value else { return Err("a number of seconds is needed here") };
                let seconds: Option<u32> = decimal::parse(seconds).filter(|seconds| *seconds > 0);
                let seconds = seconds.ok_or("a key's lifetime is 1 second or more")?;
                self.longest_lifetime = Duration::from_secs(seconds.into()).min(LONGEST_LIFETIME);
            }
            "stream_ports" => self.stream_ports = ports(value)?,
            _ => {
                return Err("the keys here are allow_users, deny_users, max_lifetime_seconds, stream_ports");
            }
        }
        Ok(())
    }

    /// Whether `user`, whose uid is `uid`, may be logged in to. Uid 0 under any name, and the name `root` whatever its
    /// uid, are denied unless `allow_users` names them. Where the uid is not known (`None`), only the name tells; sshd
    /// knows it and passes it as `%U`.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn permits(&self, user: &OsUser, uid: Option<u32>) -> Result<(), Veto> {
        if self.deny_users.contains(user) {
            return Err(Veto::Denied);
        }
        match &self.allow_users {
            Some(allowed) if allowed.contains(user) => Ok(()),
            Some(_) => Err(Veto::NotAllowed),
            None if uid == Some(0) || user.as_str() == "root" => Err(Veto::Root),
            None => Ok(()),
        }
    }

    /// The longest that a key may live here, a minute at most. The sshd command refuses a deadline further ahead than
    /// this, so an agent shortens a grant to it before handing it over.
    pub fn longest_lifetime(&self) -> Duration {
        self.longest_lifetime
    }

    /// Whether a stream may be opened to this TCP port of the machine.
    pub fn permits_stream_to(&self, port: u16) -> bool {
        self.stream_ports.contains(&port)
    }
}

/// A value as it stands on its line.
#[derive(Debug)]
enum Value<'a> {
    Text(&'a str),
    Number(&'a str),
    List(Vec<Self>),
}

fn users(value: &Value<'_>) -> Result<Vec<OsUser>, &'static str> {
    const REASON: &str = "a list of OS user names is needed here, such as [\"alice\"]";
    let Value::List(items) = value else { return Err(REASON) };
    let user = |item: &Value<'_>| match item {
        Value::Text(name) => name.parse().map_err(|_| REASON),
        Value::Number(_) | Value::List(_) => Err(REASON),
    };
    items.iter().map(user).collect()
}

fn ports(value: &Value<'_>) -> Result<Vec<u16>, &'static str> {
    const REASON: &str = "a list of TCP ports is needed here, such as [22]";
    let Value::List(items) = value else { return Err(REASON) };
    let port = |item: &Value<'_>| match item {
        Value::Number(port) => decimal::parse(port).filter(|port| *port != 0).ok_or(REASON),
        Value::Text(_) | Value::List(_) => Err(REASON),
    };
    items.iter().map(port).collect()
}

/// Reads one line: a key and its value, or nothing but a comment.
fn parse_line(line: &str) -> Result<Option<(&str, Value<'_>)>, &'static str> {
    if is_rest(line) {
        return Ok(None);
    }
    let (key, text) = line.split_once('=').ok_or("a line here is: key = value")?;
    let key = trim(key);
    let (value, rest) = parse_value(text)?;
    if !is_rest(rest) {
        return Err("there is something after the value");
    }
    Ok(Some((key, value)))
}

fn parse_value(text: &str) -> Result<(Value<'_>, &str), &'static str> {
    let text = text.trim_start_matches(BLANKS);
    if let Some(items) = text.strip_prefix('[') {
        return parse_list(items);
    }
    parse_scalar(text)
}

fn parse_scalar(text: &str) -> Result<(Value<'_>, &str), &'static str> {
    if let Some(body) = text.strip_prefix('"') {
        let (body, rest) = body.split_once('"').ok_or("a text is not closed on its line")?;
        return if body.contains('\\') {
            Err("escapes in a text are not understood here")
        } else {
            Ok((Value::Text(body), rest))
        };
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    match text.split_at(end) {
        ("", _) => Err("a value here is a number, a text in double quotes, or a list of them on one line"),
        (digits, rest) => Ok((Value::Number(digits), rest)),
    }
}

/// Reads the items of a list, its opening bracket taken. A comma may follow the last item, as in TOML.
fn parse_list(text: &str) -> Result<(Value<'_>, &str), &'static str> {
    let mut items = Vec::new();
    let mut rest = text.trim_start_matches(BLANKS);
    loop {
        if let Some(after) = rest.strip_prefix(']') {
            return Ok((Value::List(items), after));
        }
        let (item, after) = parse_scalar(rest)?;
        items.push(item);
        let after = after.trim_start_matches(BLANKS);
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start_matches(BLANKS),
            None if after.starts_with(']') => after,
            None => return Err("a list is not closed on its line"),
        };
    }
}

/// TOML's blanks within a line.
const BLANKS: [char; 2] = [' ', '\t'];

fn trim(text: &str) -> &str {
    text.trim_matches(BLANKS)
}

/// Whether a line may end like this: with nothing, or with a comment.
fn is_rest(text: &str) -> bool {
    let text = trim(text);
    text.is_empty() || text.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn permits(file: &str, user: &str, uid: Option<u32>) -> Result<(), Veto> {
        HostVeto::parse(file).unwrap().permits(&user.parse().unwrap(), uid)
    }

    #[test]
    fn who_may_be_logged_in_to() {
        let allow_alice = "allow_users = [\"alice\"]";
        let allow_root = "allow_users = [\"root\", \"toor\"]";
        let both = "allow_users = [\"root\", \"alice\"]\ndeny_users = [\"root\", \"bob\"]";
        let rows = [
            ("", "alice", Some(1000), Ok(())),
            ("", "alice", None, Ok(())),
            ("", "root", Some(0), Err(Veto::Root)),
            ("", "root", None, Err(Veto::Root)),
            ("", "root", Some(1000), Err(Veto::Root)),
            ("", "toor", Some(0), Err(Veto::Root)),
            (allow_alice, "alice", Some(1000), Ok(())),
            (allow_alice, "alice", Some(0), Ok(())),
            (allow_alice, "bob", Some(1000), Err(Veto::NotAllowed)),
            (allow_alice, "root", Some(0), Err(Veto::NotAllowed)),
            (allow_alice, "Alice", Some(1000), Err(Veto::NotAllowed)),
            (allow_root, "root", Some(0), Ok(())),
            (allow_root, "root", None, Ok(())),
            (allow_root, "toor", Some(0), Ok(())),
            (both, "root", Some(0), Err(Veto::Denied)),
            (both, "alice", Some(1000), Ok(())),
            (both, "bob", Some(1000), Err(Veto::Denied)),
            ("allow_users = []", "alice", Some(1000), Err(Veto::NotAllowed)),
            ("deny_users = [\"bob\"]", "root", Some(0), Err(Veto::Root)),
            ("deny_users = [\"bob\"]", "alice", Some(1000), Ok(())),
        ];
        for (file, user, uid, expected) in rows {
            assert_eq!(permits(file, user, uid), expected, "{file:?} {user} {uid:?}");
        }
    }

    #[test]
    fn lifetimes_and_ports() {
        let veto = HostVeto::default();
        assert_eq!(veto.longest_lifetime(), Duration::from_secs(60));
        assert!(veto.permits_stream_to(22) && !veto.permits_stream_to(3389));
        let veto = HostVeto::parse("max_lifetime_seconds = 30\nstream_ports = [22, 3389,]").unwrap();
        assert_eq!(veto.longest_lifetime(), Duration::from_secs(30));
        assert!(veto.permits_stream_to(3389));
        let veto = HostVeto::parse("max_lifetime_seconds=86400\nstream_ports=[]").unwrap();
        assert_eq!(veto.longest_lifetime(), Duration::from_secs(60), "never more than a minute");
        assert!(!veto.permits_stream_to(22));
    }

    #[test]
    fn spellings_of_toml_that_are_understood() {
        let file =
            "# a comment, with ünicode\r\n\n\t allow_users\t=\t[ \"a\" ,\"b#c]\" , ] # and one behind\n";
        assert_eq!(
            HostVeto::parse(file).unwrap_err().to_string(),
            "line 3: a list of OS user names is needed here, such as [\"alice\"]"
        );
        let file = file.replace("b#c]", "b");
        assert_eq!(permits(&file, "b", Some(1)), Ok(()));
        assert_eq!(permits(&file, "c", Some(1)), Err(Veto::NotAllowed));
    }

    #[test]
    fn everything_else_is_an_error_with_its_line() {
        let rows = [
            ("allow_user = [\"a\"]", 1),
            ("\n\ndeny_users = [\"a\"]\ndeny_users = [\"b\"]", 4),
            ("[section]", 1),
            ("allow_users", 1),
            ("allow_users =", 1),
            ("allow_users = \"a\"", 1),
            ("allow_users = [a]", 1),
            ("allow_users = ['a']", 1),
            ("allow_users = [\"a\" \"b\"]", 1),
            ("allow_users = [\"a\"", 1),
            ("allow_users = [\"a\n\"]", 1),
            ("allow_users = [\n\"a\"]", 1),
            ("allow_users = [[\"a\"]]", 1),
            ("allow_users = [\"a\"] b", 1),
            ("allow_users = [,]", 1),
            ("allow_users = [\"a\",,]", 1),
            ("allow_users = [\"\\u0061\"]", 1),
            ("allow_users = [\"a b\"]", 1),
            ("allow_users = [\"\"]", 1),
            ("allow_users = [1]", 1),
            ("\"allow_users\" = [\"a\"]", 1),
            ("max_lifetime_seconds = 0", 1),
            ("max_lifetime_seconds = -1", 1),
            ("max_lifetime_seconds = 030", 1),
            ("max_lifetime_seconds = 3_0", 1),
            ("max_lifetime_seconds = 30.0", 1),
            ("max_lifetime_seconds = 0x1e", 1),
            ("max_lifetime_seconds = \"30\"", 1),
            ("max_lifetime_seconds = 99999999999", 1),
            ("max_lifetime_seconds = [30]", 1),
            ("stream_ports = 22", 1),
            ("stream_ports = [0]", 1),
            ("stream_ports = [65536]", 1),
            ("stream_ports = [\"22\"]", 1),
            ("= 1", 1),
            ("stream_ports = [22]\u{a0}", 1),
            ("deny_users = [\"a\"] // no", 1),
        ];
        for (file, line) in rows {
            assert_eq!(HostVeto::parse(file).map_err(|error| error.line), Err(line), "{file:?}");
        }
    }

    proptest! {
        #[test]
        fn host_veto_parser_never_panics(text in "(.{0,60}\n){0,4}") {
            let _ = HostVeto::parse(&text);
        }

        #[test]
        fn host_veto_parser_never_panics_on_almost_toml(
            key in "[a-z_]{0,3}|allow_users|stream_ports",
            value in "[]\\[\",a0-9# \\\\]{0,20}",
        ) {
            let text = format!("{key} = {value}");
            let _ = HostVeto::parse(&text);
        }
    }
}
