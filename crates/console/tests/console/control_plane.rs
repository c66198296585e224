//! The control plane's end of the socket, as a test wants it.

use instance_connect_core::console::Mode;
use instance_connect_core::console::door::{
    Answer, Attach, Attached, MessageReader, Offer, Refused, Request, Serve, encode,
};
use instance_connect_core::stream::{End, EndCode, FrameReader, StreamFrame};
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take here: far more than it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "how long something takes is what is tested")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) struct ControlPlane {
    socket: PathBuf,
    state: Arc<State>,
    /// Sessions that were attached.
    pub(crate) lines: Receiver<Line>,
    /// Gateways that said they are there.
    pub(crate) gateways: Receiver<Serve>,
    unanswered: Receiver<()>,
    given_up: Receiver<()>,
}

struct State {
    /// Who may come in, and as what.
    expected: Mutex<Option<(String, String)>>,
    answer: Mutex<Answer>,
    /// What is said instead of an answer to offers and to attaches.
    instead: Mutex<Instead>,
    offers: Mutex<Vec<Offer>>,
    attaches: Mutex<Vec<Attach>>,
    /// All there are, to cut them.
    connections: Mutex<Vec<UnixStream>>,
    attached: Mutex<Sender<Line>>,
    served: Mutex<Sender<Serve>>,
    /// Attaches that were not answered, and those whose connection then ended.
    unanswered: Mutex<Sender<()>>,
    given_up: Mutex<Sender<()>>,
    is_over: Mutex<bool>,
}

/// What is said instead of an answer, where there is something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Instead {
    pub(crate) of_expected: Option<Vec<u8>>,
    pub(crate) of_attached: Option<Vec<u8>>,
}

/// The line's end of a session.
pub(crate) struct Line {
    pub(crate) stream: UnixStream,
    reader: FrameReader,
}

/// A frame that owns what it carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Data(Vec<u8>),
    Break(u16),
    Pong(u64),
    Eof,
    End(EndCode),
    Other,
    /// The gateway is gone.
    Nothing,
}

impl ControlPlane {
    pub(crate) fn start(directory: &Path) -> Self {
        let socket = directory.join("console.sock");
        let (attached, lines) = channel();
        let (served, gateways) = channel();
        let (is_unanswered, unanswered) = channel();
        let (has_given_up, given_up) = channel();
        let state = State {
            expected: Mutex::default(),
            answer: Mutex::new(attached_as(Mode::Write)),
            instead: Mutex::default(),
            offers: Mutex::default(),
            attaches: Mutex::default(),
            connections: Mutex::default(),
            attached: Mutex::new(attached),
            served: Mutex::new(served),
            unanswered: Mutex::new(is_unanswered),
            given_up: Mutex::new(has_given_up),
            is_over: Mutex::new(true),
        };
        let plane = Self { socket, state: Arc::new(state), lines, gateways, unanswered, given_up };
        plane.begin();
        plane
    }

    /// Listens again, after [`Self::die`].
    pub(crate) fn begin(&self) {
        let _ = fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).unwrap();
        *self.state.is_over.lock().unwrap() = false;
        let state = Arc::clone(&self.state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if *state.is_over.lock().unwrap() {
                    return;
                }
                state.connections.lock().unwrap().push(stream.try_clone().unwrap());
                let state = Arc::clone(&state);
                thread::spawn(move || state.converse(stream));
            }
        });
    }

    /// Ends every connection, and takes no other.
    pub(crate) fn die(&self) {
        *self.state.is_over.lock().unwrap() = true;
        // For the listener to look.
        let _ = UnixStream::connect(&self.socket);
        let _ = fs::remove_file(&self.socket);
        for connection in self.state.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// From now on this key may come in to this line, and nothing else.
    pub(crate) fn expect(&self, address: &str, key: &str) {
        *self.state.expected.lock().unwrap() = Some((address.to_owned(), key.to_owned()));
    }

    /// What it answers who attaches.
    pub(crate) fn answer(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// From now on it says this; nothing at all where it is empty.
    pub(crate) fn says_instead(&self, instead: Instead) {
        *self.state.instead.lock().unwrap() = instead;
    }

    pub(crate) fn refuse(&self, reason: &str) {
        self.answer(Answer::Refused(Refused { reason: reason.parse().unwrap() }));
    }

    pub(crate) fn watch(&self) {
        self.answer(attached_as(Mode::Watch));
    }

    /// Waits for an attach that it does not answer.
    pub(crate) fn asked_to_attach(&self) {
        self.unanswered.recv_timeout(PATIENCE).expect("nobody is to be attached");
    }

    /// Waits until the gateway has ended the connection of that.
    pub(crate) fn left_before_an_answer(&self) {
        self.given_up.recv_timeout(PATIENCE).expect("the gateway still waits");
    }

    pub(crate) fn offers(&self) -> Vec<Offer> {
        self.state.offers.lock().unwrap().clone()
    }

    pub(crate) fn attaches(&self) -> Vec<Attach> {
        self.state.attaches.lock().unwrap().clone()
    }

    /// The line's end of the next session.
    pub(crate) fn line(&self) -> Line {
        self.lines.recv_timeout(PATIENCE).expect("no session was attached")
    }
}

fn attached_as(mode: Mode) -> Answer {
    let notice = "as somebody".parse().unwrap();
    Answer::Attached(Attached { session: "5f8b0e0c".parse().unwrap(), mode, notice })
}

impl State {
    fn converse(&self, mut stream: UnixStream) {
        let mut reader = MessageReader::default();
        let mut piece = [0; 4096];
        loop {
            let Some(request) = reader.next::<Request>().unwrap() else {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => return,
                    Ok(length) => reader.push(&piece[..length]),
                }
                continue;
            };
            let instead = self.instead.lock().unwrap().clone();
            let instead = match &request {
                Request::Serve(_) => None,
                Request::Offer(_) => instead.of_expected,
                Request::Attach(_) => instead.of_attached,
            };
            if let Some(instead) = instead {
                stream.write_all(&instead).unwrap();
                if matches!(request, Request::Attach(_)) {
                    let _ = self.unanswered.lock().unwrap().send(());
                    // Until the gateway has enough of it.
                    let _ = stream.read(&mut piece);
                    let _ = self.given_up.lock().unwrap().send(());
                    return;
                }
                continue;
            }
            let answer = match request {
                Request::Serve(serve) => {
                    stream.write_all(&encode(&Answer::Serving {}).unwrap()).unwrap();
                    let _ = self.served.lock().unwrap().send(serve);
                    continue;
                }
                Request::Offer(offer) => {
                    let expected = self.expected.lock().unwrap().clone();
                    let offered = (offer.address.to_string(), offer.key.as_str().to_owned());
                    self.offers.lock().unwrap().push(offer);
                    Answer::Expected(expected == Some(offered))
                }
                Request::Attach(attach) => {
                    self.attaches.lock().unwrap().push(attach);
                    self.answer.lock().unwrap().clone()
                }
            };
            let _ = stream.write_all(&encode(&answer).unwrap());
            match answer {
                Answer::Serving {} | Answer::Expected(_) => {}
                Answer::Refused(_) => return,
                Answer::Attached(_) => {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut frames = FrameReader::default();
                    frames.push(&reader.into_rest());
                    let _ = self.attached.lock().unwrap().send(Line { stream, reader: frames });
                    return;
                }
            }
        }
    }
}

impl Line {
    pub(crate) fn send(&mut self, frame: &StreamFrame<'_>) {
        self.stream.write_all(&frame.encode()).unwrap();
    }

    pub(crate) fn says(&mut self, text: &str) {
        self.send(&StreamFrame::Data(text.as_bytes()));
    }

    pub(crate) fn ends(&mut self, text: &str) {
        self.send(&StreamFrame::End(End::new(EndCode::LineClosed, text)));
    }

    /// The next frame of the gateway.
    pub(crate) fn next(&mut self) -> Came {
        let mut piece = [0; 4096];
        loop {
            match self.reader.next().unwrap() {
                Some(StreamFrame::Data(data)) => return Came::Data(data.to_vec()),
                Some(StreamFrame::Break(milliseconds)) => return Came::Break(milliseconds),
                Some(StreamFrame::Pong(number)) => return Came::Pong(number),
                Some(StreamFrame::Eof) => return Came::Eof,
                Some(StreamFrame::End(end)) => return Came::End(end.code),
                Some(_) => return Came::Other,
                None => {}
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Came::Nothing,
                Ok(length) => self.reader.push(&piece[..length]),
                // It has not read all that it was sent.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Came::Nothing,
                Err(error) => panic!("the gateway says nothing: {error}"),
            }
        }
    }

    /// Waits until so much was typed, in whatever pieces.
    pub(crate) fn hears(&mut self, text: &str) {
        let mut heard = Vec::new();
        while heard.len() < text.len() {
            match self.next() {
                Came::Data(data) => heard.extend(data),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&heard)),
            }
        }
        assert_eq!(String::from_utf8_lossy(&heard), text);
    }
}
