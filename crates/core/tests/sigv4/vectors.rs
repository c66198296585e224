//! AWS's own test suite for signers, as the package of their Rust signer ships it: each of its signed requests is shown
//! to our verifier. Nothing of it is copied here; it is read from where cargo has the package.

use crate::{Edge, Refused, Request, verify};
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::sigv4::AuthenticationError;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What this service refuses although a signer may do it: the vectors, and why.
const REFUSED: [(&[&str], AuthenticationError, &str); 3] = [
    (
        &[
            "get-relative-relative-unnormalized",
            "get-relative-unnormalized",
            "get-slash-dot-slash-unnormalized",
            "get-slash-pointless-dot-unnormalized",
            "get-slash-unnormalized",
            "get-slashes-unnormalized",
        ],
        AuthenticationError::Mismatch,
        "only S3 signs a path as it stands; for every other service it is normalised",
    ),
    (
        &["get-vanilla-with-session-token", "post-sts-header-after", "post-sts-header-before"],
        AuthenticationError::UnknownKey,
        "there are no temporary credentials yet, so no token belongs to any key",
    ),
    (
        &["get-header-key-duplicate", "get-header-value-order"],
        AuthenticationError::Mismatch,
        "a signed header stands once: no client of this service repeats one, and which would be meant?",
    ),
];

/// The forms of a signature, and how many vectors of each verify.
const VERIFIED: [(&str, usize); 2] = [("header", 29), ("query", 27)];

#[test]
fn official_vectors_verify_or_are_refused_for_a_reason() {
    let suite = suite();
    for (form, expected) in VERIFIED {
        let (mut verified, mut refused) = (0, BTreeSet::new());
        for name in names(&suite) {
            let file = suite.join(&name).join(format!("{form}-signed-request.txt"));
            // Two of them, from before the suite had queries, have no such form.
            let Ok(text) = std::fs::read_to_string(file) else { continue };
            let reason = REFUSED.iter().find(|(names, ..)| names.contains(&name.as_str()));
            match (check(&parse(&text)), reason) {
                (Ok(()), None) => verified += 1,
                (Err(Refused::Signature(error)), Some((_, expected, _))) if error == *expected => {
                    refused.insert(name);
                }
                (result, reason) => panic!("{name}, {form}: {result:?}, listed as {reason:?}"),
            }
        }
        println!("{form}: {verified} verify, refused are {refused:?}");
        assert_eq!(verified, expected, "{form}");
        assert_eq!(refused.len(), REFUSED.iter().map(|(names, ..)| names.len()).sum::<usize>(), "{form}");
    }
}

fn names(suite: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(suite).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Verifies a request of the suite at the time and for the edge that it is signed for.
fn check(request: &Request) -> Result<(), Refused> {
    let values: Vec<&str> = request.headers.iter().map(|(_, value)| value.as_str()).collect();
    let text = format!("{}\n{}", request.target, values.join("\n")).replace("%2F", "/");
    let credential = text.split("Credential=").nth(1).unwrap().split(['&', ',']).next().unwrap();
    let [key_id, day, region, service, _] = credential.split('/').collect::<Vec<_>>().try_into().unwrap();
    let secret = match key_id {
        "AKIDEXAMPLE" => "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        _ => "notrealrnrELgWzOk3IfjzDKtFBhDby",
    };
    let date = text.split(&format!("{day}T")).nth(1).unwrap();
    let now = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S", format!("{day}T{}", &date[..6])).unwrap();
    let now = jiff::tz::Offset::UTC.to_timestamp(now).unwrap().as_second();
    // Neither of the two ids is long enough to be one.
    verify(request, Edge { region, service, now: UnixSeconds(now) }, None, secret)
}

/// Reads a request as the suite writes it: one header a line, without a blank behind the colon.
fn parse(text: &str) -> Request {
    let (head, body) = text.split_once("\n\n").unwrap_or_else(|| (text.trim_end(), ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        match line.strip_prefix(' ') {
            // A folded line goes on with the value of the one before.
            Some(more) => headers.last_mut().unwrap().1.push_str(&format!(" {more}")),
            None => {
                let (name, value) = line.split_once(':').unwrap();
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }
    let target = target.strip_suffix(" HTTP/1.1").unwrap_or(target);
    Request { method: method.into(), target: target.into(), headers, body: body.as_bytes().to_vec() }
}

/// Where cargo has unpacked the suite.
fn suite() -> PathBuf {
    let version = run(Command::new("rustc").arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // Packages of other platforms are not here, and cargo would have to fetch them.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&run(cargo.current_dir(env!("CARGO_MANIFEST_DIR")))).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let signer = packages.iter().find(|package| package["name"] == "aws-sigv4").unwrap();
    let manifest = Path::new(signer["manifest_path"].as_str().unwrap());
    manifest.with_file_name("aws-signing-test-suite").join("v4")
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
