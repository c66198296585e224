//! Configurations, and what is said of those that are wrong.

use super::keys::ALL;
use super::settings::Transport;
use super::{Source, commands, describe, key};
use clap::Args as _;
use clap::FromArgMatches as _;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The least that a configuration says.
const LEAST: &str = "[public]\nnames = [\"connect.example.com\"]\n";

fn source(flags: &[&str]) -> Source {
    let command = Source::augment_args(clap::Command::new("serve"));
    let matches = command.get_matches_from(["serve", "--config", "/etc/ic/d.toml"].iter().chain(flags));
    Source::from_arg_matches(&matches).unwrap()
}

fn problems(text: &str, flags: &[&str]) -> String {
    source(flags).parse(text).map(|settings| panic!("{settings:?}")).unwrap_or_else(|error| error.to_string())
}

#[test]
fn little_has_to_be_said() {
    let settings = source(&[]).parse(LEAST).unwrap();
    let names = vec!["connect.example.com".to_owned()];
    assert_eq!(settings.public.transport, Transport::Own { names: names.clone() });
    assert_eq!(settings.agents_names, names);
    assert_eq!(settings.region.as_str(), "us-east-1");
    assert_eq!(settings.clock_window.duration(), Duration::from_secs(300));
    assert_eq!(settings.audit.path, Path::new("/var/lib/instance-connect/audit.log"));
    let stock = crate::stock::StockSettings {
        domain: "amazonaws.com".parse().unwrap(),
        rotation: Duration::from_secs(30 * 86_400),
        overlap: Duration::from_secs(600),
        staple_lifetime: Duration::from_secs(86_400),
    };
    assert_eq!(settings.stock, stock);
    assert_eq!(settings.capacity, crate::descriptors::Capacity::default());
    assert_eq!(settings.throttle, Some(instance_connect_core::throttle::ThrottleLimits::default()));
    assert_eq!(u64::from(settings.audit.max_bytes), instance_connect_core::limits::AUDIT_FILE);
}

#[test]
fn flags_are_over_the_file_and_that_over_the_defaults() {
    let text = "region = \"eu-west-1\"\nclock_window = 60\n[public]\nlisten = \"127.0.0.1:1\"\ntls = false\n\
                [agents]\nnames = [\"a\"]\n[throttle]\nenabled = false\n[log]\nformat = \"json\"\n";
    let flags = ["--clock-window=61", "--agents-names=b,192.0.2.1", "--public-listen=127.0.0.1:2"];
    let settings = source(&flags).parse(text).unwrap();
    assert_eq!(settings.region.as_str(), "eu-west-1");
    assert_eq!(settings.clock_window.duration(), Duration::from_secs(61));
    assert_eq!(settings.agents_names, ["b", "192.0.2.1"]);
    assert_eq!(settings.public.transport, Transport::Plain);
    assert_eq!(settings.public.listen.port(), 2);
    assert_eq!(settings.throttle, None);
    assert_eq!(settings.log_format, key::LogFormat::Json);
}

#[test]
fn paths_are_relative_to_where_they_are_written() {
    let text = format!("data_dir = \"data\"\nmaster_key = \"k\"\n{LEAST}");
    let settings = source(&["--audit-file=here.log"]).parse(&text).unwrap();
    assert_eq!(settings.data_dir, Path::new("/etc/ic/data"));
    assert_eq!(settings.master_key.as_deref(), Some(Path::new("/etc/ic/k")));
    assert_eq!(settings.audit.path, Path::new("here.log"));
    // And stay where they were when a flag is written into the file.
    let file = source(&["--audit-file=here.log", "--public-names=a"]).as_file().unwrap();
    let here = std::path::absolute("here.log").unwrap();
    assert_eq!(source(&[]).parse(&file).unwrap().audit.path, here);
}

/// What is wrong, and what is said of it, below [`LEAST`]'s section.
#[test]
fn mistakes_are_said_with_their_line_and_what_is_expected() {
    for (text, said) in [
        ("lisen = \"0.0.0.0:1\"", "3: there is no key \"public.lisen\"; did you mean \"public.listen\"?"),
        ("region = \"us-east-1\"", "3: there is no key \"public.region\"; did you mean \"region\"?"),
        ("[trottle]", "3: there is no key \"trottle\"; did you mean \"throttle\"?"),
        ("[zzz]\na = 1", "3: there is no key \"zzz\""),
        (
            "[throttle]\nmax_bytes = 1",
            "4: there is no key \"throttle.max_bytes\"; did you mean \"audit.max_bytes\"?",
        ),
        ("listen = 8443", "3: public.listen: expected a text in quotation marks, not 8443"),
        (
            "listen = \"localhost:8443\"",
            "3: public.listen: \"localhost:8443\" is not an address and port, such as 192.0.2.1:8443 or [::]:8443: invalid socket address syntax",
        ),
        ("tls = \"no\"", "3: public.tls: expected true or false, not \"no\""),
        (
            "tls = false",
            "3: public.tls: plain http is for loopback addresses only, and public.listen is 0.0.0.0:8443",
        ),
        (
            "tls = false\nlisten = \"127.0.0.1:1\"\ncertificate = \"c\"",
            "5: public.certificate: has no use while public.tls is false",
        ),
        (
            "tls = false\nlisten = \"127.0.0.1:1\"\nkey = \"k\"",
            "5: public.key: has no use while public.tls is false",
        ),
        ("certificate = \"c\"", "3: public.certificate: needs public.key beside it"),
        ("key = \"k\"", "3: public.key: needs public.certificate beside it"),
        ("certificate = \"\"\nkey = \"k\"", "3: public.certificate: a path is not empty"),
        ("proxy_protocol = true", "3: public.proxy_protocol: has no use without public.trusted_proxies"),
        (
            "trusted_proxies = [\"lb\"]",
            "3: public.trusted_proxies: \"lb\" is not an address or network: it is written like 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32",
        ),
        (
            "[stock]\ndomain = \"example.com\"",
            "4: stock.domain: \"example.com\" is not one of amazonaws.com, amazonaws.com.cn, c2s.ic.gov, sc2s.sgov.gov",
        ),
        (
            "[stock]\nsigner_rotation = \"30\"",
            "4: stock.signer_rotation: \"30\" is not a time, such as 90s, 10m, 24h or 30d",
        ),
        ("[stock]\nsigner_rotation = \"61d\"", "4: stock.signer_rotation: is from 5m to 60d"),
        ("[stock]\nsigner_overlap = \"119s\"", "4: stock.signer_overlap: is from 2m to 1d"),
        ("[stock]\nstaple_lifetime = \"59s\"", "4: stock.staple_lifetime: is from 1m to 30d"),
        (
            "[stock]\nsigner_rotation = \"5m\"\nsigner_overlap = \"300s\"",
            "5: stock.signer_overlap: is shorter than stock.signer_rotation",
        ),
        (
            "[agents]\nnames = \"a\"",
            "4: agents.names: expected a list of texts, such as [\"a\", \"b\"], not \"a\"",
        ),
        (
            "[agents]\nnames = [\"a\", 1]",
            "4: agents.names: expected a list of texts, such as [\"a\", \"b\"], not [\"a\", 1]",
        ),
        (
            "[agents]\nnames = [\"a:8444\"]",
            "4: agents.names: \"a:8444\" is not a host name or an address (without a port)",
        ),
        (
            "[agents]\nnames = []",
            "4: agents.names: the names agents reach the control plane by are needed, here or as public.names",
        ),
        (
            "[audit]\nmax_bytes = 1",
            "4: audit.max_bytes: expected a whole number from 4096 to 1073741824, not 1",
        ),
        (
            "[audit]\nmax_bytes = -1",
            "4: audit.max_bytes: expected a whole number from 4096 to 1073741824, not -1",
        ),
        (
            "[throttle]\nprincipal = \"0/1\"",
            "4: throttle.principal: \"0/1\" is not a rate: a rate is written like 20/100: how many a second, and how many at once; neither is 0",
        ),
        ("[limits]\nlinks = 0", "4: limits.links: expected a whole number from 1 to 1000000, not 0"),
        ("[limits]\nlinks = 1.5", "4: limits.links: expected a whole number from 1 to 1000000, not 1.5"),
        ("[log]\nformat = \"xml\"", "4: log.format: a log is \"text\" or \"json\""),
        ("[log]\nlevel = \"loud\"", "4: log.level: a level is error, warn, info or debug"),
        (
            "[traces]\nendpoint = \"http://user:hunter2@a\"",
            "4: traces.endpoint: expected http://HOST:PORT or https://HOST:PORT, without a user name and a query",
        ),
        ("names = [\"b\"]", "3: duplicate key"),
        ("listen = localhost", "3: string values must be quoted, expected literal string"),
    ] {
        let expected = format!("/etc/ic/d.toml:{said}");
        assert_eq!(problems(&format!("{LEAST}{text}\n"), &[]), expected, "{text}");
    }
    let above = |text: &str| problems(&format!("{text}\n{LEAST}"), &[]);
    assert_eq!(above("public = 1"), "/etc/ic/d.toml:2: duplicate key");
    assert_eq!(above("audit = 1"), "/etc/ic/d.toml:1: audit is a section: write [audit] above its keys");
    assert_eq!(above("region = {}"), "/etc/ic/d.toml:1: region: expected a text in quotation marks, not {}");
    assert_eq!(
        above("key_types = [\"dsa\"]"),
        "/etc/ic/d.toml:1: key_types: not a list of key types: unknown variant `dsa`, expected one of `rsa`, `ed25519`, `ecdsa`, `ed25519-sk`, `ecdsa-sk`"
    );
}

#[test]
fn all_mistakes_are_said_at_once() {
    let text = "region = 1\nclock_window = 0\nregoin = 2\n[public]\nlisten = \"x\"\n";
    let said = problems(text, &["--limits-links=many", "--log-level=x"]);
    let lines: Vec<&str> = said.lines().collect();
    for (line, expected) in [
        "d.toml:1: region: ",
        "d.toml:2: clock_window: ",
        "d.toml:3: there is no key",
        "d.toml:5: public.listen: ",
        "--limits-links: expected a whole number from 1 to 1000000, not \"many\"",
        "--log-level: a level is",
        "d.toml: agents.names: ",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(lines.get(line).is_some_and(|said| said.contains(expected)), "{expected} in\n{said}");
    }
}

#[test]
fn without_a_word_it_says_what_is_needed() {
    let said = problems("", &[]);
    assert!(said.contains("d.toml: public.names: the names clients reach the API by are needed"), "{said}");
    assert!(said.contains("d.toml: agents.names: "), "{said}");
}

#[test]
fn files_that_are_not_there_or_are_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("d.toml");
    let load = || Source::of_file(Some(file.clone())).load().map_err(|error| format!("{error:#}"));
    assert!(load().unwrap_err().contains("`instance-connectd init` writes one"));
    std::fs::write(&file, format!("{LEAST}#{}", "x".repeat(64 * 1024))).unwrap();
    assert!(load().unwrap_err().contains("has more than 65536 bytes"));
    std::fs::write(&file, LEAST).unwrap();
    load().unwrap();
}

/// Every key by its default or example, as it is in the example file.
#[test]
fn the_example_is_a_configuration_with_every_key() {
    let flags = source(&["--public-names=a.example,192.0.2.1", "--region=eu-west-1"]).flags;
    let example = describe::example(&flags);
    let settings = source(&[]).parse(&example).unwrap();
    assert_eq!(
        settings.public.transport,
        Transport::Own { names: vec!["a.example".into(), "192.0.2.1".into()] }
    );
    assert_eq!(settings.region.as_str(), "eu-west-1");

    // With everything that is commented out, too.
    let all = describe::example(&Vec::new()).replace("\n#", "\n").replace("\n The ", "\n# The ");
    let all: String =
        all.lines().filter(|line| !line.starts_with([' ', '#'])).map(|line| format!("{line}\n")).collect();
    let settings = source(&[]).parse(&all).unwrap_or_else(|error| panic!("{error}\n{all}"));
    assert!(matches!(settings.public.transport, Transport::Files { .. }));
    for definition in ALL {
        let (_, name) = definition.section_and_name();
        assert!(all.contains(&format!("\n{name} = ")) || all.starts_with(&format!("{name} = ")), "{name}");
    }
}

#[test]
fn every_key_is_itself() {
    let paths: BTreeSet<&str> = ALL.iter().map(|definition| definition.path).collect();
    let flags: BTreeSet<String> = ALL.iter().map(|definition| definition.flag()).collect();
    assert_eq!((paths.len(), flags.len()), (ALL.len(), ALL.len()));
    // Each static of the file is in the list.
    let statics = include_str!("keys.rs").matches("pub(super) static").count();
    assert_eq!(statics, ALL.len() + 1);
    for definition in ALL {
        assert!(definition.default.is_some() != definition.example.is_some(), "{}", definition.path);
    }
}

#[test]
fn the_published_schema_and_example_are_current() {
    let docs = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"));
    for (name, current) in [
        ("instance-connectd.schema.json", commands::schema_text().unwrap()),
        ("instance-connectd.example.toml", describe::example(&Vec::new())),
    ] {
        let published = std::fs::read_to_string(docs.join(name)).unwrap_or_default();
        assert!(published == current, "docs/{name}: write it with `instance-connectd config`");
    }
}
