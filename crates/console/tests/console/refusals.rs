//! What the gateway does not do for those who have come in.

use crate::gateway::World;
use std::io::Read as _;
use std::net::TcpStream;

#[test]
fn commands_and_subsystems() {
    let world = World::new();
    let key = world.pushed_key();
    for (arguments, command, refused) in [
        (&["-T"][..], &["uptime"][..], "exec request failed on channel 0"),
        (&["-tt"], &["uptime"], "exec request failed on channel 0"),
        (&["-s"], &["sftp"], "subsystem request failed on channel 0"),
    ] {
        let outcome = world.ssh(&key, arguments, command).ends();
        assert_ne!(outcome.status, Some(0), "{outcome:?}");
        assert!(outcome.stderr.contains(refused), "{outcome:?}");
    }
    assert!(world.plane.attaches().is_empty());
}

#[test]
fn what_else_ssh_asks_for_is_refused_and_the_session_goes_on() {
    let world = World::new();
    let key = world.pushed_key();
    let agent = world.agent();
    let agent = format!("IdentityAgent={}", agent.socket.display());
    let arguments = ["-tt", "-A", "-o", &agent, "-vv", "-o", "SendEnv=PATH", "-o", "SetEnv=LANG=C"];
    let mut ssh = world.ssh(&key, &arguments, &[]);
    let mut line = world.plane.line();
    line.says("login: ");
    ssh.sees("login: ");
    ssh.types("x");
    line.hears("x");
    line.ends("Bye.");
    let outcome = ssh.ends();
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(outcome.stderr.contains("Requesting authentication agent forwarding"), "{outcome:?}");
    assert!(!outcome.stderr.contains("Remote: "), "nobody tells why");
}

#[test]
fn ports_and_sockets_are_not_forwarded() {
    let world = World::new();
    let key = world.pushed_key();
    for forward in ["0:127.0.0.1:1", "/none/such:127.0.0.1:1"] {
        let arguments = ["-T", "-N", "-R", forward, "-o", "ExitOnForwardFailure=yes"];
        let outcome = world.ssh(&key, &arguments, &[]).ends();
        assert_eq!(outcome.status, Some(255), "{outcome:?}");
        assert!(outcome.stderr.contains("remote port forwarding failed"), "{outcome:?}");
    }
    let outcome = world.ssh(&key, &["-T", "-v", "-W", "127.0.0.1:22"], &[]).ends();
    assert_eq!(outcome.status, Some(255), "{outcome:?}");
    assert!(outcome.stderr.contains("administratively prohibited"), "{outcome:?}");
    assert!(world.plane.attaches().is_empty());
    // A direction that needs no consent: the client listens, and finds out when somebody connects.
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = [free(), free()];
    let (tcp, unix) = (format!("{}:{}", ports[0], world.address), format!("{}:/run/none", ports[1]));
    let arguments = ["-T", "-L", &tcp, "-L", &unix, "-o", "ExitOnForwardFailure=yes"];
    let mut ssh = world.ssh(&key, &arguments, &[]);
    let mut line = world.plane.line();
    line.says("here");
    ssh.sees("here");
    for port in ports {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut nothing = Vec::new();
        connection.read_to_end(&mut nothing).unwrap();
        assert!(nothing.is_empty(), "{nothing:?}");
    }
    ssh.types("x");
    line.hears("x");
}

/// One connection is one session: a second one would have been nobody's decision.
#[test]
fn a_second_session_on_the_same_connection() {
    let world = World::new();
    let key = world.pushed_key();
    let control = format!("ControlPath={}", world.file("control").display());
    let mut first = world.ssh(&key, &["-T", "-o", "ControlMaster=yes", "-o", &control], &[]);
    let mut line = world.plane.line();
    line.says("here");
    first.sees("here");
    let second =
        world.ssh(&key, &["-T", "-o", "ControlMaster=no", "-o", &control, "-o", "ProxyCommand=false"], &[]);
    let outcome = second.ends();
    assert_eq!(outcome.status, Some(255), "{outcome:?}");
    assert!(outcome.stderr.contains("Session open refused by peer"), "{outcome:?}");
    assert_eq!(world.plane.attaches().len(), 1);
    first.types("x");
    line.hears("x");
}
