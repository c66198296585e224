//! Bugs planted on purpose, to show that a test catches each (`scripts/planted-bugs`). Without the feature `enabled` there
//! are none.

#[cfg(all(not(debug_assertions), feature = "enabled"))]
compile_error!("a planted bug is for showing that a test catches it, never for a release");

/// Whether this bug is planted: none is.
#[cfg(not(feature = "enabled"))]
#[inline(always)]
pub const fn planted(_name: &str) -> bool {
    false
}

/// Whether this bug is planted: the one that the variable `PLANTED_BUG` names.
#[cfg(feature = "enabled")]
pub fn planted(name: &str) -> bool {
    use std::sync::LazyLock;

    static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("PLANTED_BUG").ok());

    CHOSEN.as_deref() == Some(name)
}

/// What every parser calls first. With the bug planted, it panics on an input such as generated tests soon come up with.
#[inline]
pub fn parser_entered(input: &[u8]) {
    if !planted("parser-panics") {
        return;
    }
    if cfg!(fuzzing) {
        // Nobody guesses two bytes in a row soon; a fuzzer sees that the first one takes it further. The black boxes keep
        // the compiler from making one comparison of them.
        for [first, second] in input.array_windows() {
            use std::hint::black_box;
            if *black_box(first) == b'b' {
                assert!(*black_box(second) != b'~', "planted");
            }
        }
    } else {
        assert!(input.len() % 7 != 3, "planted");
    }
}
