//! `lines.toml`, in the directory of what root decides: which serial lines this machine owns, and how each is reached.

use instance_connect_core::console::limits::{HISTORY, HISTORY_BOUNDS};
use instance_connect_core::console::{LineSettings, LineSettingsError};
use instance_connect_core::document::InstanceId;
use instance_connect_core::link::{OwnedLine, limits};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// In `/etc/instance-connect`.
pub(crate) const LINES_FILE: &str = "lines.toml";

/// Longest list of a command's words, and longest word.
const WORDS: (usize, usize) = (64, 4096);

/// What root has decided about serial lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinesSettings {
    pub(crate) lines: Vec<LineConfig>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineConfig {
    /// Whose line it is; this machine's own where nothing is said.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) port: u8,
    pub(crate) kind: LineKind,
    /// How many bytes of its past are kept.
    pub(crate) history: usize,
}

/// How a line is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// A unix stream socket that listens, as QEMU makes them.
    Unix { path: PathBuf, protocol: Protocol },
    /// A serial port of this machine.
    Tty { path: PathBuf, settings: LineSettings },
    /// A terminal that another program has made and holds the other end of.
    Pty { path: PathBuf },
    /// A port of a terminal server, as `host:port`.
    Tcp { address: String, protocol: Protocol },
    /// A program of this machine.
    Command { words: Vec<String>, terminal: bool },
}

/// What is spoken over a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The line's bytes.
    Raw,
    /// Telnet; with RFC 2217 where the port is to be set so.
    Telnet(Option<LineSettings>),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProtocolName {
    Raw,
    Telnet,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ParityName {
    None,
    Even,
    Odd,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "line")]
    lines: Vec<LineTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineTable {
    instance: Option<String>,
    #[serde(default)]
    port: u8,
    unix: Option<PathBuf>,
    tty: Option<PathBuf>,
    pty: Option<PathBuf>,
    tcp: Option<String>,
    command: Option<Vec<String>>,
    terminal: Option<bool>,
    history: Option<usize>,
    speed: Option<u32>,
    data_bits: Option<u8>,
    parity: Option<ParityName>,
    stop_bits: Option<u8>,
    flow_control: Option<String>,
    protocol: Option<ProtocolName>,
}

impl LinesSettings {
    /// Out of the file's text.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        if file.lines.is_empty() {
            return Err("there is no [[line]]; remove the file where this machine is to serve none".into());
        }
        if file.lines.len() > limits::LINES {
            return Err(format!("more than {} lines", limits::LINES));
        }
        let lines = file.lines.into_iter().enumerate().map(|(position, table)| {
            LineConfig::read(table).map_err(|reason| format!("[[line]] {}: {reason}", position + 1))
        });
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        check_distinct(&lines)?;
        Ok(Self { lines })
    }
}

impl LineConfig {
    /// Its name, on a machine that is `own`.
    pub(crate) fn line(&self, own: &InstanceId) -> OwnedLine {
        OwnedLine { instance: self.instance.clone().unwrap_or_else(|| own.clone()), port: self.port }
    }

    fn read(table: LineTable) -> Result<Self, String> {
        let instance = table.instance.as_deref().map(str::parse).transpose();
        let instance = instance.map_err(|error| format!("instance: {error}"))?;
        let (least, most) = HISTORY_BOUNDS;
        let history = table.history.unwrap_or(HISTORY);
        if !(least..=most).contains(&history) {
            return Err(format!("history: it has to be {least} to {most} bytes"));
        }
        let port = table.port;
        if port != 0 {
            return Err(format!(
                "port = {port}: nobody is ever brought to another than port 0; a guest's line has its instance"
            ));
        }
        Ok(Self { instance, port, kind: LineKind::read(table)?, history })
    }
}

impl LineKind {
    fn read(table: LineTable) -> Result<Self, String> {
        let settings = line_settings(&table)?;
        let protocol = match (table.protocol, settings) {
            (Some(ProtocolName::Telnet), settings) => Protocol::Telnet(settings),
            (Some(ProtocolName::Raw) | None, Some(_)) if table.tty.is_none() => {
                return Err("speed, data_bits, parity, stop_bits and flow_control are of a tty, or of a port behind telnet".into());
            }
            (Some(ProtocolName::Raw) | None, _) => Protocol::Raw,
        };
        let is_protocol_set = table.protocol.is_some();
        let LineTable { unix, tty, pty, tcp, command, terminal, .. } = table;
        let kinds: [Option<Result<Self, String>>; 5] = [
            unix.map(|path| Ok(Self::Unix { path: absolute("unix", path)?, protocol })),
            tty.map(|path| {
                Ok(Self::Tty { path: absolute("tty", path)?, settings: settings.unwrap_or_default() })
            }),
            pty.map(|path| Ok(Self::Pty { path: absolute("pty", path)? })),
            tcp.map(|address| Ok(Self::Tcp { address: host_and_port(address)?, protocol })),
            command.map(|words| {
                Ok(Self::Command { words: check_words(words)?, terminal: terminal.unwrap_or_default() })
            }),
        ];
        let mut kinds = kinds.into_iter().flatten();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            return Err("a line has exactly one of unix, tty, pty, tcp and command".into());
        };
        let kind = kind?;
        if terminal.is_some() && !matches!(kind, Self::Command { .. }) {
            return Err("terminal: only a command can be given one".into());
        }
        if is_protocol_set && !matches!(kind, Self::Unix { .. } | Self::Tcp { .. }) {
            return Err("protocol: only a socket has one, so a unix or a tcp".into());
        }
        Ok(kind)
    }
}

impl fmt::Display for LineKind {
    /// For `status`, and for the log. A command's words may say more than everybody should read: only the program is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path, .. } | Self::Tty { path, .. } | Self::Pty { path } => path.display().fmt(f),
            Self::Tcp { address, .. } => f.write_str(address),
            Self::Command { words, .. } => f.write_str(words.first().map_or("", String::as_str)),
        }
    }
}

/// How a port is to be set; `None` where nothing is said of it.
fn line_settings(table: &LineTable) -> Result<Option<LineSettings>, String> {
    let LineTable { speed, data_bits, parity, stop_bits, flow_control, .. } = table;
    let is_said = speed.is_some()
        || data_bits.is_some()
        || parity.is_some()
        || stop_bits.is_some()
        || flow_control.is_some();
    if !is_said {
        return Ok(None);
    }
    let parity = match parity {
        Some(ParityName::Even) => 'e',
        Some(ParityName::Odd) => 'o',
        Some(ParityName::None) | None => 'n',
    };
    let text = format!(
        "{} {}{parity}{} {}",
        speed.unwrap_or(115_200),
        data_bits.unwrap_or(8),
        stop_bits.unwrap_or(1),
        flow_control.as_deref().unwrap_or("none")
    );
    text.parse().map(Some).map_err(|error: LineSettingsError| error.to_string())
}

/// The agent's own working directory is nobody's business.
fn absolute(key: &str, path: PathBuf) -> Result<PathBuf, String> {
    if path.is_absolute() { Ok(path) } else { Err(format!("{key}: {} is no absolute path", path.display())) }
}

fn host_and_port(address: String) -> Result<String, String> {
    let parts = address.rsplit_once(':');
    let is_address = parts.is_some_and(|(host, port)| {
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        let is_host = !host.is_empty() && host.len() <= 255 && (is_bracketed || !host.contains(':'));
        is_host && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if is_address { Ok(address) } else { Err(format!("tcp: {address:?} is not HOST:PORT")) }
}

fn check_words(words: Vec<String>) -> Result<Vec<String>, String> {
    let (most, longest) = WORDS;
    let Some(program) = words.first() else { return Err("command: the program is missing".into()) };
    if program.is_empty() || (program.contains('/') && !Path::new(program).is_absolute()) {
        return Err(format!(
            "command: {program:?} is neither a program's name nor an absolute path; no shell reads it"
        ));
    }
    if words.len() > most || words.iter().any(|word| word.len() > longest || word.contains('\0')) {
        return Err(format!("command: more than {most} words, or one of more than {longest} bytes"));
    }
    Ok(words)
}

/// No two lines have one name, and no device is read by two. Whether an instance that is named is this machine itself comes
/// later, where that is known.
fn check_distinct(lines: &[LineConfig]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let mut places = BTreeSet::new();
    for line in lines {
        if !names.insert((line.instance.as_ref(), line.port)) {
            let whose = line.instance.as_ref().map_or("this machine", InstanceId::as_str);
            return Err(format!("port {} of {whose} is given twice", line.port));
        }
        let is_shared =
            !matches!(line.kind, LineKind::Command { .. }) && !places.insert(line.kind.to_string());
        if is_shared {
            return Err(format!("{} is given twice: it can be read by one line only", line.kind));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<LineConfig>, String> {
        LinesSettings::parse(text).map(|settings| settings.lines)
    }

    #[test]
    fn what_root_decides_of_each_kind_of_line() {
        let text = r#"
            [[line]]
            unix = "/run/vm/web.sock"
            [[line]]
            instance = "i-0123456789abcdef0"
            port = 0
            tty = "/dev/ttyUSB0"
            speed = 9600
            parity = "even"
            data_bits = 7
            stop_bits = 2
            flow_control = "hardware"
            [[line]]
            instance = "i-00000000000000002"
            pty = "/dev/pts/4"
            [[line]]
            instance = "i-00000000000000003"
            tcp = "[::1]:4001"
            [[line]]
            instance = "i-00000000000000004"
            command = ["ipmitool", "-I", "lanplus", "sol", "activate"]
            terminal = true
            history = 4096
        "#;
        let lines = parse(text).unwrap();
        let words = ["ipmitool", "-I", "lanplus", "sol", "activate"].map(str::to_owned).to_vec();
        let kinds = [
            LineKind::Unix { path: "/run/vm/web.sock".into(), protocol: Protocol::Raw },
            LineKind::Tty { path: "/dev/ttyUSB0".into(), settings: "9600 7e2 hardware".parse().unwrap() },
            LineKind::Pty { path: "/dev/pts/4".into() },
            LineKind::Tcp { address: "[::1]:4001".into(), protocol: Protocol::Raw },
            LineKind::Command { words, terminal: true },
        ];
        assert_eq!(lines.iter().map(|line| line.kind.clone()).collect::<Vec<_>>(), kinds);
        assert!(lines.iter().all(|line| line.port == 0));
        assert_eq!((lines[0].history, lines[4].history), (1024 * 1024, 4096));
        let own = "i-00000000000000001".parse().unwrap();
        assert_eq!(lines[0].line(&own).instance, own);
        assert_eq!(lines[1].line(&own).instance.as_str(), "i-0123456789abcdef0");
        // What stands on a command line is not for everybody who asks for the status.
        assert_eq!(lines[4].kind.to_string(), "ipmitool");
        let plain = parse("[[line]]\ntty = \"/dev/ttyS0\"").unwrap();
        let LineKind::Tty { settings, .. } = plain[0].kind else { panic!("{plain:?}") };
        assert_eq!(settings, LineSettings::default());
        let telnet = |rest: &str| {
            let lines = parse(&format!("[[line]]\ntcp = \"a:1\"\nprotocol = \"telnet\"\n{rest}")).unwrap();
            let LineKind::Tcp { protocol, .. } = lines[0].kind else { panic!("{lines:?}") };
            protocol
        };
        assert_eq!(telnet(""), Protocol::Telnet(None));
        assert_eq!(telnet("parity = \"odd\""), Protocol::Telnet(Some("115200 8o1".parse().unwrap())));
    }

    fn one(rest: &str) -> String {
        format!("[[line]]\n{rest}\n")
    }

    fn guest(rest: &str) -> String {
        one(&format!("instance = \"i-00000000000000002\"\n{rest}"))
    }

    #[test]
    fn what_is_not_meant_is_refused_with_the_reason() {
        let unix = one("unix = \"/a\"");
        let rows = [
            (String::new(), "there is no [[line]]"),
            ("lines = 1".into(), "unknown field `lines`"),
            (one(""), "exactly one of"),
            (one("unix = \"/a\"\ntty = \"/b\""), "exactly one of"),
            (one("unix = \"a\""), "unix: a is no absolute path"),
            (one("tty = \"/dev/ttyS0\"\nspede = 1"), "unknown field `spede`"),
            (one("tty = \"/dev/ttyS0\"\nspeed = 0"), "the speed of"),
            (one("tty = \"/dev/ttyS0\"\ndata_bits = 9"), "the framing of"),
            (one("tty = \"/dev/ttyS0\"\nstop_bits = 0"), "the framing of"),
            (one("tty = \"/dev/ttyS0\"\nparity = \"mark\""), "unknown variant `mark`"),
            (one("tty = \"/dev/ttyS0\"\nflow_control = \"rts\""), "the flow control of"),
            (one("unix = \"/a\"\nspeed = 9600"), "are of a tty"),
            (one("tcp = \"a:1\"\nprotocol = \"raw\"\nspeed = 9600"), "are of a tty"),
            (one("pty = \"/a\"\nspeed = 9600"), "are of a tty"),
            (one("tty = \"/a\"\nprotocol = \"telnet\""), "only a socket"),
            (one("tcp = \"a:1\"\nprotocol = \"ssh\""), "unknown variant `ssh`"),
            (one("unix = \"/a\"\nterminal = true"), "only a command"),
            (one("unix = \"/a\"\nport = 256"), "u8"),
            (one("unix = \"/a\"\nport = -1"), "u8"),
            (one("unix = \"/a\"\nport = 1"), "[[line]] 1: port = 1: nobody"),
            (one("unix = \"/a\"\nport = 255"), "port = 255: nobody"),
            (one("unix = \"/a\"\ninstance = \"web\""), "instance: "),
            (one("unix = \"/a\"\nhistory = 10"), "history: "),
            (one("unix = \"/a\"\nhistory = 16777217"), "history: "),
            (one("tcp = \"localhost\""), "not HOST:PORT"),
            (one("tcp = \"localhost:0\""), "not HOST:PORT"),
            (one("tcp = \"::1:4001\""), "not HOST:PORT"),
            (one("tcp = \":4001\""), "not HOST:PORT"),
            (one("command = []"), "the program is missing"),
            (one("command = [\"\"]"), "neither a program's name"),
            (one("command = [\"./run\"]"), "neither a program's name"),
            (one("command = \"getty\""), "invalid type"),
            (one("command = [\"a\\u0000\"]"), "more than 64 words, or one"),
            (format!("{unix}{unix}"), "port 0 of this machine is given twice"),
            (format!("{unix}{}", guest("unix = \"/a\"")), "/a is given twice"),
            (format!("{unix}{}", guest("unix = \"b\"")), "[[line]] 2: unix"),
            (unix.repeat(513), "more than 512 lines"),
        ];
        for (text, expected) in rows {
            let reason = parse(&text).unwrap_err();
            assert!(reason.contains(expected), "{text}: {reason}");
        }
        // One program may well be started for several lines.
        let command = "command = [\"virsh\", \"console\", \"web\"]";
        assert!(parse(&format!("{}{}", one(command), guest(command))).is_ok());
    }
}
