//! What goes to and fro between ssh and the machine.

use crate::failure::{Exit, Failure};
use crate::ssh::cannot;
use rustix::net::sockopt::set_socket_keepalive;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, copy_buf};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How long a connection may take to come about. Whoever goes to the same host waits meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// As much as is read at once.
const BUFFER: usize = 64 * 1024;

/// Connects to the machine's SSH server.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let refuse = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::General, format!("cannot connect to {host} port {port}: {why}"))
    };
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(refuse(&error)),
        Err(_) => return Err(refuse(&format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
    };
    // As ssh sets its own connections; that nobody is there any more is noticed that way.
    stream.set_nodelay(true).map_err(|error| refuse(&error))?;
    set_socket_keepalive(&stream, true).map_err(|error| refuse(&error))?;
    Ok(stream)
}

/// Both directions, until the machine has closed its own, or ssh does not listen any more.
pub(super) async fn relay(machine: TcpStream) -> Result<(), Failure> {
    let (from_ssh, mut to_ssh) = (input()?, output()?);
    let (from_machine, mut to_machine) = machine.into_split();
    let mut from_ssh = BufReader::with_capacity(BUFFER, from_ssh);
    let mut from_machine = BufReader::with_capacity(BUFFER, from_machine);
    let up = async {
        let ended = async {
            copy_buf(&mut from_ssh, &mut to_machine).await?;
            to_machine.shutdown().await
        };
        match ended.await {
            Ok(()) => std::future::pending().await,
            Err(error) => Err(error),
        }
    };
    let down = async { copy_buf(&mut from_machine, &mut to_ssh).await.map(|_| ()) };
    let ended: io::Result<()> = tokio::select! { ended = up => ended, ended = down => ended };
    match ended {
        // However a connection ends, ssh says it better.
        Err(error) if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
            Err(cannot("pass on what ssh and the machine say", error))
        }
        _ => Ok(()),
    }
}

/// Standard input: from OpenSSH a pipe, from other programs a socket.
fn input() -> Result<Box<dyn AsyncRead + Unpin>, Failure> {
    let file = duplicate(&io::stdin())?;
    if let Ok(pipe) = pipe::Receiver::from_owned_fd(file) {
        return Ok(Box::new(pipe));
    }
    Ok(Box::new(socket(&io::stdin())?))
}

/// Standard output in the same way.
fn output() -> Result<Box<dyn AsyncWrite + Unpin>, Failure> {
    let file = duplicate(&io::stdout())?;
    if let Ok(pipe) = pipe::Sender::from_owned_fd(file) {
        return Ok(Box::new(pipe));
    }
    Ok(Box::new(socket(&io::stdout())?))
}

fn socket(file: &impl AsFd) -> Result<UnixStream, Failure> {
    let socket = std::os::unix::net::UnixStream::from(duplicate(file)?);
    let is_socket = socket.local_addr().and_then(|_| socket.set_nonblocking(true));
    is_socket.and_then(|()| UnixStream::from_std(socket)).map_err(|_| {
        Failure::new(Exit::Parameter, "this command is for the ProxyCommand of ssh, on pipes")
            .hint("`instance-connect ssh` logs in; `instance-connect ssh-config install` makes ssh use this")
    })
}

fn duplicate(file: &impl AsFd) -> Result<OwnedFd, Failure> {
    file.as_fd().try_clone_to_owned().map_err(|error| cannot("use standard input and output", error))
}
