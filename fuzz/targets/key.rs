//! The text of a public key.
#![no_main]

use instance_connect_core::ssh_key::{KeyError, KeyTypes, PublicKey, holds_private_key};
use instance_connect_document::KeyLine;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parse = |text: &str| PublicKey::parse(text, &KeyTypes::all());
    match parse(text) {
        Ok(key) => {
            let line = key.line();
            assert!(line.bytes().all(|b| matches!(b, b' '..=b'~')));
            assert_eq!(parse(&line).as_ref(), Ok(&key));
            // The machine takes what the control plane has made.
            assert_eq!(KeyLine::parse(&line).unwrap().fingerprint(), key.fingerprint());
            // Comments and line ends change nothing, and neither does the other form.
            assert_eq!(parse(&format!("  {line}\tssh-rsa AAAA, \u{fc}\r\n")).as_ref(), Ok(&key));
            assert_eq!(parse(&ssh2_block(&line)).as_ref(), Ok(&key));
            // A second key or an option is never passed over.
            assert_eq!(parse(&format!("{line}\n{line}")), Err(KeyError::SeveralKeys));
            assert_eq!(parse(&format!("no-pty {line}")), Err(KeyError::Options));
            assert!(!text.contains('\0') && !holds_private_key(text));
            // Accepting fewer types refuses, and changes nothing else.
            let narrow = PublicKey::parse(text, &KeyTypes::default());
            assert!(narrow == Ok(key) || narrow == Err(KeyError::TypeNotAccepted));
        }
        Err(error) => assert_eq!(error == KeyError::PrivateKey, holds_private_key(text)),
    }
});

fn ssh2_block(line: &str) -> String {
    let (_, base64) = line.split_once(' ').unwrap();
    let mut block = "---- BEGIN SSH2 PUBLIC KEY ----\nComment: one that \\\ngoes on\n".to_owned();
    for start in (0..base64.len()).step_by(70) {
        block.push_str(&base64[start..base64.len().min(start + 70)]);
        block.push('\n');
    }
    block + "---- END SSH2 PUBLIC KEY ----\n"
}
