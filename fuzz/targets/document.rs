//! What is read at a login, on the machine and in front of root: hand-over files, documents, statements, anchors, the
//! host's veto, and what the command reports.
#![no_main]

use aws_lc_rs::signature::Ed25519KeyPair;
use instance_connect_document::{
    Anchors, BootInstant, DocumentTerms, Expected, Fingerprint, Handover, HostVeto, KeyLine, MachineTime, Offer,
    Refusal, Section, SignerStatement, SigningKey, UnixDay, UnixSeconds, base64_encode, live_file, merge, shorten,
    verify, withdraw,
};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::Duration;

const NOW: MachineTime = MachineTime { boot: BootInstant(1_000_000_000_000), wall: UnixSeconds(1_928_541_906) };
const DEADLINE: BootInstant = BootInstant(1_030_000_000_000);
const INSTANCE: &str = "i-0123456789abcdef0";
const BOOT: &str = "5c0c6f9e-3f60-4c11-9d0b-1c5a6f0e9a11";
const REQUEST: &str = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";
const USER: &str = "alice";

/// The keys behind what the machine trusts. The signer's second form signs anything, right or wrong.
struct Signing {
    anchors: Anchors,
    statement: String,
    signer: SigningKey,
    signs_anything: Ed25519KeyPair,
}

static SIGNING: LazyLock<Signing> = LazyLock::new(|| {
    let (anchor, signer) = (SigningKey::from_seed(&[1; 32]).unwrap(), SigningKey::from_seed(&[2; 32]).unwrap());
    let region = "us-east-1".parse().unwrap();
    Signing {
        anchors: Anchors::parse(&Anchors::line(&region, &anchor.verifying_key())).unwrap(),
        statement: SignerStatement::issue(&anchor, signer.verifying_key(), &region, UnixDay(u32::MAX)).to_string(),
        signer,
        signs_anything: Ed25519KeyPair::from_seed_unchecked(&[2; 32]).unwrap(),
    }
});

fuzz_target!(|bytes: &[u8]| {
    a_handover_file_is_taken_apart_and_put_together(bytes);
    if let Ok(offer) = Offer::parse(bytes) {
        assert_eq!(offer.encode().as_bytes(), bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(statement) = text.parse::<SignerStatement>() {
        assert_eq!(statement.to_string(), text);
    }
    let _ = Anchors::parse(text);
    if let Ok(veto) = HostVeto::parse(text) {
        assert!(veto.longest_lifetime() <= Duration::from_secs(60));
    }
    if let Ok(line) = KeyLine::parse(text) {
        assert!(line.as_str() == text && text.bytes().all(|b| matches!(b, b' '..=b'~')));
        a_key_line_in_a_document_is_read_as_it_is(line);
    }
    // Signing takes longer than all of the rest, and nothing else is a document.
    if text.starts_with('#') {
        what_the_signer_signed_is_checked_all_the_same(text);
    }
});

fn a_handover_file_is_taken_apart_and_put_together(file: &[u8]) {
    let now = NOW.boot;
    let _ = withdraw(file, &REQUEST.parse().unwrap(), now);
    if let Some(shortened) = shorten(file, Duration::from_secs(1), now) {
        assert!(Handover::parse(shortened.as_bytes()).unwrap().deadline() > now);
    }
    let Ok(handover) = Handover::parse(file) else { return };
    for section in handover.sections() {
        let alone = merge(None, section, now).unwrap();
        assert_eq!(Handover::parse(alone.as_bytes()).unwrap().sections(), [*section]);
        let merged = merge(Some(file), section, now).unwrap();
        assert_eq!(Handover::parse(merged.as_bytes()).unwrap().sections().last(), Some(section));
        // Seeds have the signature of nobody, so nothing here opens anything.
        assert!(check(section).is_err());
    }
}

/// Signs the text as if it were the headers and the key line of a document, and asks whether it opens something.
fn what_the_signer_signed_is_checked_all_the_same(signed: &str) {
    let signature = base64_encode(SIGNING.signs_anything.sign(signed.as_bytes()).as_ref());
    let document = format!("{signed}{signature}\n\n");
    let section = Section { deadline: DEADLINE, statement: &SIGNING.statement, document: &document };
    let Ok((key_line, fingerprint, caller)) = check(&section) else { return };
    let lines: Vec<&str> = signed.lines().collect();
    for (name, value) in [("User", USER), ("Instance", INSTANCE), ("Boot", BOOT), ("Caller", &caller), ("Alg", "ed25519")] {
        let header = format!("#{name}=");
        let given: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix(header.as_str())).collect();
        assert_eq!(given, [value], "{name}");
    }
    assert_eq!(lines.last(), Some(&key_line.as_str()));
    assert_eq!(KeyLine::parse(&key_line).unwrap().fingerprint(), fingerprint);
    assert!(signed.bytes().all(|b| matches!(b, b'\n' | b' '..=b'~')));
}

fn a_key_line_in_a_document_is_read_as_it_is(line: KeyLine<'_>) {
    let terms = DocumentTerms {
        expires_at: UnixSeconds(NOW.wall.0 + 60),
        instance: &INSTANCE.parse().unwrap(),
        caller: "arn:aws:iam::111122223333:user/alice",
        request: &REQUEST.parse().unwrap(),
        user: &USER.parse().unwrap(),
        boot: &BOOT.parse().unwrap(),
        key_line: line.as_str(),
    };
    let Ok(document) = terms.sign(&SIGNING.signer) else { return };
    let section = Section { deadline: DEADLINE, statement: &SIGNING.statement, document: &document };
    let (key_line, fingerprint, _) = check(&section).unwrap();
    assert_eq!((key_line.as_str(), fingerprint), (line.as_str(), line.fingerprint()));
    assert!(live_file(terms.user, &fingerprint).bytes().all(|b| b.is_ascii_alphanumeric() || b == b'/'));
}

/// Key line, fingerprint and caller of what the machine accepts.
fn check(section: &Section<'_>) -> Result<(String, Fingerprint, String), Refusal> {
    let expected = Expected {
        anchors: &SIGNING.anchors,
        instance: &INSTANCE.parse().unwrap(),
        user: &USER.parse().unwrap(),
        boot: &BOOT.parse().unwrap(),
        fingerprint: None,
        longest_lifetime: Duration::from_secs(60),
    };
    let accepted = verify(section, &expected, NOW)?;
    Ok((accepted.key_line().to_owned(), accepted.fingerprint(), accepted.caller().to_owned()))
}
