//! Telnet on a line's socket: what it has to answer, and what it lets through.

use instance_connect_core::console::{BreakForm, LineSettings, Telnet, TelnetError};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// One connection's telnet. Both of the line's directions use it, never at the same instant.
#[derive(Debug)]
pub(super) struct TelnetSide {
    inner: Mutex<Inner>,
    /// There is something to write, or what was held back may be sent now.
    news: Notify,
}

#[derive(Debug)]
struct Inner {
    telnet: Telnet,
    /// To be written: answers, of which there are a bounded number, and what was typed, a few bytes at a time.
    owed: Vec<u8>,
}

impl TelnetSide {
    pub(super) fn open(settings: Option<LineSettings>) -> Self {
        let mut owed = Vec::new();
        let telnet = Telnet::open(settings, &mut owed);
        let side = Self { inner: Mutex::new(Inner { telnet, owed }), news: Notify::new() };
        side.news.notify_one();
        side
    }

    /// Takes what came; what the line has said is appended to `line`.
    pub(super) fn receive(&self, bytes: &[u8], line: &mut Vec<u8>) -> Result<(), TelnetError> {
        let Inner { telnet, owed } = &mut *self.lock();
        for event in telnet.receive(bytes, line, owed)? {
            tracing::warn!(?event, "a serial line behind telnet");
        }
        self.news.notify_one();
        Ok(())
    }

    /// Puts what was typed behind what is to be written.
    pub(super) fn send(&self, bytes: &[u8]) {
        let Inner { telnet, owed } = &mut *self.lock();
        telnet.send(bytes, owed);
    }

    pub(super) fn begin_break(&self) -> BreakForm {
        let Inner { telnet, owed } = &mut *self.lock();
        telnet.begin_break(owed)
    }

    pub(super) fn end_break(&self) {
        let Inner { telnet, owed } = &mut *self.lock();
        telnet.end_break(owed);
    }

    /// Whether nothing may be typed for now.
    pub(super) fn is_suspended(&self) -> bool {
        self.lock().telnet.is_suspended()
    }

    /// Until something has come.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Until there is something to be written.
    pub(super) async fn owes(&self) {
        while !self.owes_now() {
            self.news.notified().await;
        }
    }

    pub(super) fn owes_now(&self) -> bool {
        !self.lock().owed.is_empty()
    }

    /// Has `write` write what it can of what is to be written.
    pub(super) fn pay(&self, write: impl FnOnce(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let owed = &mut self.lock().owed;
        let written = write(owed)?;
        owed.drain(..written.min(owed.len()));
        Ok(())
    }

    /// A panic elsewhere leaves nothing half done in it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
