//! A line that is open: how it is opened, and its bytes.

use super::LineTerms;
use super::command::{Ends, Running};
use super::config::{LineKind, Protocol};
use super::telnet::TelnetSide;
use instance_connect_core::console::{BreakForm, FlowControl, LineSettings, Parity};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, QueueSelector, ioctl_tiocexcl, isatty, tcflush, tcgetattr,
    tcsendbreak, tcsetattr,
};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// How long opening a line may take.
const OPENING: Duration = Duration::from_secs(10);

/// A port is given so long to send what is before a BREAK, and that: one that is held up by flow control sends neither.
const BREAKING: Duration = Duration::from_secs(5);

/// So much of what was typed is given to telnet at a time. What it has been given goes to the line whatever happens, and whether
/// the other side wants a pause is asked in between.
const TELNET_CHUNK: usize = 64;

/// An open line.
#[derive(Debug)]
pub(super) struct Wire {
    /// What is at its other end. Before the descriptors, so that a port is cleared while it is open.
    holder: Holder,
    // Types for pipes, since those take any descriptor that can be waited for, and nothing else does without `unsafe`.
    read: pipe::Receiver,
    write: pipe::Sender,
}

/// What a wire has besides its descriptors.
#[derive(Debug)]
enum Holder {
    Socket,
    Telnet(TelnetSide),
    Pty,
    Tty(Port),
    Program(Running),
}

/// A serial port. Closing one waits up to half a minute for what it could not send, and the whole agent with it: that is
/// thrown away.
#[derive(Debug)]
struct Port(OwnedFd);

impl Drop for Port {
    fn drop(&mut self) {
        let _ = tcflush(&self.0, QueueSelector::OFlush);
    }
}

impl Port {
    async fn send_break(&self) -> Result<(), String> {
        let port = self.0.try_clone().map_err(|error| error.to_string())?;
        let (sender, sent) = oneshot::channel();
        // The system waits for what is being sent and for the BREAK itself: not on the thread that does everything. Nor is that
        // thread waited for at the end, should the port never send.
        let send = move || {
            let _ = sender.send(tcsendbreak(&port));
        };
        let started = std::thread::Builder::new().name("line-break".into()).spawn(send);
        started.map_err(|error| error.to_string())?;
        match timeout(BREAKING, sent).await {
            Ok(Ok(sent)) => sent.map_err(|error| error.to_string()),
            Ok(Err(_)) | Err(_) => Err("the port does not send".to_owned()),
        }
    }
}

impl Holder {
    fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Raw => Self::Socket,
            Protocol::Telnet(settings) => Self::Telnet(TelnetSide::open(settings)),
        }
    }
}

impl Wire {
    /// Opens a line.
    ///
    /// # Errors
    /// Why it cannot be, for its owner.
    pub(super) async fn open(kind: &LineKind, terms: &LineTerms) -> Result<Self, String> {
        let opened = timeout(OPENING, Self::open_any(kind, terms)).await;
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        opened.map_err(|error| format!("{kind}: {error}"))
    }

    async fn open_any(kind: &LineKind, terms: &LineTerms) -> io::Result<Self> {
        match kind {
            LineKind::Unix { path, protocol } => {
                let socket = UnixStream::connect(path).await?.into_std()?;
                Self::over(Holder::of(*protocol), socket.try_clone()?.into(), socket.into())
            }
            LineKind::Tcp { address, protocol } => {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                // A terminal server that is cut off says nothing, and that is no news of a line.
                let keepalive = socket2::TcpKeepalive::new()
                    .with_time(Duration::from_secs(30))
                    .with_interval(Duration::from_secs(10))
                    .with_retries(3);
                socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
                let socket = socket.into_std()?;
                Self::over(Holder::of(*protocol), socket.try_clone()?.into(), socket.into())
            }
            LineKind::Tty { path, settings } => {
                let port = open_terminal(path)?;
                // Nobody else opens it from now on. (Root can; and whoever had it open already, has.)
                ioctl_tiocexcl(&port)?;
                set_raw(&port, Some(settings))?;
                tcflush(&port, QueueSelector::IOFlush)?;
                Self::over(Holder::Tty(Port(port.try_clone()?)), port.try_clone()?, port)
            }
            LineKind::Pty { path } => {
                let terminal = open_terminal(path)?;
                set_raw(&terminal, None)?;
                Self::over(Holder::Pty, terminal.try_clone()?, terminal)
            }
            LineKind::Command { words, terminal } => {
                let (program, Ends { read, write }) = Running::start(&terms.program, words, *terminal)?;
                Self::over(Holder::Program(program), read, write)
            }
        }
    }

    fn over(holder: Holder, read: OwnedFd, write: OwnedFd) -> io::Result<Self> {
        let read = pipe::Receiver::from_owned_fd_unchecked(read)?;
        Ok(Self { holder, read, write: pipe::Sender::from_owned_fd_unchecked(write)? })
    }

    /// The next bytes that the line says; none where it has hung up.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.read.readable().await?;
            match self.read.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // So a terminal says that nobody holds its other end any more.
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Ok(0),
                other => return other,
            }
        }
    }

    /// What of these bytes the line has said.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub(super) fn decode<'a>(&self, bytes: &'a [u8], line: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        match &self.holder {
            Holder::Telnet(telnet) => {
                line.clear();
                telnet.receive(bytes, line).map_err(io::Error::other)?;
                Ok(line)
            }
            Holder::Socket | Holder::Pty | Holder::Tty(_) | Holder::Program(_) => Ok(bytes),
        }
    }

    /// Writes all of it, however long that takes. Broken off, it writes no more of it; behind telnet it has promised
    /// [`TELNET_CHUNK`] bytes at most by then, which still go.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.holder {
            Holder::Telnet(telnet) => {
                self.pay().await?;
                for chunk in bytes.chunks(TELNET_CHUNK) {
                    while telnet.is_suspended() {
                        telnet.news().await;
                        self.pay().await?;
                    }
                    telnet.send(chunk);
                    self.pay().await?;
                    // The other side may have asked for a pause meanwhile: that is to be read.
                    yield_now().await;
                }
                Ok(())
            }
            Holder::Socket | Holder::Pty | Holder::Tty(_) | Holder::Program(_) => self.write_raw(bytes).await,
        }
    }

    /// Until the protocol of the connection has something to be written.
    pub(super) async fn owes(&self) {
        match &self.holder {
            Holder::Telnet(telnet) => telnet.owes().await,
            Holder::Socket | Holder::Pty | Holder::Tty(_) | Holder::Program(_) => {
                std::future::pending().await
            }
        }
    }

    /// Writes that, and what was sent before it.
    pub(super) async fn pay(&self) -> io::Result<()> {
        let Holder::Telnet(telnet) = &self.holder else { return Ok(()) };
        // Where this is broken off, it goes on the next time where it was: a sequence of telnet is never torn.
        while telnet.owes_now() {
            self.write.writable().await?;
            match telnet.pay(|bytes| self.write.try_write(bytes)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn write_raw(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.write.writable().await?;
            match self.write.try_write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Holds the line in the BREAK state. A serial port does so for a quarter of a second, whatever `duration` is, and so does
    /// telnet without RFC 2217 for as long as its other side likes. What is inside says why it is not possible; the line is as
    /// good as before then.
    ///
    /// # Errors
    /// The line has failed.
    pub(super) async fn send_break(&self, duration: Duration) -> io::Result<Result<(), String>> {
        Ok(match &self.holder {
            Holder::Telnet(telnet) => {
                let form = telnet.begin_break();
                self.pay().await?;
                if form == BreakForm::Begun {
                    sleep(duration).await;
                    telnet.end_break();
                    self.pay().await?;
                }
                Ok(())
            }
            Holder::Tty(port) => port.send_break().await,
            Holder::Socket => Err("a plain socket carries no BREAK; telnet does".to_owned()),
            Holder::Pty => Err("a pseudo terminal carries no BREAK".to_owned()),
            Holder::Program(_) => Err("a program's line carries no BREAK".to_owned()),
        })
    }

    /// Closes it. Says how the program ended, if there was one.
    pub(super) async fn close(self, terms: &LineTerms) -> Option<String> {
        match self.holder {
            Holder::Program(program) => {
                // It may be waiting for somebody to read what it says last, or to hang up.
                drop((self.read, self.write));
                Some(program.end(terms.parting).await)
            }
            Holder::Socket | Holder::Telnet(_) | Holder::Pty | Holder::Tty(_) => None,
        }
    }
}

/// A terminal that nobody else of those has who lock theirs.
fn open_terminal(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let terminal = open(path, flags, Mode::empty())?;
    if !isatty(&terminal) {
        return Err(io::Error::other("it is no terminal"));
    }
    flock(&terminal, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other("another program has locked it"))?;
    Ok(terminal)
}

/// Bytes as they are, both ways.
fn set_raw(terminal: impl AsFd, settings: Option<&LineSettings>) -> io::Result<()> {
    let mut modes = tcgetattr(&terminal)?;
    modes.make_raw();
    // Carrier is not waited for, and the machine at the other end not hung up when we close.
    modes.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
    modes.control_modes -= ControlModes::HUPCL;
    if let Some(settings) = settings {
        let control = &mut modes.control_modes;
        *control -= ControlModes::CSIZE;
        *control |= match settings.data_bits() {
            5 => ControlModes::CS5,
            6 => ControlModes::CS6,
            7 => ControlModes::CS7,
            _ => ControlModes::CS8,
        };
        control.set(ControlModes::CSTOPB, settings.stop_bits() == 2);
        control.set(ControlModes::PARENB, settings.parity() != Parity::None);
        control.set(ControlModes::PARODD, settings.parity() == Parity::Odd);
        control.set(ControlModes::CRTSCTS, settings.flow() == FlowControl::Hardware);
        let is_software = settings.flow() == FlowControl::Software;
        modes.input_modes.set(InputModes::IXON | InputModes::IXOFF, is_software);
        modes.set_speed(settings.speed())?;
    }
    tcsetattr(&terminal, OptionalActions::Now, &modes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use tokio::io::AsyncReadExt as _;

    /// A wire behind telnet that is set by RFC 2217, and its other end, which reads nothing by itself.
    fn telnet() -> (Wire, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ours = ours.into_std().unwrap();
        let holder = Holder::of(Protocol::Telnet(Some(LineSettings::default())));
        let wire = Wire::over(holder, ours.try_clone().unwrap().into(), ours.into()).unwrap();
        (wire, theirs)
    }

    /// More than the system holds back for the other end.
    static PASTE: [u8; 262_144] = [b'x'; 262_144];

    /// Has it go on until it cannot, and takes what comes out meanwhile where that is wanted.
    async fn advance(
        writing: &mut (impl Future<Output = io::Result<()>> + Unpin),
        mut take: impl FnMut(),
    ) -> bool {
        for _ in 0..4 * PASTE.len() / TELNET_CHUNK {
            if writing.now_or_never().is_some() {
                return true;
            }
            take();
            yield_now().await;
        }
        false
    }

    fn count(bytes: &[u8]) -> usize {
        bytes.iter().filter(|byte| **byte == b'x').count()
    }

    fn held(theirs: &UnixStream) -> usize {
        usize::try_from(rustix::io::ioctl_fionread(theirs).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn what_is_broken_off_does_not_go_on_behind_telnet() {
        let (wire, mut theirs) = telnet();
        let mut writing = Box::pin(wire.write(&PASTE));
        assert!(!advance(&mut writing, || {}).await);
        drop(writing);
        let held = held(&theirs);
        let mut taken = Vec::new();
        let pay = async move { wire.pay().await.unwrap() };
        let (read, ()) = tokio::join!(theirs.read_to_end(&mut taken), pay);
        read.unwrap();
        assert!(count(&taken) <= held + TELNET_CHUNK, "{} of {held}", count(&taken));
    }

    /// RFC 2217, FLOWCONTROL-SUSPEND and RESUME.
    #[tokio::test]
    async fn a_pause_that_is_asked_for_counts_within_a_paste() {
        let (wire, theirs) = telnet();
        let mut writing = Box::pin(wire.write(&PASTE));
        assert!(!advance(&mut writing, || {}).await);
        let held = held(&theirs);
        let (mut line, mut taken, mut buffer) = (Vec::new(), 0, [0; 4096]);
        let mut take = || {
            while let Ok(length) = theirs.try_read(&mut buffer) {
                taken += count(&buffer[..length]);
            }
            taken
        };
        wire.decode(b"\xff\xfa\x2c\x6c\xff\xf0", &mut line).unwrap();
        assert!(!advance(&mut writing, || _ = take()).await);
        assert!(take() <= held + TELNET_CHUNK);
        wire.decode(b"\xff\xfa\x2c\x6d\xff\xf0", &mut line).unwrap();
        assert!(advance(&mut writing, || _ = take()).await);
        assert_eq!(take(), PASTE.len());
    }
}
