//! A person with OpenSSH's ssh.

use crate::control_plane::PATIENCE;
use crate::gateway::{ADDRESS, World};
use instance_connect_core::document::base64_decode;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A key pair that OpenSSH made.
pub(crate) struct Key {
    pub(crate) file: PathBuf,
    /// `type base64`.
    pub(crate) line: String,
}

impl World {
    /// Makes a key of this type (`ssh-keygen -t`).
    pub(crate) fn key(&self, kind: &str) -> Key {
        let file = self.file(&format!("{kind}-{}", fs::read_dir(self.directory.path()).unwrap().count()));
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-N", "", "-C", "", "-t", kind, "-f"]).arg(&file);
        assert!(keygen.status().unwrap().success());
        let line = fs::read_to_string(file.with_extension("pub")).unwrap();
        Key { line: line.trim_end().to_owned(), file }
    }

    /// A key that may come in.
    pub(crate) fn pushed_key(&self) -> Key {
        let key = self.key("ed25519");
        self.plane.expect(ADDRESS, &key.line);
        key
    }

    /// `ssh` with this key, as [`ADDRESS`] unless `-l` says otherwise; `arguments` stand in front of the host, `command` behind it.
    pub(crate) fn ssh(&self, key: &Key, arguments: &[&str], command: &[&str]) -> Ssh {
        let mut ssh = self.command(key, arguments, command);
        Ssh::spawn(ssh.stdin(Stdio::piped()))
    }

    /// The same on a terminal.
    pub(crate) fn ssh_on(&self, key: &Key, arguments: &[&str], terminal: OwnedFd) -> Ssh {
        let mut ssh = self.command(key, arguments, &[]);
        Ssh::spawn(ssh.stdin(terminal))
    }

    fn command(&self, key: &Key, arguments: &[&str], command: &[&str]) -> Command {
        let known_hosts = self.file("known_hosts");
        let lines = self.host_keys.iter().map(|key| format!("gateway {key}\n"));
        fs::write(&known_hosts, lines.collect::<String>()).unwrap();
        let mut ssh = Command::new("ssh");
        // Of two values of an option the first one counts.
        ssh.args(arguments);
        ssh.args(["-F", "none", "-o", "BatchMode=yes"]);
        ssh.args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"]);
        ssh.args([
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "HostKeyAlias=gateway",
            "-o",
            "UpdateHostKeys=no",
        ])
        .args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
        .args(["-p", &self.address.port().to_string()])
        .arg("-i")
        .arg(&key.file);
        if !arguments.contains(&"-l") {
            ssh.args(["-l", ADDRESS]);
        }
        ssh.arg("127.0.0.1").args(command);
        ssh
    }
}

/// An agent without keys.
pub(crate) struct Agent {
    pub(crate) socket: PathBuf,
    program: Child,
}

impl World {
    pub(crate) fn agent(&self) -> Agent {
        let socket = self.file("agent");
        let mut agent = Command::new("ssh-agent");
        let mut program = agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::piped()).spawn().unwrap();
        // It says where it is once it is there.
        program.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Agent { socket, program }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// An agent (draft-miller-ssh-agent) that has a key, and never signs with it.
pub(crate) struct SlowAgent {
    pub(crate) socket: PathBuf,
    /// It was asked to sign.
    pub(crate) asked: Receiver<()>,
}

impl SlowAgent {
    pub(crate) fn start(world: &World, key: &Key) -> Self {
        let socket = world.file("slow-agent");
        let listener = UnixListener::bind(&socket).unwrap();
        let blob = base64_decode(key.line.split(' ').nth(1).unwrap()).unwrap();
        let (sender, asked) = channel();
        thread::spawn(move || {
            // Kept open: whoever waits for an answer goes on waiting.
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                while let Some(request) = packet(&mut stream) {
                    let answer = match request.first() {
                        // Which keys there are: this one, without a comment.
                        Some(11) => [&[12, 0, 0, 0, 1][..], &string(&blob), &string(b"")].concat(),
                        Some(13) => {
                            sender.send(()).unwrap();
                            break;
                        }
                        _ => vec![5],
                    };
                    stream.write_all(&string(&answer)).unwrap();
                }
                held.push(stream);
            }
        });
        Self { socket, asked }
    }
}

fn packet(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut packet = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut packet).ok()?;
    Some(packet)
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A running ssh.
pub(crate) struct Ssh {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    told: Vec<u8>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ssh {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let (stdout, stderr) = (pieces(child.stdout.take().unwrap()), pieces(child.stderr.take().unwrap()));
        Self { child, stdin, stdout, stderr, seen: Vec::new(), told: Vec::new() }
    }

    pub(crate) fn types(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Types until ssh takes no more for a while, and gives how much it took.
    pub(crate) fn types_until_it_waits(&mut self, most: usize) -> usize {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdin = self.stdin.as_mut().unwrap();
        // A pipe that can be written to takes a page at least.
        let page = [b'x'; 4096];
        let mut typed = 0;
        while typed < most {
            let mut ready = [PollFd::new(&*stdin, PollFlags::OUT)];
            if poll(&mut ready, Some(&Timespec { tv_sec: 2, tv_nsec: 0 })).unwrap() == 0 {
                break;
            }
            stdin.write_all(&page).unwrap();
            typed += page.len();
        }
        typed
    }

    /// Nothing more is typed.
    pub(crate) fn closes_input(&mut self) {
        self.stdin = None;
    }

    /// Waits until this is on the screen.
    pub(crate) fn sees(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.seen).contains(text) {
            match self.stdout.recv_timeout(PATIENCE) {
                Ok(piece) => self.seen.extend(piece),
                Err(error) => panic!("{error}: no {text:?} in {:?}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    /// Waits until it has said this itself.
    pub(crate) fn is_told(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.told).contains(text) {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(piece) => self.told.extend(piece),
                Err(error) => panic!("{error}: no {text:?} in {}", String::from_utf8_lossy(&self.told)),
            }
        }
    }

    /// What it has shown until now.
    pub(crate) fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ends(mut self) -> Outcome {
        let rest = |from: &Receiver<Vec<u8>>| {
            let mut all = Vec::new();
            loop {
                match from.recv_timeout(PATIENCE) {
                    Ok(piece) => all.extend(piece),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return all,
                    Err(error) => panic!("ssh does not end: {error}: {:?}", String::from_utf8_lossy(&all)),
                }
            }
        };
        self.seen.extend(rest(&self.stdout));
        self.told.extend(rest(&self.stderr));
        let status = self.child.wait().unwrap().code();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome { status, stdout: text(&self.seen), stderr: text(&self.told) }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes out of a pipe, without waiting for its end.
fn pieces(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = pipe.read(&mut piece) {
            if sender.send(piece[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
