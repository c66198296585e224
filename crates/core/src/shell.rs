//! Words for a shell.

/// A word that any shell reads as it is.
pub fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_=./:@%+,".contains(&b);
    if word.is_empty() {
        return "''".to_owned();
    }
    // zsh takes `=ls` for the path of `ls`.
    if word.bytes().all(plain) && !word.starts_with('=') {
        return word.to_owned();
    }
    // The backslash itself is quoted twice over, since fish takes it for an escape between single quotes, too.
    let quoted: Vec<String> = word
        .split_inclusive(['\'', '\\'])
        .map(|part| match part.strip_suffix(['\'', '\\']) {
            Some(rest) if part.ends_with('\'') => format!("'{rest}'\\'"),
            Some(rest) => format!("'{rest}'\\\\"),
            None => format!("'{part}'"),
        })
        .collect();
    quoted.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    #[test]
    fn which_words_are_quoted() {
        for (word, expected) in [
            ("", "''"),
            ("--profile=dev", "--profile=dev"),
            ("=ls", "'=ls'"),
            ("$(id)", "'$(id)'"),
            ("a'b", r"'a'\''b'"),
        ] {
            assert_eq!(quoted(word), expected, "{word}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What a shell makes of a quoted word is the word.
        #[test]
        fn a_shell_reads_the_word(word in "[a-z '\"\\\\$`!*?;|&<>(){}%~#=]{0,20}") {
            let output = Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(&word))).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }
}
