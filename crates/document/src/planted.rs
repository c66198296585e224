//! Bugs planted on purpose, each behind a cargo feature of its own, to show that a test catches it.

#[cfg(all(
    not(debug_assertions),
    any(
        feature = "planted-deadline-ignored",
        feature = "planted-parser-panics",
        feature = "planted-reboot-ignored",
        feature = "planted-user-ignored",
    )
))]
compile_error!("a planted bug must never reach a release build");

/// Does nothing; with `planted-parser-panics`, panics on an input such as generated tests soon come up with. Every
/// parser of this crate calls it.
pub(crate) fn parser_entered(input: &[u8]) {
    #[cfg(all(feature = "planted-parser-panics", not(fuzzing)))]
    assert!(input.len() % 7 != 3, "planted");
    // A fuzzer has to be led by what it covers: nobody guesses these bytes, but each one that is right takes it further.
    // The black box keeps the compiler from making one comparison of them.
    #[cfg(all(feature = "planted-parser-panics", fuzzing))]
    {
        let right =
            b"bug".iter().zip(input).take_while(|(wanted, byte)| std::hint::black_box(byte) == wanted);
        assert!(right.count() < 3, "planted");
    }
    let _ = input;
}
