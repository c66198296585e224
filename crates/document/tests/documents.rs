//! What a machine accepts: documents through the public face of the crate, as agent and sshd command use it.

#![expect(clippy::unwrap_used, reason = "a test whose world cannot be set up fails there")]

use instance_connect_document::*;
use proptest::prelude::*;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// The machine's time when its documents are looked at.
const NOW: MachineTime = MachineTime { boot: BootInstant(7_200 * SECOND), wall: UnixSeconds(1_767_225_600) };

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
const CALLER: &str = "arn:aws:iam::111122223333:user/jane";

/// A control plane and a machine that know each other, from fixed seeds.
struct World {
    anchor: SigningKey,
    signer: SigningKey,
    region: Region,
    anchors: Anchors,
    instance: InstanceId,
    user: OsUser,
    boot: BootId,
    request: RequestId,
}

impl World {
    fn new() -> Self {
        let anchor = SigningKey::from_seed(&[1; 32]).unwrap();
        let region = "us-east-1".parse().unwrap();
        Self {
            anchors: Anchors::parse(&Anchors::line(&region, &anchor.verifying_key())).unwrap(),
            anchor,
            signer: SigningKey::from_seed(&[2; 32]).unwrap(),
            region,
            instance: "i-0123456789abcdef0".parse().unwrap(),
            user: "alice".parse().unwrap(),
            boot: "5c6b2e7e-1d0a-4f3b-8c9d-0e1f2a3b4c5d".parse().unwrap(),
            request: "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
        }
    }

    fn terms(&self) -> DocumentTerms<'_> {
        DocumentTerms {
            expires_at: UnixSeconds(NOW.wall.0 + 60),
            instance: &self.instance,
            caller: CALLER,
            request: &self.request,
            user: &self.user,
            boot: &self.boot,
            key_line: KEY,
        }
    }

    fn document(&self) -> String {
        self.terms().sign(&self.signer).unwrap()
    }

    fn statement(&self) -> String {
        let day = UnixDay(NOW.wall.day().0 + 1);
        SignerStatement::issue(&self.anchor, self.signer.verifying_key(), &self.region, day).to_string()
    }

    fn expected(&self) -> Expected<'_> {
        Expected {
            anchors: &self.anchors,
            instance: &self.instance,
            user: &self.user,
            boot: &self.boot,
            fingerprint: Some(KeyLine::parse(KEY).unwrap().fingerprint()),
            longest_lifetime: Duration::from_secs(60),
        }
    }

    /// Why this document, handed over with 60 s to live, is refused.
    fn refusal(&self, document: &str) -> Refusal {
        verify(&ending_in(60, &self.statement(), document), &self.expected(), NOW).unwrap_err()
    }

    /// A document with these signed lines.
    fn signed(&self, lines: &str) -> String {
        // The crate signs nothing but terms, so the lines are given to the library behind it.
        let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[2; 32]).unwrap();
        format!("{lines}{}\n\n", base64_encode(pair.sign(lines.as_bytes()).as_ref()))
    }

    /// The lines of the good document that are signed.
    fn lines(&self) -> String {
        let document = self.document();
        document.split_inclusive('\n').take(8).collect()
    }
}

fn ending_in<'a>(seconds: u64, statement: &'a str, document: &'a str) -> Section<'a> {
    Section { deadline: BootInstant(NOW.boot.0 + seconds * SECOND), statement, document }
}

#[test]
fn a_good_document_is_accepted() {
    let world = World::new();
    let (statement, document) = (world.statement(), world.document());
    let section = ending_in(60, &statement, &document);
    let accepted = verify(&section, &world.expected(), NOW).unwrap();
    assert_eq!(accepted.key_line(), KEY);
    assert_eq!(accepted.caller(), CALLER);
    assert_eq!(*accepted.request(), world.request);
    assert_eq!(Some(accepted.fingerprint()), world.expected().fingerprint);
    let any_key = Expected { fingerprint: None, ..world.expected() };
    assert_eq!(verify(&section, &any_key, NOW), Ok(accepted));
}

/// Checked with a second implementation of Ed25519: these bytes are what another release has to read.
#[test]
fn golden_document_statement_and_file() {
    let world = World::new();
    let statement = "ed25519 gTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q= us-east-1 20455 \
        IGd3z+kwO7d7oUyRduPnmcu2TbddILOwje/uxWci7nv8KcIyrBA6SXEPYHWsosuhvtBfskA45TEdLSIoGuueCQ==";
    let document = "#Timestamp=1767225660\n\
        #Instance=i-0123456789abcdef0\n\
        #Caller=arn:aws:iam::111122223333:user/jane\n\
        #Request=0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11\n\
        #User=alice\n\
        #Boot=5c6b2e7e-1d0a-4f3b-8c9d-0e1f2a3b4c5d\n\
        #Alg=ed25519\n\
        ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea\n\
        eAf9Vd5yEcTdvJiB06ZP2giBBBH7TCsoxLgfcDq5cisTrFUpCiKED9cfRjTvPxCfU8vpE3nuAvPn6P3Kk3tKCw==\n\
        \n";
    assert_eq!(world.statement(), statement);
    assert_eq!(world.document(), document);
    let section = ending_in(60, statement, document);
    let file = merge(None, &section, NOW.boot).unwrap();
    assert_eq!(file, format!("!Deadline=7260000000000\n!Signer={statement}\n{document}"));
    assert_eq!(Handover::parse(file.as_bytes()).unwrap().sections(), [section]);
    assert!(verify(&section, &world.expected(), NOW).is_ok());
}

#[test]
fn another_users_document_served_under_this_name_is_refused() {
    let world = World::new();
    let bob = "bob".parse().unwrap();
    let document = DocumentTerms { user: &bob, ..world.terms() }.sign(&world.signer).unwrap();
    assert_eq!(world.refusal(&document), Refusal::OtherUser);
}

#[test]
fn another_instances_document_is_refused() {
    let world = World::new();
    let other = "i-0123456789abcdef1".parse().unwrap();
    let document = DocumentTerms { instance: &other, ..world.terms() }.sign(&world.signer).unwrap();
    assert_eq!(world.refusal(&document), Refusal::OtherInstance);
}

#[test]
fn a_document_from_before_a_reboot_is_refused() {
    let world = World::new();
    let before = "00000000-1d0a-4f3b-8c9d-0e1f2a3b4c5d".parse().unwrap();
    let document = DocumentTerms { boot: &before, ..world.terms() }.sign(&world.signer).unwrap();
    assert_eq!(world.refusal(&document), Refusal::OtherBoot);
}

#[test]
fn a_document_for_another_key_than_was_offered_is_refused() {
    let world = World::new();
    let offered = Expected { fingerprint: Some(Fingerprint::from_bytes([0; 32])), ..world.expected() };
    let (statement, document) = (world.statement(), world.document());
    let refused = verify(&ending_in(60, &statement, &document), &offered, NOW);
    assert_eq!(refused, Err(Refusal::OtherKey));
}

#[test]
fn one_flipped_bit_is_refused() {
    let world = World::new();
    let (statement, document) = (world.statement(), world.document());
    let file = merge(None, &ending_in(60, &statement, &document), NOW.boot).unwrap().into_bytes();
    let after_deadline = file.iter().position(|b| *b == b'\n').unwrap();
    for position in after_deadline..file.len() {
        for bit in 0..8 {
            let mut file = file.clone();
            file[position] ^= 1 << bit;
            if let Ok(handover) = Handover::parse(&file) {
                for section in handover.sections() {
                    assert!(verify(section, &world.expected(), NOW).is_err(), "bit {bit} of byte {position}");
                }
            }
        }
    }
}

#[test]
fn a_signer_not_under_the_anchor_is_refused() {
    let world = World::new();
    let rogue = SigningKey::from_seed(&[3; 32]).unwrap();
    let day = UnixDay(NOW.wall.day().0 + 1);
    let signer = world.signer.verifying_key();
    let other_region = "us-east-2".parse().unwrap();
    let document = world.document();
    for statement in [
        // Of an anchor that this machine does not have, of the signer itself, and of the right anchor for a region
        // that is not its own.
        SignerStatement::issue(&rogue, signer, &world.region, day),
        SignerStatement::issue(&world.signer, signer, &world.region, day),
        SignerStatement::issue(&world.anchor, signer, &other_region, day),
    ] {
        let statement = statement.to_string();
        let refused = verify(&ending_in(60, &statement, &document), &world.expected(), NOW);
        assert_eq!(refused, Err(Refusal::UnknownSigner));
    }
}

#[test]
fn a_document_of_another_signer_is_refused() {
    let world = World::new();
    let rogue = SigningKey::from_seed(&[3; 32]).unwrap();
    assert_eq!(world.refusal(&world.terms().sign(&rogue).unwrap()), Refusal::Signature);
}

#[test]
fn a_signer_is_accepted_through_its_last_day() {
    let world = World::new();
    let document = world.document();
    let today = NOW.wall.day().0;
    let on = |last_day: u32| {
        let signer = world.signer.verifying_key();
        let statement = SignerStatement::issue(&world.anchor, signer, &world.region, UnixDay(last_day));
        verify(&ending_in(60, &statement.to_string(), &document), &world.expected(), NOW).map(|_| ())
    };
    assert_eq!(on(today), Ok(()));
    assert_eq!(on(today - 1), Err(Refusal::SignerLapsed));
}

/// Why a document with this deadline is refused, by a machine that lets keys live for `longest`.
fn with_deadline(deadline: u64, longest: u64) -> Result<(), Refusal> {
    let world = World::new();
    let (statement, document) = (world.statement(), world.document());
    let section = Section { deadline: BootInstant(deadline), statement: &statement, document: &document };
    let expected = Expected { longest_lifetime: Duration::from_secs(longest), ..world.expected() };
    verify(&section, &expected, NOW).map(|_| ())
}

#[test]
fn a_document_exactly_at_its_deadline_is_refused() {
    let passed = Err(Refusal::Deadline(DeadlineRefusal::Passed));
    assert_eq!(with_deadline(NOW.boot.0 + 1, 60), Ok(()));
    assert_eq!(with_deadline(NOW.boot.0, 60), passed);
    assert_eq!(with_deadline(NOW.boot.0 - 1, 60), passed);
    assert_eq!(with_deadline(0, 60), passed);
}

#[test]
fn a_deadline_more_than_60_s_ahead_is_refused() {
    let too_far = Err(Refusal::Deadline(DeadlineRefusal::TooFar));
    assert_eq!(with_deadline(NOW.boot.0 + 60 * SECOND, 60), Ok(()));
    assert_eq!(with_deadline(NOW.boot.0 + 60 * SECOND + 1, 60), too_far);
    assert_eq!(with_deadline(NOW.boot.0 + 61 * SECOND, 3600), too_far, "whatever the machine would allow");
    assert_eq!(with_deadline(u64::MAX, 60), too_far);
    // The machine's own limit is below the minute.
    assert_eq!(with_deadline(NOW.boot.0 + 30 * SECOND, 30), Ok(()));
    assert_eq!(with_deadline(NOW.boot.0 + 30 * SECOND + 1, 30), too_far);
}

#[test]
fn a_wrong_wall_clock_neither_prolongs_nor_ends_a_grant() {
    let world = World::new();
    let day = 24 * 60 * 60;
    let signer = world.signer.verifying_key();
    let statement =
        SignerStatement::issue(&world.anchor, signer, &world.region, UnixDay(u32::MAX)).to_string();
    let document = world.document();
    let expires = NOW.wall.0 + 60;
    let rows = [
        (0, Ok(())),
        (i64::MIN, Ok(())),
        (expires + 1, Ok(())),
        (expires + day, Ok(())),
        (expires + day + 1, Err(Refusal::LongPast)),
        (i64::MAX, Err(Refusal::LongPast)),
    ];
    for (wall, expected) in rows {
        let now = MachineTime { wall: UnixSeconds(wall), ..NOW };
        let verified = |seconds| verify(&ending_in(seconds, &statement, &document), &world.expected(), now);
        assert_eq!(verified(60).map(|_| ()), expected, "{wall}");
        assert!(verified(0).is_err(), "past its deadline at {wall}");
    }
}

#[test]
fn headers_are_each_there_once_and_unknown_ones_are_let_be() {
    let world = World::new();
    let lines = world.lines();
    assert_eq!(world.signed(&lines), world.document());
    let more = world.signed(&format!("#Purpose=more to come\n{lines}"));
    let statement = world.statement();
    assert!(verify(&ending_in(60, &statement, &more), &world.expected(), NOW).is_ok());
    for header in lines.lines().take(7) {
        let line = format!("{header}\n");
        let without = world.signed(&lines.replace(&line, ""));
        assert_eq!(world.refusal(&without), Refusal::Malformed("a header is missing"), "{header}");
        let twice = world.signed(&lines.replace(&line, &line.repeat(2)));
        assert_eq!(world.refusal(&twice), Refusal::Malformed("a header is given twice"), "{header}");
        let (name, _) = header.split_once('=').unwrap();
        let empty = world.signed(&lines.replace(&line, &format!("{name}=\n")));
        assert_eq!(world.refusal(&empty), Refusal::Malformed("a header is not #Name=Value"), "{header}");
    }
}

#[test]
fn signed_oddities_are_refused_all_the_same() {
    let world = World::new();
    let value = Refusal::Malformed("a header's value is not of its kind");
    let rows = [
        ("#Alg=ed25519", "#Alg=rsa-pss", Refusal::Malformed("#Alg is not ed25519")),
        ("#Timestamp=", "#Timestamp=0", Refusal::Malformed("#Timestamp is not a number")),
        ("#Timestamp=", "#Timestamp=-", Refusal::Malformed("#Timestamp is not a number")),
        ("#Instance=i-", "#Instance=", value),
        ("#Request=0", "#Request=", value),
        ("#User=alice", "#User=al/ice", value),
        ("#Boot=5c", "#Boot=5C", value),
        ("#User=", "#User", Refusal::Malformed("a header is not #Name=Value")),
        ("#User=", "# User=", Refusal::Malformed("a header is not #Name=Value")),
        ("ssh-ed25519 ", "ssh-rsa ", Refusal::KeyLine(KeyLineError::Blob)),
        ("ssh-ed25519 ", "no-pty ssh-ed25519 ", Refusal::KeyLine(KeyLineError::Type)),
        ("B1Ea", "B1Ea jane@laptop", Refusal::KeyLine(KeyLineError::Form)),
    ];
    for (from, to, expected) in rows {
        let lines = world.lines().replace(from, to);
        assert_eq!(world.refusal(&world.signed(&lines)), expected, "{to}");
    }
}

#[test]
fn documents_off_the_grammar_are_refused() {
    let world = World::new();
    let document = world.document();
    let text = Refusal::Malformed("something other than printable ASCII and line feeds");
    let blank = Refusal::Malformed("no blank line after the signature");
    let base64 = Refusal::Malformed("the signature is not one line of base64");
    let rows = [
        (String::new(), Refusal::Malformed("no key line")),
        (world.lines(), blank),
        (document.replace('\n', "\r\n"), text),
        (document.replace("jane", "jäne"), text),
        (document.replace("jane", "jane\0"), text),
        (document.trim_end().to_owned() + "\n", blank),
        (document.clone() + "\n", base64),
        (document.clone() + &document, base64),
        (document.replace("\n\n", "A\n\n"), base64),
        (document.replace("==\n\n", "=\n=\n\n"), base64),
        (document.replace("ssh-", "\nssh-"), base64),
        (world.lines() + "\n\n", Refusal::Signature),
        (world.lines() + "AAAA\n\n", Refusal::Signature),
        ("x".repeat(DOCUMENT_LIMIT + 1), Refusal::Malformed("longer than 7 KiB")),
    ];
    for (document, expected) in rows {
        assert_eq!(world.refusal(&document), expected, "{document:.200?}");
    }
}

#[test]
fn what_is_not_printable_ascii_never_gets_into_a_document() {
    let world = World::new();
    let encoded = |terms: DocumentTerms<'_>| terms.sign(&world.signer).map(|_| ());
    for caller in ["", "a\nb", "a\n#User=root", "a\rb", "a\tb", "jäne", "a\0", "a\u{7f}"] {
        assert_eq!(
            encoded(DocumentTerms { caller, ..world.terms() }),
            Err(EncodeError::Caller),
            "{caller:?}"
        );
    }
    let commented = format!("{KEY} comment");
    let refused = encoded(DocumentTerms { key_line: &commented, ..world.terms() });
    assert_eq!(refused, Err(EncodeError::KeyLine(KeyLineError::Form)));
    let refused = encoded(DocumentTerms { expires_at: UnixSeconds(0), ..world.terms() });
    assert_eq!(refused, Err(EncodeError::Expiry));
    let caller = "x".repeat(DOCUMENT_LIMIT);
    assert_eq!(encoded(DocumentTerms { caller: &caller, ..world.terms() }), Err(EncodeError::TooLong));
}

#[test]
fn the_longest_key_and_caller_of_the_api_fit() {
    let world = World::new();
    let mut blob = b"\0\0\0\x07ssh-rsa".to_vec();
    blob.resize((4096 - "ssh-rsa ".len()) / 4 * 3, 7);
    let key = format!("ssh-rsa {}", base64_encode(&blob));
    let caller = "x".repeat(2048);
    assert_eq!(key.len(), 4096);
    let terms = DocumentTerms { key_line: &key, caller: &caller, ..world.terms() };
    let document = terms.sign(&world.signer).unwrap();
    // The metadata service has room for the longest document there may be.
    let entry = stock_entry(&stock_text(&document).unwrap(), &[0; 256]);
    assert_eq!(entry.len() - document.len(), STOCK_ENTRY_LIMIT - DOCUMENT_LIMIT);
}

#[test]
fn what_an_rsa_signature_for_the_stock_scripts_is_over() {
    let world = World::new();
    let text = world.lines().replace("#Alg=ed25519\n", "#Alg=rsa-pss\n");
    assert_eq!(stock_text(&world.document()), Some(text.clone()));
    // Somebody named to be mistaken for the line that changes, and headers of a later version.
    let caller = "arn:aws:iam::111122223333:user/#Alg=ed25519";
    let odd = world.lines().replace(CALLER, caller).replace("#Boot", "#Alg2=ed25519\n#Boot");
    let expected = odd.replace("\n#Alg=ed25519\n", "\n#Alg=rsa-pss\n");
    assert_eq!(stock_text(&world.signed(&odd)), Some(expected));
    let entry = stock_entry(&text, &[0xff; 256]);
    assert_eq!(entry, format!("{text}{}/w==\n\n", "/".repeat(340)));
}

#[test]
fn what_the_stock_scripts_cannot_read_has_no_text_for_them() {
    let world = World::new();
    let blob = |kind: &str| {
        let length = u32::try_from(kind.len()).unwrap().to_be_bytes();
        format!("{kind} {}", base64_encode(&[&length[..], kind.as_bytes(), b"key"].concat()))
    };
    let with = |key_line: &str| stock_text(&world.signed(&world.lines().replace(KEY, key_line)));
    assert!(with(&blob("ssh-rsa")).is_some() && with(&blob("ssh-ed25519")).is_some());
    for kind in [
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "ssh-dss",
        "ssh-rsa-cert-v01@openssh.com",
    ] {
        assert_eq!(with(&blob(kind)), None, "{kind}");
    }
    let document = world.document();
    for malformed in [
        "",
        "\n\n",
        &document.replace('\n', "\r\n"),
        &document.replace("#Alg=ed25519", "#Alg=rsa-pss"),
        &document.replace("#Alg=ed25519\n", ""),
        &document.replace("\n\n", "\n"),
        &format!("{document}\n"),
        &document.repeat(2),
        &document.replace("ssh-ed25519 ", "#ssh-ed25519 "),
    ] {
        assert_eq!(stock_text(malformed), None, "{malformed:?}");
    }
}

#[test]
fn a_withdrawn_push_leaves_the_others() {
    let world = World::new();
    let other = "11111111-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap();
    let second = DocumentTerms { request: &other, ..world.terms() }.sign(&world.signer).unwrap();
    let (statement, first) = (world.statement(), world.document());
    let one = merge(None, &ending_in(60, &statement, &first), NOW.boot).unwrap();
    let both = merge(Some(one.as_bytes()), &ending_in(60, &statement, &second), NOW.boot).unwrap();
    assert_eq!(withdraw(both.as_bytes(), &other, NOW.boot), Some(one.clone()));
    assert_eq!(withdraw(one.as_bytes(), &world.request, NOW.boot), None);
    assert_eq!(withdraw(one.as_bytes(), &other, NOW.boot), Some(one));
}

#[test]
fn private_keys_are_read_and_not_shown() {
    // RFC 8410 section 10.3: the key, which is its seed, and its public half.
    let seed = base64_decode("1O5y2/kTWErVttjx92n4rTr+fCjL8dT74Jeoj0R1WEI=").unwrap();
    let key = SigningKey::from_seed(&seed.try_into().unwrap()).unwrap();
    assert_eq!(key.verifying_key().to_string(), "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=");
    let shown = format!("{key:?}");
    assert_eq!(shown, "SigningKey(… of Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=)");
    assert_eq!("Gb9E".parse::<VerifyingKey>().unwrap_err(), KeyError::Public);
}

proptest! {
    #[test]
    fn what_is_signed_is_what_is_read(
        seed: [u8; 32],
        anchor: [u8; 32],
        caller in "[ -~]{1,200}",
        user in "[a-z_][a-z0-9_-]{0,30}",
        instance in "i-[0-9a-f]{8,30}",
        key: [u8; 32],
        lifetime in 1..=60 * SECOND,
    ) {
        let (anchor, signer) = (SigningKey::from_seed(&anchor).unwrap(), SigningKey::from_seed(&seed).unwrap());
        let world = World {
            anchors: Anchors::parse(&Anchors::line(&"eu-1".parse().unwrap(), &anchor.verifying_key())).unwrap(),
            anchor,
            signer,
            region: "eu-1".parse().unwrap(),
            instance: instance.parse().unwrap(),
            user: user.parse().unwrap(),
            ..World::new()
        };
        let key = base64_encode(&[&b"\0\0\0\x0bssh-ed25519\0\0\0 "[..], &key].concat());
        let key = format!("ssh-ed25519 {key}");
        let terms = DocumentTerms { caller: &caller, key_line: &key, ..world.terms() };
        let (statement, document) = (world.statement(), terms.sign(&world.signer).unwrap());
        let deadline = BootInstant(NOW.boot.0 + lifetime);
        let file = merge(None, &Section { deadline, statement: &statement, document: &document }, NOW.boot).unwrap();
        let handover = Handover::parse(file.as_bytes()).unwrap();
        let expected = Expected { fingerprint: None, ..world.expected() };
        let accepted = verify(&handover.sections()[0], &expected, NOW).unwrap();
        prop_assert_eq!(accepted.key_line(), key);
        prop_assert_eq!(accepted.caller(), caller);
    }

    #[test]
    fn any_other_byte_is_refused(position in 0usize..900, byte: u8) {
        let world = World::new();
        let (statement, document) = (world.statement(), world.document());
        let mut file = merge(None, &ending_in(60, &statement, &document), NOW.boot).unwrap().into_bytes();
        let start = file.iter().position(|b| *b == b'\n').unwrap();
        let position = start + position % (file.len() - start);
        prop_assume!(file[position] != byte);
        file[position] = byte;
        if let Ok(handover) = Handover::parse(&file) {
            for section in handover.sections() {
                prop_assert!(verify(section, &world.expected(), NOW).is_err());
            }
        }
    }

    #[test]
    fn document_parser_never_panics(document in "(#?[ -~]{0,40}\n){0,12}|.{0,200}") {
        let world = World::new();
        let statement = world.statement();
        prop_assert!(verify(&ending_in(60, &statement, &document), &world.expected(), NOW).is_err());
    }

    /// Whatever is taken for a document is one entry for the stock scripts: header lines, one line that begins with `ssh`, and no
    /// blank line or carriage return in between that would end it early.
    #[test]
    fn a_stock_text_is_one_entry(
        others in "(#[A-Za-z-]{1,8}=[ -~]{1,30}\n){0,3}",
        changed in prop::option::of((0..700_usize, any::<char>())),
    ) {
        let world = World::new();
        let mut document = world.signed(&format!("{others}{}", world.lines()));
        if let Some((at, to)) = changed.filter(|(at, _)| *at < document.len()) {
            document.replace_range(at..=at, &to.to_string());
        }
        if let Some(text) = stock_text(&document) {
            let lines: Vec<&str> = text.split('\n').collect();
            let [headers @ .., key_line, ""] = &lines[..] else { panic!("no last line feed") };
            prop_assert!(headers.iter().all(|line| line.starts_with('#') && line.contains('=')));
            prop_assert!(key_line.starts_with("ssh-") && !text.contains('\r'));
            prop_assert_eq!(headers.iter().filter(|line| line.starts_with("#Alg=")).collect::<Vec<_>>(), [&"#Alg=rsa-pss"]);
        }
    }

    #[test]
    fn signed_lines_never_panic(
        headers in "(#(User|Boot|Alg|Timestamp|[ -~]{0,8})=?[ -~]{0,30}\n){0,9}",
        key_line in "(ssh[ -~]{0,80})?",
    ) {
        let world = World::new();
        let document = world.signed(&format!("{headers}{key_line}\n"));
        let statement = world.statement();
        prop_assert!(verify(&ending_in(60, &statement, &document), &world.expected(), NOW).is_err());
    }
}
