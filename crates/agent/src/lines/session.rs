//! One stream: a person, or whoever the control plane brings, at a line.

use super::line::{Input, Line, LineState, WriterPlace, told};
use super::{LineTerms, name};
use instance_connect_core::stream::{End, EndCode, FrameReader, PAYLOAD, StreamFrame};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// Somebody at a line.
#[derive(Debug)]
pub(super) struct Session {
    line: Arc<Line>,
    /// Where they may write.
    place: Option<WriterPlace>,
    /// How much of the past they want.
    replay: usize,
    terms: LineTerms,
}

/// What the direction to the control plane is asked to say, besides what the line does.
#[derive(Debug, Default)]
struct Asked {
    what: Mutex<(Option<End>, Option<u64>)>,
    news: Notify,
}

impl Asked {
    fn end(&self, end: End) {
        self.what.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(end);
        self.news.notify_one();
    }

    /// Of several pings that could not be answered the last one is.
    fn pong(&self, number: u64) {
        self.what.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(number);
        self.news.notify_one();
    }

    fn take(&self) -> (Option<End>, Option<u64>) {
        std::mem::take(&mut *self.what.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How the direction from the control plane has ended.
enum Heard {
    /// With an end of theirs.
    End(EndCode),
    /// With something that is not allowed, or with silence: they are told.
    Wrong(End),
    /// Without a word.
    Gone(String),
}

impl Session {
    pub(super) const fn new(
        line: Arc<Line>,
        place: Option<WriterPlace>,
        replay: usize,
        terms: LineTerms,
    ) -> Self {
        Self { line, place, replay, terms }
    }

    /// Speaks on a stream until one side ends it, or the agent does.
    pub(super) async fn converse(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Send,
        mut stop: watch::Receiver<bool>,
    ) {
        let place = self.place.take();
        let line = name(&self.line.name);
        tracing::info!(line, writes = place.is_some(), "a session at a serial line begins");
        let (mut reader, writer) = tokio::io::split(stream);
        let asked = Asked::default();
        let mut outgoing = std::pin::pin!(self.outgoing(writer, &asked));
        let heard = {
            let mut incoming = std::pin::pin!(self.incoming(&mut reader, place.as_ref(), &asked));
            tokio::select! {
                // First what has come: an end that was said, and not what became of the connection after it.
                biased;
                heard = incoming.as_mut() => Some(heard),
                said = outgoing.as_mut() => match said {
                    // The line is gone.
                    Ok(()) => None,
                    // Nobody takes what it says. Who has left did so with a word, which may be on its way here still.
                    Err(_) => match timeout(self.terms.parting, incoming).await {
                        Ok(Heard::End(code)) => Some(Heard::End(code)),
                        Ok(Heard::Wrong(End { text: why, .. })) => Some(Heard::Gone(why.to_string())),
                        Ok(Heard::Gone(why)) => Some(Heard::Gone(why)),
                        Err(_) => Some(Heard::Gone("nobody takes what the line says".to_owned())),
                    },
                },
                () = told(&mut stop) => {
                    Some(Heard::Wrong(End::new(EndCode::ShuttingDown, "the machine's agent stops")))
                }
            }
        };
        let has_left = matches!(heard, Some(Heard::End(EndCode::Left)));
        let mut is_over = true;
        match &heard {
            Some(Heard::End(code)) => tracing::info!(line, %code, "a session at a serial line has ended"),
            Some(Heard::Wrong(end)) => {
                tracing::warn!(line, code = %end.code, text = %end.text, "a session at a serial line is ended");
                asked.end(end.clone());
                is_over = false;
            }
            Some(Heard::Gone(why)) => tracing::info!(line, why, "a session at a serial line is lost"),
            None => {
                tracing::info!(line, "a session at a serial line has ended with the line")
            }
        }
        // Who leaves wants done what they have typed. Who is sent away is not to reach the line any more.
        if let Some(place) = place.as_ref().filter(|_| !has_left) {
            place.abandon();
        }
        // Nor is the next one to wait for what is only said yet.
        drop(place);
        if matches!(heard, Some(Heard::End(_) | Heard::Gone(_))) {
            return;
        }
        let last_words = async {
            if !is_over {
                outgoing.await?;
            }
            // What was on its way here would otherwise cut off, as a reset, what was said last.
            let mut rest = [0; 1024];
            while reader.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(self.terms.parting, last_words).await;
    }

    /// From the line, as fast as it is taken. Returns when it has said the end.
    async fn outgoing(&self, mut writer: impl AsyncWrite + Unpin, asked: &Asked) -> io::Result<()> {
        let mut view = self.line.watch();
        let (mut position, replay_end) = self.line.attach(self.replay);
        let mut frames = StreamFrame::Ready.encode();
        let (mut pings, mut gone_since) = (0, None);
        let mut quiet_since = Instant::now();
        loop {
            if !frames.is_empty() {
                writer.write_all(&frames).await?;
                writer.flush().await?;
                frames.clear();
                quiet_since = Instant::now();
            }
            let (end, pong) = asked.take();
            if let Some(number) = pong {
                StreamFrame::Pong(number).append_to(&mut frames);
            }
            if let Some(end) = end {
                return Self::say_last(&mut writer, frames, end).await;
            }
            let state = view.borrow_and_update().state.clone();
            self.line.read(&mut position, replay_end, &mut frames);
            if !frames.is_empty() {
                continue;
            }
            let over_at = match &state {
                LineState::Open => {
                    gone_since = None;
                    None
                }
                LineState::Down { .. } => {
                    Some(*gone_since.get_or_insert_with(Instant::now) + self.terms.line_gone)
                }
                LineState::Gone => Some(Instant::now()),
            };
            tokio::select! {
                // The line is there for as long as the session is.
                _ = view.changed() => {}
                () = asked.news.notified() => {}
                () = sleep_until(quiet_since + self.terms.ping) => {
                    pings += 1;
                    StreamFrame::Ping(pings).append_to(&mut frames);
                }
                () = until(over_at) => return Self::say_last(&mut writer, frames, end_of(&state)).await,
            }
        }
    }

    async fn say_last(
        writer: &mut (impl AsyncWrite + Unpin),
        mut frames: Vec<u8>,
        end: End,
    ) -> io::Result<()> {
        StreamFrame::End(end).append_to(&mut frames);
        writer.write_all(&frames).await?;
        writer.shutdown().await
    }

    /// To the line. While that takes nothing, nothing more is read.
    async fn incoming(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        place: Option<&WriterPlace>,
        asked: &Asked,
    ) -> Heard {
        let mut frames = FrameReader::default();
        let mut buffer = vec![0; PAYLOAD];
        let mut is_eof = false;
        loop {
            loop {
                let frame = match frames.next() {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(error) => return wrong(&error.to_string()),
                };
                match (frame, place) {
                    (StreamFrame::Data(_) | StreamFrame::Break(_), None) => {
                        return wrong("whoever watches a line sends nothing to it");
                    }
                    (StreamFrame::Data(_) | StreamFrame::Break(_), Some(_)) if is_eof => {
                        return wrong("bytes behind the end of their direction");
                    }
                    (StreamFrame::Data(bytes), Some(place)) => place.send(Input::Bytes(bytes.to_vec())).await,
                    (StreamFrame::Break(milliseconds), Some(place)) => {
                        place.send(Input::Break(Duration::from_millis(milliseconds.into()))).await;
                    }
                    (StreamFrame::Ping(number), _) => asked.pong(number),
                    (StreamFrame::Pong(_), _) => {}
                    (StreamFrame::Eof, _) => is_eof = true,
                    (StreamFrame::End(end), _) => return Heard::End(end.code),
                    (StreamFrame::Ready | StreamFrame::Replay(_) | StreamFrame::Lost(_), _) => {
                        return wrong("a frame that only a line's side sends");
                    }
                }
            }
            match timeout(self.terms.silence, reader.read(&mut buffer)).await {
                Err(_) => {
                    return Heard::Wrong(End::new(EndCode::PersonLost, "nothing was heard for too long"));
                }
                Ok(Err(error)) => return Heard::Gone(error.to_string()),
                Ok(Ok(0)) => return Heard::Gone("the connection was closed".to_owned()),
                Ok(Ok(length)) => frames.push(buffer.get(..length).unwrap_or_default()),
            }
        }
    }
}

fn wrong(text: &str) -> Heard {
    Heard::Wrong(End::new(EndCode::ProtocolError, text))
}

/// What a session is told that ends with its line. Why, in words that name paths and programs of this machine, is for its owner:
/// the log and the status have it.
fn end_of(state: &LineState) -> End {
    match state {
        LineState::Down { has_hung_up: true, .. } => End::new(EndCode::LineClosed, "The line was closed."),
        LineState::Down { has_hung_up: false, .. } => {
            End::new(EndCode::LineFailed, "The line cannot be opened.")
        }
        LineState::Open | LineState::Gone => {
            End::new(EndCode::LineClosed, "the machine does not serve this line any more")
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{LineConfig, LineKind, Protocol};
    use super::*;
    use instance_connect_core::link::OwnedLine;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use tokio::io::ReadBuf;
    use tokio::net::UnixListener;

    /// A connection that takes nothing any more. What was sent before it broke arrives when that is noticed.
    #[derive(Default)]
    struct Broken {
        sent: Vec<u8>,
        has_failed: bool,
        reading: Option<Waker>,
    }

    impl AsyncRead for Broken {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if !self.has_failed {
                self.reading = Some(context.waker().clone());
                return Poll::Pending;
            }
            buffer.put_slice(&std::mem::take(&mut self.sent));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            self.has_failed = true;
            self.reading.take().into_iter().for_each(Waker::wake);
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn who_left_in_good_order_is_heard_on_a_connection_that_takes_nothing_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.sock");
        let machine = UnixListener::bind(&path).unwrap();
        let config = LineConfig {
            instance: None,
            port: 0,
            kind: LineKind::Unix { path, protocol: Protocol::Raw },
            history: 4096,
        };
        let name = OwnedLine { instance: "i-0123456789abcdef0".parse().unwrap(), port: 0 };
        let task = Line::start(name, config, LineTerms::default());
        let (mut serial, _) = machine.accept().await.unwrap();
        task.line.watch().wait_for(|view| view.state == LineState::Open).await.unwrap();
        for round in 0..16_u8 {
            let typed = [round; 5];
            let left = StreamFrame::End(End::new(EndCode::Left, "the person left"));
            let sent = [StreamFrame::Data(&typed).encode(), left.encode()].concat();
            let session =
                Session::new(Arc::clone(&task.line), task.line.take_place(), 0, LineTerms::default());
            let (_go_on, stop) = watch::channel(false);
            session.converse(Broken { sent, ..Broken::default() }, stop).await;
            let mut taken = [0xff; 5];
            timeout(Duration::from_secs(30), serial.read_exact(&mut taken)).await.unwrap().unwrap();
            assert_eq!(taken, typed);
        }
    }

    #[test]
    fn whoever_loses_a_line_is_not_told_what_is_on_its_machine() {
        let down = |has_hung_up| {
            let why = "/run/vm/web.sock: No such file or directory".into();
            end_of(&LineState::Down { why, has_hung_up })
        };
        assert_eq!(down(true), End::new(EndCode::LineClosed, "The line was closed."));
        assert_eq!(down(false), End::new(EndCode::LineFailed, "The line cannot be opened."));
    }
}
