//! `ssh-config`: what becomes of files, byte for byte.

use crate::run::{Outcome, Person};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

fn config(person: &Person) -> PathBuf {
    person.home.path().join(".ssh/config")
}

fn ours(person: &Person) -> PathBuf {
    person.home.path().join(".ssh/instance-connect.config")
}

fn install(person: &Person) -> Outcome {
    person.run(&["ssh-config", "install", "--region", "us-east-1"])
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_was_there_comes_back_byte_for_byte() {
    for before in [
        "Host *\n  User me\n",
        "Host *\n  User me",
        "\r\nHost *\r\n",
        "\n\n",
        "",
        "# Include \"other\"\nInclude other\n",
        "\u{feff}# caf\u{e9}",
    ] {
        let person = Person::new();
        person.file(".ssh/config", before);
        fs::set_permissions(config(&person), Permissions::from_mode(0o640)).unwrap();
        let outcome = install(&person);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
        let line = format!("Include \"{}\"\n", ours(&person).display());
        assert_eq!(fs::read_to_string(config(&person)).unwrap(), format!("{line}{before}"));
        assert_eq!((mode(&config(&person)), mode(&ours(&person))), (0o640, 0o600));

        // Once more changes nothing but what was asked for otherwise.
        assert_eq!(person.run(&["ssh-config", "install", "--region", "eu-west-1"]).code, 0);
        assert_eq!(fs::read_to_string(config(&person)).unwrap(), format!("{line}{before}"));
        let text = fs::read_to_string(ours(&person)).unwrap();
        assert!(text.contains("--region=eu-west-1") && !text.contains("us-east-1"), "{text}");

        assert_eq!(person.run(&["ssh-config", "remove"]).code, 0);
        assert_eq!(fs::read_to_string(config(&person)).unwrap(), before);
        assert_eq!(mode(&config(&person)), 0o640);
        assert_eq!(fs::read_dir(person.home.path().join(".ssh")).unwrap().count(), 1);
        let again = person.run(&["ssh-config", "remove"]);
        assert!(again.code == 0 && again.stdout.contains("did not include anything of ours"), "{again:?}");
    }
}

#[test]
fn a_configuration_made_for_the_line_goes_with_it() {
    let person = Person::new();
    assert_eq!((install(&person).code, install(&person).code), (0, 0));
    assert_eq!(mode(&config(&person)), 0o600);
    assert_eq!(person.run(&["ssh-config", "remove"]).code, 0);
    assert_eq!(fs::read_dir(person.home.path().join(".ssh")).unwrap().count(), 0);

    // Unless somebody has written into it since.
    assert_eq!(install(&person).code, 0);
    let line = fs::read_to_string(config(&person)).unwrap();
    fs::write(config(&person), format!("Host a\n{line}Host b\n")).unwrap();
    assert_eq!(install(&person).code, 0);
    assert_eq!(fs::read_to_string(config(&person)).unwrap(), format!("Host a\n{line}Host b\n"));
    assert_eq!(person.run(&["ssh-config", "remove"]).code, 0);
    assert_eq!(fs::read_to_string(config(&person)).unwrap(), "Host a\nHost b\n");
}

#[test]
fn what_is_not_plainly_the_users_own_is_left_alone() {
    let person = Person::new();
    let real = person.file("dotfiles/config", "Host *\n");
    fs::create_dir(person.home.path().join(".ssh")).unwrap();
    symlink(&real, config(&person)).unwrap();
    let outcome = install(&person);
    assert_eq!(outcome.code, 255);
    assert!(
        outcome.stderr.contains(".ssh/config is a symbolic link, so it is left alone\nhint: include what"),
        "{outcome:?}"
    );
    assert_eq!(fs::read_to_string(&real).unwrap(), "Host *\n");
    assert!(config(&person).is_symlink() && !ours(&person).exists());

    for (name, made_by) in [("a directory", true), ("a stranger's file", false)] {
        let person = Person::new();
        if made_by {
            fs::create_dir_all(config(&person)).unwrap();
        } else {
            person.file(".ssh/instance-connect.config", "Host *\n");
        }
        let outcome = install(&person);
        assert_eq!(outcome.code, 255, "{name}: {outcome:?}");
        if !made_by {
            assert!(!config(&person).exists());
            let outcome = person.run(&["ssh-config", "remove"]);
            assert!(outcome.stderr.contains("is not ours"), "{outcome:?}");
            assert_eq!(fs::read_to_string(ours(&person)).unwrap(), "Host *\n");
        }
    }
}

/// ssh itself says what it makes of the file, and the shell of the words in it.
#[test]
fn options_arrive_as_they_were_given() {
    let person = Person::new();
    let odd = "a'b\"c\\d $(touch x) %h é";
    let output = person
        .command(&["ssh-config", "print", "--profile", odd, "--ca-bundle", "a b.pem", "--os-user", "alice"])
        .args(["--endpoint-url", "https://ic.example:8443/", "--name", "Web-*", "--address", "private"])
        .current_dir(person.home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!config(&person).exists());
    let file = person.file("printed", std::str::from_utf8(&output.stdout).unwrap());
    let asked = |host: &str| {
        let output = Command::new("ssh").arg("-F").arg(&file).args(["-G", host]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        (value("proxycommand "), value("user "), value("identityagent "))
    };
    for host in ["i-0123456789abcdef0", "web-1", "WEB-1", "db.ec2"] {
        let (proxy, user, agent) = asked(host);
        assert_eq!(user.as_deref(), Some("alice"), "{host}");
        let agents = format!("{}/.ssh/instance-connect", person.home.path().display());
        let agent = agent.unwrap();
        assert!(
            [format!("{agents}/%h"), format!("{agents}/{}", host.to_lowercase())].contains(&agent),
            "{agent}"
        );
        // As ssh runs it: percent signs first, then the shell.
        let proxy =
            proxy.unwrap().replace("%n", host).replace("%h", host).replace("%p", "22").replace("%r", "alice");
        let words = proxy.replace(&format!("%{host}"), "%h").split_once(' ').unwrap().1.to_owned();
        let printed = Command::new("sh").arg("-c").arg(format!("printf '%s\\n' {words}")).output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let words: Vec<&str> = printed.lines().collect();
        let bundle = format!("--ca-bundle={}/a b.pem", person.home.path().canonicalize().unwrap().display());
        let typed = format!("--typed={host}");
        let profile = format!("--profile={odd}");
        let expected = [
            &profile,
            "--endpoint-url=https://ic.example:8443/",
            &bundle,
            "proxy",
            "--address",
            "private",
            "--agents",
            &agents,
            &typed,
            "--",
            host,
            "22",
            "alice",
        ];
        assert_eq!(words, expected);
    }
    // Nothing with a quote goes through a shell, whoever made it: here another configuration.
    for evil in ["i-90123456'; touch x; '", r"i-90123456\"] {
        let file =
            person.file("evil", &format!("Host evil\n HostName \"{evil}x\"\nInclude {}\n", file.display()));
        let output = Command::new("ssh").arg("-F").arg(&file).args(["-G", "evil"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("hostname i-9") && !text.contains("proxycommand"), "{text}");
    }
    for other in ["example.com", "xi-0123456789abcdef0", "ec2", "i-web", "i-web.example.com"] {
        assert_eq!(asked(other).0, None, "{other}");
    }
}

#[test]
fn mistakes() {
    let person = Person::new();
    for (arguments, message) in [
        (&["--name", "*"][..], "it is not a name"),
        (&["--name", "a b"], "it is not a name"),
        (&["--os-user", "a b"], "an OS user name"),
        (&["--profile", "a\nb"], "does not fit on one line"),
        (&["--config", "/x/$HOME/config"], "ssh cannot name a socket"),
    ] {
        let outcome = person.run(&[&["ssh-config", "install"], arguments].concat());
        assert!(outcome.code == 252 && outcome.stderr.contains(message), "{outcome:?}");
    }
    assert!(!person.home.path().join(".ssh").exists());
}
