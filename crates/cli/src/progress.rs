//! What is waited for, said to people who wait.

use crate::output;
use std::io::IsTerminal as _;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// What is waited for, where there is no more to say.
pub(crate) const ANSWER: &str = "the service to answer";

/// What is waited for while a program is asked for credentials, with which any call may begin.
const CREDENTIALS: &str = "credentials";

/// Whether one is asked now. A client says so to whoever watches it, and not to whoever waits for the call.
static ASKS_FOR_CREDENTIALS: AtomicBool = AtomicBool::new(false);

/// How long nothing is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says whether it is a program that is waited for, which gives credentials.
pub(crate) fn asks_for_credentials(asks: bool) {
    ASKS_FOR_CREDENTIALS.store(asks, Ordering::Relaxed);
}

/// Takes a step. Where it lasts, and standard error is a terminal, `what` is waited for is said once.
pub(crate) async fn step<T>(what: &str, work: impl Future<Output = T>) -> T {
    let is_watched = std::io::stderr().is_terminal();
    watched(work, || {
        if is_watched {
            let asks = ASKS_FOR_CREDENTIALS.load(Ordering::Relaxed);
            output::waiting(if asks { CREDENTIALS } else { what });
        }
    })
    .await
}

async fn watched<T>(work: impl Future<Output = T>, say: impl FnOnce()) -> T {
    let mut work = pin!(work);
    match timeout(PATIENCE, &mut work).await {
        Ok(outcome) => outcome,
        Err(_) => {
            say();
            work.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn only_what_lasts_is_said() {
        for (milliseconds, expected) in [(0, 0), (999, 0), (1001, 1), (60_000, 1)] {
            let mut said = 0;
            let work = async {
                sleep(Duration::from_millis(milliseconds)).await;
                "done"
            };
            assert_eq!(watched(work, || said += 1).await, "done");
            assert_eq!(said, expected, "{milliseconds} ms");
        }
    }
}
