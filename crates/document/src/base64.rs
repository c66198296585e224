//! Standard base64 with padding (RFC 4648 section 4), strict: one text for each value, so that a signature cannot be
//! respelled. Thirty lines of our own because this crate may depend on nothing but the signature library.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes bytes as base64 with padding, on one line.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let (a, b, c) = (chunk.first(), chunk.get(1), chunk.get(2));
        let group = [a, b, c].iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte.unwrap_or(&0)));
        for position in 0..4 {
            let sextet = (group >> (18 - 6 * position) & 0x3f) as usize;
            let symbol = ALPHABET.get(sextet).copied().unwrap_or(b'=');
            text.push(if position <= chunk.len() { symbol.into() } else { '=' });
        }
    }
    text
}

/// Decodes base64 with padding. `None` for anything [`encode`] would not have written: blanks, line breaks, missing
/// padding, or set bits behind the last byte.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut group, mut bits) = (0u32, 0u32);
    for symbol in body.bytes() {
        group = group << 6 | u32::from(value(symbol)?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((group >> bits & 0xff) as u8);
            group &= (1 << bits) - 1;
        }
    }
    let padding = text.len() - body.len();
    let expected_padding = [0, 2, 1].get(bytes.len() % 3).copied()?;
    (group == 0 && padding == expected_padding).then_some(bytes)
}

fn value(symbol: u8) -> Option<u8> {
    match symbol {
        b'A'..=b'Z' => Some(symbol - b'A'),
        b'a'..=b'z' => Some(symbol - b'a' + 26),
        b'0'..=b'9' => Some(symbol - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use proptest::prelude::*;

    #[test]
    fn published_vectors() {
        // RFC 4648 section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
    }

    #[test]
    fn respelled_values_are_refused() {
        for text in
            ["Zg", "Zg=", "Zh==", "Zm9=", "Zm9v\n", " Zm9v", "Zm 9v", "Zg==Zg==", "====", "=", "Z===", "-_-_"]
        {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn one_spelling_for_each_value(text in "[A-Za-z0-9+/=]{0,24}") {
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
