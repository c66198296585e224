//! What is a key, what is not, and what is said of it.

use super::algorithm::KeyType;
use super::*;
use aws_lc_rs::signature::{ED25519 as ED25519_VERIFICATION, ParsedPublicKey};
use instance_connect_document::KeyLine;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A line that `ssh-keygen` wrote and the fingerprint that `ssh-keygen -l` prints for it.
struct Sample {
    line: &'static str,
    fingerprint: &'static str,
}

const RSA_2048: Sample = Sample {
    line: "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC6Za2q7C157u8PghE+1LcAmz4lThcxSHdNkbW/dca1RMvdhsP54ZFSofeqx1Cd\
     Qr86jb9D92zWN3GbHXOEHTluRS37OYJOpWDORFa1OrQTOa3T0OlorzN3I7BkbzmvT3k2VYXamQOG1GQ544GJ3Bi1NIauNIVTjJc9\
     iAbrv1/kYJQRsd6A0bW/wvJZxmdMcqkQh/0Ww95kDjEO6B+NnMoGxdUgT2EMvb73pJXbTS3/U2AqEVnrlKzjDBPWH7AHPSH5qADI\
     0F0qFAw0o4Mx9bisohPTal+W0RLmhCy821AHrwX5PGfr/cZDzPLEFXrVAn9wXLDki3OeKss0R1V2TXHL",
    fingerprint: "SHA256:gk6Wy+ng43qZ6xFS/Lc8JvY3J7NMK+xCuBuHoJ5TVKM",
};

const ED25519: Sample = Sample {
    line: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHrdoz19OGxe7DlArKQMFuJgmp68Bi2IVdyTdncLCnut",
    fingerprint: "SHA256:w/umvc2rHjaEzEJAQ0Z3UTyMnvUCcmVs57okfrOegWg",
};

const P256: Sample = Sample {
    line: "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBPS98PYyLqXPZFuFQOx2+PHTbcnL\
     D+jAfBx5pyN73glTJ/FIMSxFP8TCplS5bKJgkGUk/Z8WqHlRTC/aNupd8MY=",
    fingerprint: "SHA256:b6ZAP66L0JvZ/GDGKmAbmTJbF0v8ZHWSXVhZrWf0oCk",
};

const P384: Sample = Sample {
    line: "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBGz/Fvn9B/C2u9VC9oRXUoNfmMBO\
     0IPmC2eaEx9Mvgp0wdpuPm+LF9jO9rVv0JblIWnJgTHAL5aEFzPKYLtNLhsE2xWHOo+uv0K89SCh44tp6WvYUNkC+MxtQQDbxgTE\
     cQ==",
    fingerprint: "SHA256:XyDE+yx7t35vST25vliua5Kun5rhmVHSMeHMpd6cWyI",
};

const P521: Sample = Sample {
    line: "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAAp343pnXxkO2Qk7381tgcdN8XN\
     XnrvRCOUrLwKFBJ7m5pwXoafQSplK1iHHHTZfUKc+fHHyIGVzouN4TwprHivDwAY0JEwpjIORMZ9+f3xRmHWZtgJKP2p9Ohk/NmM\
     JfOF/vvVsAvnPBFXtPmRhSnOOhaln4JDzAnT81nqnmIDwjt4jA==",
    fingerprint: "SHA256:OeHcbaBagujSlQ/ROInZdI7ijehQLmYtaQ674wvh0Q8",
};

const SK_ED25519: Sample = Sample {
    line: "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIHrdoz19OGxe7DlArKQMFuJgmp68B\
     i2IVdyTdncLCnutAAAABHNzaDo=",
    fingerprint: "SHA256:WMUE0Q6YUe/rz2w+XMYxGnsytqjFDyk9oRp/pE/27BI",
};

const SK_P256: Sample = Sample {
    line: "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyN\
     TYAAABBBPS98PYyLqXPZFuFQOx2+PHTbcnLD+jAfBx5pyN73glTJ/FIMSxFP8TCplS5bKJgkGUk/Z8WqHlRTC/aNupd8MYAAAAEc\
     3NoOg==",
    fingerprint: "SHA256:KknXbELw5ZbjNnmB09QX+hqH7i31RsYFWEdaIX74fy0",
};

/// All of them. FIDO keys come from a device: these two hold the points of others here, and `ssh-keygen -l` reads them.
const SAMPLES: [(KeyType, Sample); 7] = [
    (KeyType::Rsa, RSA_2048),
    (KeyType::Ed25519, ED25519),
    (KeyType::Ecdsa, P256),
    (KeyType::Ecdsa, P384),
    (KeyType::Ecdsa, P521),
    (KeyType::Ed25519Sk, SK_ED25519),
    (KeyType::EcdsaSk, SK_P256),
];

/// What `ssh-keygen -e` makes of [`P256`].
const SSH2_P256: &str = "---- BEGIN SSH2 PUBLIC KEY ----\n\
    Comment: \"256-bit ECDSA, converted by root@vm from OpenSSH\"\n\
    AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBPS98PYyLqXPZFuFQO\n\
    x2+PHTbcnLD+jAfBx5pyN73glTJ/FIMSxFP8TCplS5bKJgkGUk/Z8WqHlRTC/aNupd8MY=\n\
    ---- END SSH2 PUBLIC KEY ----\n";

/// The points of order 8, each with one of its two signs.
const ORDER_8: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICbolY/CsiewRcP0ifLvmPDV36wF08YzObE4AohtU/wF";
const OTHER_ORDER_8: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMcXanA9TdhPujwLdg0QZw8qIFP6LDnMxk7H/XeSrAP6";

fn parse(text: &str) -> Result<PublicKey, KeyError> {
    PublicKey::parse(text, &KeyTypes::all())
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut string = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    string.extend_from_slice(bytes);
    string
}

fn line(name: &str, parts: &[&[u8]]) -> String {
    let mut blob = string(name.as_bytes());
    parts.iter().for_each(|part| blob.extend(string(part)));
    format!("{name} {}", base64_encode(&blob))
}

fn rsa(exponent: &[u8], bits: usize) -> String {
    let mut modulus = vec![0xffu8; bits.div_ceil(8)];
    modulus[0] = 0xff >> ((8 - bits % 8) % 8);
    if bits.is_multiple_of(8) {
        modulus.insert(0, 0);
    }
    line("ssh-rsa", &[exponent, &modulus])
}

/// The parts of a sample's blob behind its type.
fn parts(sample: &Sample) -> Vec<Vec<u8>> {
    let blob = parse(sample.line).unwrap().blob;
    let (mut rest, mut parts) = (&blob[..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (part, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        parts.push(part.to_vec());
        rest = after;
    }
    parts.remove(0);
    parts
}

#[test]
fn what_ssh_keygen_makes_is_accepted_and_made_anew() {
    for (key_type, Sample { line, fingerprint }) in SAMPLES {
        let only = KeyTypes::try_from(BTreeSet::from([key_type])).unwrap();
        for text in [
            line.to_owned(),
            format!("{line}\n"),
            format!("{line}\r\n"),
            format!("\n  {line}"),
            format!("{line} me@host with blanks\tand \u{fc}"),
            format!("{line} ssh-rsa"),
            line.replace(' ', "\t "),
        ] {
            let key = PublicKey::parse(&text, &only).unwrap();
            assert_eq!(key.line(), line, "{text:?}");
            assert_eq!(key.fingerprint().to_string(), fingerprint);
            // What can be pushed, the machine takes.
            assert_eq!(KeyLine::parse(&key.line()).unwrap().fingerprint(), key.fingerprint());
        }
    }
    for bits in [2048, 3072, 4096] {
        for exponent in [&[1, 0, 1][..], &[3], &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
            assert!(parse(&rsa(exponent, bits)).is_ok(), "{bits} bits");
        }
    }
}

#[test]
fn types_are_accepted_where_the_setting_has_them() {
    for (key_type, sample) in SAMPLES {
        let others =
            KeyTypes::all().0.into_iter().filter(|other| *other != key_type).collect::<BTreeSet<_>>();
        let refused = PublicKey::parse(sample.line, &KeyTypes::try_from(others).unwrap());
        assert_eq!(refused, Err(KeyError::TypeNotAccepted), "{key_type:?}");
        let by_default = matches!(key_type, KeyType::Rsa | KeyType::Ed25519);
        assert_eq!(PublicKey::parse(sample.line, &KeyTypes::default()).is_ok(), by_default, "{key_type:?}");
    }
    let block = PublicKey::parse(SSH2_P256, &KeyTypes::default());
    assert_eq!(block, Err(KeyError::TypeNotAccepted));
    // The type alone decides; AWS says the same of a whole key and of a damaged one.
    let damaged = PublicKey::parse("sk-ssh-ed25519@openssh.com AAAA", &KeyTypes::default());
    assert_eq!(damaged, Err(KeyError::TypeNotAccepted));
}

#[test]
fn key_types_by_name() {
    assert_eq!("rsa,ed25519".parse(), Ok(KeyTypes::default()));
    assert_eq!("ecdsa-sk,ed25519-sk,ecdsa,ed25519,rsa".parse(), Ok(KeyTypes::all()));
    let configured = r#"["rsa","ed25519","ecdsa","ed25519-sk","ecdsa-sk"]"#;
    assert_eq!(serde_json::from_str::<KeyTypes>(configured).unwrap(), KeyTypes::all());
    for names in ["", ",", "rsa,", "dsa", "RSA", "rsa ed25519", "all"] {
        assert!(names.parse::<KeyTypes>().is_err(), "{names:?}");
    }
    for configured in ["[]", r#"["dsa"]"#, r#""rsa""#, "null"] {
        assert!(serde_json::from_str::<KeyTypes>(configured).is_err(), "{configured}");
    }
}

#[test]
fn what_people_send_instead_of_a_key() {
    use KeyError::*;
    let Sample { line: key, .. } = ED25519;
    let base64 = key.split_once(' ').unwrap().1;
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n";
    for (text, expected) in [
        (String::new(), NotAKey),
        (" \r\n".to_owned(), NotAKey),
        ("ssh-ed25519".to_owned(), NotAKey),
        ("some words of text".to_owned(), NotAKey),
        ("2048 65537 123456789 me@host".to_owned(), NotAKey),
        ("id_ed25519.pub".to_owned(), FileName),
        ("id_ed25519".to_owned(), FileName),
        ("/home/me/.ssh/id ed25519".to_owned(), FileName),
        ("~/.ssh/id_rsa.pub\n".to_owned(), FileName),
        ("file:///home/my self/.ssh/id_rsa".to_owned(), FileName),
        ("fileb://id rsa".to_owned(), FileName),
        ("@key file".to_owned(), FileName),
        (r"C:\Users\My Self\.ssh\id_rsa".to_owned(), FileName),
        (r"my key.pub".to_owned(), FileName),
        (base64.to_owned(), TypeMissing),
        (format!("{base64} me@host"), TypeMissing),
        (private.to_owned(), PrivateKey),
        (private.replace("OPENSSH ", ""), PrivateKey),
        (private.replace("OPENSSH", "RSA"), PrivateKey),
        (private.replace("OPENSSH", "ENCRYPTED"), PrivateKey),
        (private.replace('\n', " "), PrivateKey),
        (private.replace('\n', "\\n"), PrivateKey),
        (format!("{key} {private}"), PrivateKey),
        (format!("{key}\n{private}"), PrivateKey),
        ("b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ".to_owned(), PrivateKey),
        ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nAAAA".to_owned(), PrivateKey),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n".to_owned(), PrivateKey),
        ("Private-Lines: 1\nAAAA".to_owned(), PrivateKey),
        (format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----"), Pem),
        (format!("-----BEGIN RSA PUBLIC KEY-----\n{base64}"), Pem),
        (format!("{key}\n{key}"), SeveralKeys),
        (format!("{key}\rssh-rsa AAAA"), SeveralKeys),
        (format!("{key} evil\n\ncommand=\"id\" ssh-rsa AAAA"), SeveralKeys),
        (format!("# my key\n{key}"), BrokenLine),
        (key.replace("IHrd", "\nIHrd"), BrokenLine),
        (format!("{key} comment\n# more"), BrokenLine),
        (format!("{key} nul\0"), ControlCharacter),
        (format!("\0{key}"), ControlCharacter),
        (key.replace("IHrd", "\0IHrd"), ControlCharacter),
        (format!("{key} \u{1b}[31m"), ControlCharacter),
        (format!("{key} \u{85}"), ControlCharacter),
        (format!("{key} \u{7f}"), ControlCharacter),
        (format!("command=\"id\" {key}"), Options),
        (format!("restrict,from=\"1.2.3.4 x\" {key}"), Options),
        (format!("host.example {key}"), Options),
        (format!("no-pty {} AAAA", "ssh-ed25519-cert-v01@openssh.com"), Options),
        (key.replace("ssh-ed25519 ", "ssh-ed25519-cert-v01@openssh.com "), Certificate),
        (format!("rsa-sha2-512-cert-v01@openssh.com {base64}"), Certificate),
        (key.replace("ssh-ed25519 ", "ssh-dss "), Dsa),
        (key.replace("ssh-ed25519 ", "ssh-ed448 "), UnknownType),
        (key.replace("ssh-ed25519 ", "x@y "), UnknownType),
        (key.replace("ssh-ed25519 ", "SSH-ED25519 "), UnknownType),
        (format!("\u{feff}{key}"), UnknownType),
    ] {
        assert_eq!(parse(&text), Err(expected), "{text:?}");
    }
}

#[test]
fn unsound_and_damaged_keys() {
    use KeyError::*;
    let Sample { line: key, .. } = ED25519;
    let point = |last: u8| [&[1; 31][..], &[last]].concat();
    for (text, expected) in [
        (key.replace("ssh-ed25519 ", "ssh-rsa "), Damaged),
        (key.replace("AAAAC3", "AAAAC4"), Damaged),
        (key[..key.len() - 4].to_owned(), Damaged),
        (key[..key.len() - 1].to_owned(), Damaged),
        (format!("{key}AAAA"), Damaged),
        (format!("{key}="), Damaged),
        (key.replace("IHrd", "IH-d"), Damaged),
        ("ssh-ed25519 AAAA".to_owned(), Damaged),
        (line("ssh-ed25519", &[&[1; 31]]), Damaged),
        (line("ssh-ed25519", &[&[1; 33]]), Damaged),
        (line("ssh-ed25519", &[&point(1), &[]]), Damaged),
        (line("ssh-ed25519", &[]), Damaged),
        (line("ssh-ed25519", &[&[0; 32]]), WeakEd25519),
        (line("ssh-ed25519", &[&[&[0; 31][..], &[0x80]].concat()]), WeakEd25519),
        (line("ssh-ed25519", &[&[&[1][..], &[0; 31]].concat()]), WeakEd25519),
        (line("ssh-ed25519", &[&[&[0xec][..], &[0xff; 31]].concat()]), WeakEd25519),
        (line("ssh-ed25519", &[&[&[0xed][..], &[0xff; 30], &[0x7f]].concat()]), WeakEd25519),
        (line("ssh-ed25519", &[&[&[0xee][..], &[0xff; 31]].concat()]), WeakEd25519),
        (ORDER_8.to_owned(), WeakEd25519),
        (OTHER_ORDER_8.to_owned(), WeakEd25519),
        (line("sk-ssh-ed25519@openssh.com", &[&[0; 32], b"ssh:"]), WeakEd25519),
        (rsa(&[1, 0, 1], 1024), RsaSize),
        (rsa(&[1, 0, 1], 2047), RsaSize),
        (rsa(&[1, 0, 1], 2049), RsaSize),
        (rsa(&[1, 0, 1], 4092), RsaSize),
        (rsa(&[1, 0, 1], 8192), RsaSize),
        (rsa(&[1], 2048), UnsoundRsa),
        (rsa(&[4], 2048), UnsoundRsa),
        (rsa(&[0, 3], 2048), UnsoundRsa),
        (rsa(&[0x81], 2048), UnsoundRsa),
        (rsa(&[], 2048), UnsoundRsa),
        (rsa(&[1; 9], 2048), UnsoundRsa),
        (line("ssh-rsa", &[&[1, 0, 1], &[0xff; 256]]), UnsoundRsa),
        (line("ssh-rsa", &[&[1, 0, 1], &[&[0][..], &[0xfe; 256]].concat()]), UnsoundRsa),
        (line("ssh-rsa", &[&[1, 0, 1]]), Damaged),
    ] {
        assert_eq!(parse(&text), Err(expected), "{text:?}");
    }
}

/// 2 is the y coordinate of no point. Once the library knows that when it reads such a key, we shall ask it.
#[test]
fn an_ed25519_key_off_the_curve_is_taken_because_the_library_takes_it() {
    let off_curve = [&[2][..], &[0; 31]].concat();
    assert!(ParsedPublicKey::new(&ED25519_VERIFICATION, &off_curve).is_ok());
    assert!(parse(&line("ssh-ed25519", &[&off_curve])).is_ok());
}

#[test]
fn points_off_their_curve_and_other_forms_of_points() {
    use KeyError::*;
    for (sample, name, curve) in [
        (P256, "ecdsa-sha2-nistp256", &b"nistp256"[..]),
        (P384, "ecdsa-sha2-nistp384", b"nistp384"),
        (P521, "ecdsa-sha2-nistp521", b"nistp521"),
    ] {
        let point = parts(&sample).remove(1);
        let refused = |parts: &[&[u8]], expected| {
            assert_eq!(parse(&line(name, parts)), Err(expected), "{name} {parts:?}");
        };
        assert_eq!(parse(&line(name, &[curve, &point])).unwrap().line(), sample.line);
        let (mut moved, mut compressed) = (point.clone(), point[..=point.len() / 2].to_vec());
        moved[10] ^= 1;
        compressed[0] = 2 + (point[point.len() - 1] & 1);
        refused(&[curve, &moved], OffCurve);
        refused(&[curve, &[&[4][..], &vec![0; point.len() - 1]].concat()], OffCurve);
        refused(&[curve, &[&[4][..], &vec![0xff; point.len() - 1]].concat()], OffCurve);
        refused(&[curve, &compressed], Damaged);
        // The point at infinity.
        refused(&[curve, &[0]], Damaged);
        refused(&[curve, b""], Damaged);
        refused(&[b"nistp224", &point], Damaged);
        refused(&[curve], Damaged);
        refused(&[curve, &point, b""], Damaged);
    }
    let sk = |name: &str, sample: &Sample, application: &[u8]| {
        let mut parts = parts(sample);
        *parts.last_mut().unwrap() = application.to_vec();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        parse(&line(name, &parts))
    };
    for (name, sample) in
        [("sk-ssh-ed25519@openssh.com", SK_ED25519), ("sk-ecdsa-sha2-nistp256@openssh.com", SK_P256)]
    {
        assert!(sk(name, &sample, b"ssh:work").is_ok());
        assert_eq!(sk(name, &sample, b"ssh:\0"), Err(Damaged));
    }
}

#[test]
fn ssh2_blocks() {
    use KeyError::*;
    let body = |header: &str| SSH2_P256.replace("Comment: ", header);
    for text in [
        SSH2_P256.to_owned(),
        SSH2_P256.replace('\n', "\r\n"),
        SSH2_P256.replace('\n', "\r"),
        format!("\n{}", SSH2_P256.trim_end()),
        body("Subject: me\nComment: "),
        body("x-long: this goes on \\\nand on: \\\nand on\nComment: "),
        SSH2_P256.replacen("Comment: \"256-bit ECDSA, converted by root@vm from OpenSSH\"\n", "", 1),
        // Not wrapped at 72 characters, and wrapped anywhere.
        SSH2_P256.replace("QO\nx2", "QOx2"),
        SSH2_P256.replace("AAAA", "AAAA\n"),
    ] {
        assert_eq!(parse(&text).unwrap().line(), P256.line, "{text:?}");
    }
    let (cut, _) = SSH2_P256.split_at(SSH2_P256.len() / 2);
    for (text, expected) in [
        (cut.to_owned(), Ssh2Block),
        ("---- BEGIN SSH2 PUBLIC KEY ----".to_owned(), Ssh2Block),
        (SSH2_P256.replace(" ----\nC", " ---- \nAAAA\nC"), Damaged),
        (SSH2_P256.replace("---- END", "--- END"), Ssh2Block),
        (format!("{SSH2_P256}more"), Ssh2Block),
        (format!("{SSH2_P256}{SSH2_P256}"), SeveralKeys),
        (body(&format!("x: {}\nComment: ", "y".repeat(1100))), Ssh2Block),
        (body(&format!("x: {}\nComment: ", "y\\\n".repeat(600))), Ssh2Block),
        (format!("{cut}\\"), Ssh2Block),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nComment: \\".to_owned(), Ssh2Block),
        (SSH2_P256.replace("QO\n", "QO\0\n"), ControlCharacter),
        (SSH2_P256.replace("root@vm", "root\u{1b}vm"), ControlCharacter),
        (SSH2_P256.replace("AAAAE2", "AAAAE3"), UnknownType),
        (SSH2_P256.replace("8MY=", "8MY"), Damaged),
        (SSH2_P256.replace("Comment", "-----BEGIN OPENSSH PRIVATE KEY-----"), PrivateKey),
    ] {
        assert_eq!(parse(&text), Err(expected), "{text:?}");
    }
}

/// Texts near those that mean something.
fn text_like_a_key() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        ED25519.line,
        SK_P256.line,
        SSH2_P256,
        "ssh-rsa",
        "AAAAB3NzaC1yc2EAAAADAQAB",
        "ssh-ed25519-cert-v01@openssh.com",
        "command=\"id\"",
        "Comment: x\\",
        "---- END SSH2 PUBLIC KEY ----",
        " ",
        "\t",
        "\n",
        "\r\n",
        "\0",
        "\u{fc}",
    ]);
    prop::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn key_never_panics_and_prints_one_line(text: String, near in text_like_a_key()) {
        for text in [text, near] {
            if let Ok(key) = parse(&text) {
                prop_assert!(key.line().bytes().all(|b| matches!(b, b' '..=b'~')));
                prop_assert_eq!(parse(&key.line()), Ok(key));
            }
        }
    }

    #[test]
    fn damaged_blobs_never_panic(name in prop::sample::select(SAMPLES.map(|(_, sample)| sample.line).to_vec()), position in 0usize..400, byte: u8, cut in 0usize..400) {
        let mut blob = parse(name).unwrap().blob;
        if let Some(slot) = blob.get_mut(position) {
            *slot = byte;
        }
        blob.truncate(cut);
        let name = name.split(' ').next().unwrap();
        if let Ok(key) = parse(&format!("{name} {}", base64_encode(&blob))) {
            prop_assert_eq!(&key.blob, &blob);
        }
    }
}
