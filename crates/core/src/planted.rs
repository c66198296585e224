//! Bugs planted on purpose, each behind a cargo feature of its own, to show that a test catches it.

#[cfg(all(
    not(debug_assertions),
    any(
        feature = "planted-allow-beats-deny",
        feature = "planted-boundary-ignored",
        feature = "planted-chain-ignored",
        feature = "planted-claims-preferred",
        feature = "planted-pinned-address-claimed",
        feature = "planted-missing-variable-empty",
        feature = "planted-first-instance-judged",
        feature = "planted-forwarded-believed",
        feature = "planted-host-keys-believed",
        feature = "planted-lines-unescaped",
        feature = "planted-burst-exceeded",
        feature = "planted-other-instance-unasked",
        feature = "planted-parser-panics",
        feature = "planted-private-key-echoed",
        feature = "planted-presigned-never-expires",
        feature = "planted-repeated-headers-pass",
        feature = "planted-revoked-pushes-replayed",
        feature = "planted-stale-accepted",
        feature = "planted-taken-tags-unjudged",
        feature = "planted-tokens-of-others",
        feature = "planted-twins-unchecked",
        feature = "planted-unsorted-signed-headers",
        feature = "planted-work-cut-off",
    )
))]
compile_error!("a planted bug must never reach a release build");

/// Does nothing; with `planted-parser-panics`, panics on an input such as generated tests soon come up with. Every
/// parser of this crate calls it.
pub(crate) fn parser_entered(input: &[u8]) {
    #[cfg(all(feature = "planted-parser-panics", not(fuzzing)))]
    assert!(input.len() % 7 != 3, "planted");
    // Nobody guesses two bytes in a row soon; a fuzzer sees that the first one takes it further. The black boxes keep the
    // compiler from making one comparison of them.
    #[cfg(all(feature = "planted-parser-panics", fuzzing))]
    for [first, second] in input.array_windows() {
        use std::hint::black_box;
        if *black_box(first) == b'b' {
            assert!(*black_box(second) != b'~', "planted");
        }
    }
    let _ = input;
}
