//! Asking before something is changed that a person should have looked at.

use crate::failure::{Exit, Failure};
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

/// Longest answer that is read.
const LONGEST_ANSWER: u64 = 16;

/// Asks on the terminal. Where there is none, nobody can have looked: only `--yes` is an answer then.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    let stdin = std::io::stdin().lock();
    if !stdin.is_terminal() {
        let message = format!("{question} There is no terminal to ask on, so nothing is changed");
        return Err(Failure::new(Exit::Parameter, message).hint("say so with --yes"));
    }
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = stdin.take(LONGEST_ANSWER).read_line(&mut answer);
    read.map_err(|error| Failure::new(Exit::General, format!("cannot read an answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
