//! How a control plane ends without cutting anything off: what is under way is known, and is told that the end has begun.

use tokio::sync::watch;

/// Says that the end has begun, and learns when nothing is under way any more.
#[derive(Debug, Default)]
pub(crate) struct Drain(watch::Sender<bool>);

/// Held by everything that is under way, for as long as it is.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay(watch::Receiver<bool>);

impl Drain {
    /// For something that begins.
    pub(crate) fn under_way(&self) -> UnderWay {
        UnderWay(self.0.subscribe())
    }

    /// Begins the end.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether the end has begun.
    pub(crate) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when nothing is under way.
    pub(crate) async fn idle(&self) {
        self.0.closed().await;
    }

    /// Returns when the end has begun. Whoever waits for it is not under way.
    pub(crate) async fn begun(&self) {
        self.under_way().draining().await;
    }
}

impl UnderWay {
    /// Whether the end has begun.
    pub(crate) fn is_draining(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the end has begun.
    pub(crate) async fn draining(&mut self) {
        if self.0.wait_for(|begun| *begun).await.is_err() {
            // Nobody is there any more who could begin it.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn the_end_waits_for_what_is_under_way() {
        let drain = Drain::default();
        let mut first = drain.under_way();
        let mut second = first.clone();
        assert!(!first.is_draining() && first.draining().now_or_never().is_none());
        assert!(!drain.has_begun() && drain.begun().now_or_never().is_none());
        drain.begin();
        assert!(drain.has_begun() && drain.begun().now_or_never().is_some());
        // Told, however often it asks, and also what begins only now.
        let mut late = drain.under_way();
        for under_way in [&mut first, &mut second, &mut late] {
            for _ in 0..2 {
                assert!(under_way.is_draining() && under_way.draining().now_or_never().is_some());
            }
        }
        for ends in [first, second, late] {
            assert!(drain.idle().now_or_never().is_none());
            drop(ends);
        }
        assert!(drain.idle().now_or_never().is_some());
    }
}
