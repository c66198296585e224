//! Output of a line, as it is shown to a terminal that it was not meant for, and as it is recorded; and what a person types.
//! The first byte chooses the character set, and where the output is cut in two.
#![no_main]

use instance_connect_core::console::{Charset, EscapeFilter, InBand, InBandAction};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, output)) = bytes.split_first() else { return };
    let charset = if choice % 2 == 0 { Charset::Utf8 } else { Charset::Unknown };
    let (first, second) = output.split_at(output.len() * usize::from(*choice) / 255);
    let shown = filtered(charset, &[output]);
    assert_eq!(filtered(charset, &[first, second]), shown);
    assert!(shown.len() <= 3 * output.len());
    nothing_is_answered(charset, &shown);
    // What may be shown may be shown. What could be the beginning of a character waits for what comes next.
    let whole = [&shown[..], b"x"].concat();
    assert_eq!(filtered(charset, &[&whole]), whole);

    let typed = |pieces: &[&[u8]]| {
        let mut in_band = InBand::new();
        let (mut bytes, mut others) = (Vec::<u8>::new(), Vec::new());
        for piece in pieces {
            for action in in_band.take(piece) {
                match action {
                    InBandAction::Bytes(line) => bytes.extend(line),
                    InBandAction::Break => others.push((bytes.len(), 'b')),
                    InBandAction::Help => others.push((bytes.len(), '?')),
                    InBandAction::Leave => others.push((bytes.len(), '.')),
                }
            }
        }
        (bytes, others)
    };
    assert_eq!(typed(&[first, second]), typed(&[output]));
});

fn filtered(charset: Charset, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut filter, mut shown) = (EscapeFilter::new(charset), Vec::new());
    for piece in pieces {
        filter.filter(piece, &mut shown);
    }
    shown
}

/// Every sequence is whole and none of those that terminals answer; and no byte is a control to an 8-bit terminal that begins
/// another one, unless the terminal is known to take it for a part of a character.
fn nothing_is_answered(charset: Charset, shown: &[u8]) {
    if charset == Charset::Utf8 {
        let text = std::str::from_utf8(shown).unwrap();
        assert!(!text.chars().any(|symbol| matches!(symbol, '\u{80}'..='\u{9f}')));
    } else {
        assert!(!shown.iter().any(|byte| matches!(byte, 0x90 | 0x98 | 0x9a | 0x9b | 0x9d..=0x9f)));
    }
    let mut rest = shown;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        assert!(!matches!(byte, 0..=6 | 0x10..=0x1a | 0x1c..=0x1f | 0x7f), "{byte:#x}");
        if *byte != 0x1b {
            continue;
        }
        let inside = |last: u8| move |byte: &u8| !(b' '..last).contains(byte);
        match behind {
            [b'[', csi @ ..] => {
                let length = csi.iter().position(inside(b'@')).expect("a whole sequence");
                let (parameters, last) = (&csi[..length], csi[length]);
                assert!(b"@ABCDEFGHIJKLMPSTXZ`abdefghlmpqrsu".contains(&last), "{}", char::from(last));
                let is_private = parameters.iter().any(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':'));
                assert!(
                    !is_private || matches!(last, b'h' | b'l' | b'q') || (parameters, last) == (b"!", b'p')
                );
                assert!(is_private || !matches!(last, b'p' | b'q'));
                rest = &csi[length + 1..];
            }
            _ => {
                let length = behind.iter().position(inside(b'0')).expect("a whole sequence");
                assert!(b"78DEHMc=>012ABKU".contains(&behind[length]) && length <= 1);
                rest = &behind[length + 1..];
            }
        }
    }
}
