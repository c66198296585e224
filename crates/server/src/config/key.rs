//! What a key of the configuration is: its name, what is written for it, and the type it is parsed into.

use crate::audit_log::{FileSize, FileSizeError};
use crate::stock::DOMAINS;
use crate::traces::{Endpoint, EndpointError};
use instance_connect_core::ids::Region;
use instance_connect_core::limits;
use instance_connect_core::link::Domain;
use instance_connect_core::proxies::TrustedProxies;
use instance_connect_core::sigv4::{ClockWindow, ClockWindowError};
use instance_connect_core::ssh_key::KeyTypes;
use instance_connect_core::throttle::Rate;
use std::fmt::Display;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// One key, parsed into a `T`.
#[derive(Debug)]
pub(super) struct Key<T> {
    pub(super) definition: Definition,
    parsed: PhantomData<fn() -> T>,
}

/// The one definition of a key: of it come the file's grammar, the flag, the schema and the example.
#[derive(Debug)]
pub(super) struct Definition {
    /// `section.name`, or `name` for a key above all sections.
    pub(super) path: &'static str,
    /// What stands for its value in help.
    pub(super) value_name: &'static str,
    /// As it would be written in the file.
    pub(super) default: Option<&'static str>,
    /// An example of a value, for a key without a default, as it would be written in the file.
    pub(super) example: Option<&'static str>,
    /// What it says, in one line.
    pub(super) about: &'static str,
    pub(super) shape: Shape,
}

/// What is written for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    /// A text that is a path.
    Path,
    /// A whole number in these bounds, both included.
    Number(u64, u64),
    Boolean,
    /// A list of texts.
    List,
}

impl Shape {
    /// What was expected, for a message.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Text | Self::Path => "a text in quotation marks".to_owned(),
            Self::Number(least, most) => format!("a whole number from {least} to {most}"),
            Self::Boolean => "true or false".to_owned(),
            Self::List => "a list of texts, such as [\"a\", \"b\"]".to_owned(),
        }
    }
}

impl<T: Value> Key<T> {
    const fn new(path: &'static str, value_name: &'static str, about: &'static str) -> Self {
        let definition =
            Definition { path, value_name, default: None, example: None, about, shape: T::SHAPE };
        Self { definition, parsed: PhantomData }
    }

    /// A key that may be left out.
    pub(super) const fn optional(
        path: &'static str,
        value_name: &'static str,
        example: &'static str,
        about: &'static str,
    ) -> Self {
        let mut key = Self::new(path, value_name, about);
        key.definition.example = Some(example);
        key
    }

    /// A key with a default.
    pub(super) const fn with_default(
        path: &'static str,
        value_name: &'static str,
        default: &'static str,
        about: &'static str,
    ) -> Self {
        let mut key = Self::new(path, value_name, about);
        key.definition.default = Some(default);
        key
    }
}

impl Key<u64> {
    /// Bounds its number.
    pub(super) const fn within(mut self, least: u64, most: u64) -> Self {
        self.definition.shape = Shape::Number(least, most);
        self
    }
}

impl Definition {
    /// The section it is in, and its name there.
    pub(super) fn section_and_name(&self) -> (Option<&'static str>, &'static str) {
        match self.path.split_once('.') {
            Some((section, name)) => (Some(section), name),
            None => (None, self.path),
        }
    }

    /// Its flag, without the dashes.
    pub(super) fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    /// The texts of a value that is written on a command line, where a list has commas.
    ///
    /// # Errors
    /// What was expected, when it has another shape.
    pub(super) fn texts(&self, written: &str) -> Result<Vec<String>, String> {
        let fits = match self.shape {
            Shape::Text | Shape::Path | Shape::List => true,
            Shape::Number(least, most) => {
                written.parse().is_ok_and(|number: u64| (least..=most).contains(&number))
            }
            Shape::Boolean => matches!(written, "true" | "false"),
        };
        match self.shape {
            _ if !fits => Err(self.shape.expected()),
            Shape::List if written.is_empty() => Ok(Vec::new()),
            Shape::List => Ok(written.split(',').map(str::to_owned).collect()),
            Shape::Text | Shape::Path | Shape::Number(..) | Shape::Boolean => Ok(vec![written.to_owned()]),
        }
    }
}

/// A type that keys are parsed into.
pub(super) trait Value: Sized {
    const SHAPE: Shape;

    /// Parses what was written: one text, or those of a list.
    ///
    /// # Errors
    /// What is wrong with it.
    fn parse(texts: &[String]) -> Result<Self, String>;
}

/// Parses the one text of a key that is no list.
fn only<T: FromStr<Err: Display>>(texts: &[String], expected: &str) -> Result<T, String> {
    let text = texts.first().map(String::as_str).unwrap_or_default();
    text.parse().map_err(|error: T::Err| format!("{text:?} is not {expected}: {error}"))
}

impl Value for u64 {
    const SHAPE: Shape = Shape::Number(0, Self::MAX);

    fn parse(texts: &[String]) -> Result<Self, String> {
        only(texts, "a whole number")
    }
}

impl Value for ClockWindow {
    const SHAPE: Shape = Shape::Number(1, limits::LONGEST_CLOCK_WINDOW.as_secs());

    fn parse(texts: &[String]) -> Result<Self, String> {
        u64::parse(texts)?.try_into().map_err(|error: ClockWindowError| error.to_string())
    }
}

impl Value for FileSize {
    const SHAPE: Shape = Shape::Number(limits::SMALLEST_AUDIT_FILE, limits::LARGEST_AUDIT_FILE);

    fn parse(texts: &[String]) -> Result<Self, String> {
        u64::parse(texts)?.try_into().map_err(|error: FileSizeError| error.to_string())
    }
}

impl Value for bool {
    const SHAPE: Shape = Shape::Boolean;

    fn parse(texts: &[String]) -> Result<Self, String> {
        only(texts, "true or false")
    }
}

impl Value for Region {
    const SHAPE: Shape = Shape::Text;

    fn parse(texts: &[String]) -> Result<Self, String> {
        only(texts, "the name of a region, such as us-east-1")
    }
}

impl Value for SocketAddr {
    const SHAPE: Shape = Shape::Text;

    fn parse(texts: &[String]) -> Result<Self, String> {
        only(texts, "an address and port, such as 192.0.2.1:8443 or [::]:8443")
    }
}

/// A number with a unit, such as `90s`, `10m`, `24h` or `30d`.
impl Value for Duration {
    const SHAPE: Shape = Shape::Text;

    fn parse(texts: &[String]) -> Result<Self, String> {
        let text = texts.first().map(String::as_str).unwrap_or_default();
        let units = [('s', 1), ('m', 60), ('h', 60 * 60), ('d', 24 * 60 * 60)];
        let parsed = units.into_iter().find_map(|(unit, seconds)| {
            let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
            Some(Self::from_secs(u64::from(number) * seconds))
        });
        parsed.ok_or_else(|| format!("{text:?} is not a time, such as 90s, 10m, 24h or 30d"))
    }
}

impl Value for String {
    const SHAPE: Shape = Shape::Text;

    fn parse(texts: &[String]) -> Result<Self, String> {
        only(texts, "a text")
    }
}

impl Value for Domain {
    const SHAPE: Shape = Shape::Text;

    fn parse(texts: &[String]) -> Result<Self, String> {
        let text = texts.first().map(String::as_str).unwrap_or_default();
        let known = DOMAINS.contains(&text).then(|| text.parse().ok()).flatten();
        known.ok_or_else(|| format!("{text:?} is not one of {}", DOMAINS.join(", ")))
    }
}

impl Value for PathBuf {
    const SHAPE: Shape = Shape::Path;

    fn parse(texts: &[String]) -> Result<Self, String> {
        match texts {
            [text] if !text.is_empty() => Ok(Self::from(text)),
            _ => Err("a path is not empty".to_owned()),
        }
    }
}

impl Value for Endpoint {
    const SHAPE: Shape = Shape::Text;

    fn parse(texts: &[String]) -> Result<Self, String> {
        // What is wrong is not shown: it may hold a password.
        let text = texts.first().map(String::as_str).unwrap_or_default();
        text.parse().map_err(|error: EndpointError| error.to_string())
    }
}

impl Value for Rate {
    const SHAPE: Shape = Shape::Text;

    fn parse(texts: &[String]) -> Result<Self, String> {
        only(texts, "a rate")
    }
}

impl Value for KeyTypes {
    const SHAPE: Shape = Shape::List;

    fn parse(texts: &[String]) -> Result<Self, String> {
        texts.join(",").parse().map_err(|error| format!("not a list of key types: {error}"))
    }
}

impl Value for TrustedProxies {
    const SHAPE: Shape = Shape::List;

    fn parse(texts: &[String]) -> Result<Self, String> {
        let one = |text: &String| only(std::slice::from_ref(text), "an address or network");
        texts.iter().map(one).collect::<Result<_, _>>().map(Self)
    }
}

/// Names by which a listener is reached: host names and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl Value for Names {
    const SHAPE: Shape = Shape::List;

    fn parse(texts: &[String]) -> Result<Self, String> {
        for text in texts {
            // Letters, digits, hyphens and dots (RFC 1123, 2.1), or an address. A port here is a common mistake.
            let label = |label: &str| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            };
            let is_name = text.len() <= 253 && text.split('.').all(label);
            if !is_name && text.parse::<std::net::IpAddr>().is_err() {
                return Err(format!("{text:?} is not a host name or an address (without a port)"));
            }
        }
        Ok(Self(texts.to_vec()))
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Value for LogFormat {
    const SHAPE: Shape = Shape::Text;

    fn parse(texts: &[String]) -> Result<Self, String> {
        match texts.first().map(String::as_str) {
            Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            Some(_) | None => Err("a log is \"text\" or \"json\"".to_owned()),
        }
    }
}

/// From which level on the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel(pub(crate) tracing::Level);

impl Value for LogLevel {
    const SHAPE: Shape = Shape::Text;

    fn parse(texts: &[String]) -> Result<Self, String> {
        let names = [
            ("error", tracing::Level::ERROR),
            ("warn", tracing::Level::WARN),
            ("info", tracing::Level::INFO),
            ("debug", tracing::Level::DEBUG),
        ];
        let found = texts.first().and_then(|text| names.into_iter().find(|(name, _)| name == text));
        found.map(|(_, level)| Self(level)).ok_or_else(|| "a level is error, warn, info or debug".to_owned())
    }
}
