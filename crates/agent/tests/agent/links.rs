//! Links that come and go, and what stays.

use crate::control_plane::{ControlPlane, PATIENCE, server_time};
use crate::machine::{BOOT, Machine, OTHER_BOOT, Push, boot, mode};
use instance_connect_agent::{MachineClock as _, NotifySocket, RunFailure, RunSettings, run};
use instance_connect_core::document::{
    BootInstant, Fingerprint, Offer, RemoteHost, Section, SessionChange, SessionEvent, SessionId, merge,
};
use instance_connect_core::host_facts::HostFacts;
use instance_connect_core::link::{
    AckOutcome, AgentFrame, Capabilities, EnrollErrorCode, Goodbye, GoodbyeCode, HostKeyText, KeyUse,
    Offered, Ping, Pong, ServerFrame, UseEvent, limits,
};
use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tokio::time::timeout;

const INSTALLED: AckOutcome = AckOutcome::Installed { os_user_exists: true };

#[tokio::test]
async fn the_agent_introduces_itself() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let hello = control_plane.accept_raw().await.welcome(&*machine.clock).await;
    assert_eq!((hello.version_min, hello.version_max), (1, 1));
    assert_eq!(hello.boot_id, boot(BOOT));
    assert_eq!(hello.sent_at, machine.clock.boot());
    assert_eq!(hello.agent_version.as_str(), env!("CARGO_PKG_VERSION"));
}

/// To a server that takes them; each link tells what there is by then.
#[tokio::test]
async fn the_machines_host_keys_are_reported_with_each_link() {
    const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    for (file, expected) in [("none", vec![]), ("ssh_host_ed25519_key.pub", vec![HOST_KEY])] {
        fs::create_dir_all(machine.path("ssh")).unwrap();
        fs::write(machine.path("ssh").join(file), format!("{HOST_KEY} root@host\n")).unwrap();
        let mut link = control_plane.accept_raw().await;
        link.welcome_with(Capabilities::HOST_KEYS, &*machine.clock).await;
        let AgentFrame::HostKeys(reported) = link.receive().await else { panic!("no host keys") };
        assert_eq!(reported.lines.iter().map(HostKeyText::as_str).collect::<Vec<_>>(), expected);
        link.send(ServerFrame::Goodbye(Goodbye::new(GoodbyeCode::ShuttingDown, "for a test"))).await;
    }
    // One that does not take them is not sent any: the first frame after its welcome is the ack.
    let mut link = control_plane.accept(&*machine.clock).await;
    let push = Push::default();
    assert_eq!(link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await, INSTALLED);
}

/// With each link; and on it once they have changed, which is looked for once a minute.
#[tokio::test]
async fn the_machines_facts_are_reported_and_follow_a_change() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    // In one step, as packages do it: half of a file would be another change.
    let write = |id: &str| {
        let new = machine.path("os-release.new");
        fs::write(&new, format!("ID={id}\nPRETTY_NAME='D 12'\n")).unwrap();
        fs::rename(new, machine.path("os-release")).unwrap();
    };
    write("first");
    let mut link = control_plane.accept_raw().await;
    link.welcome_with(Capabilities::HOST_FACTS, &*machine.clock).await;
    let AgentFrame::HostFacts(told) = link.receive().await else { panic!("no host facts") };
    assert_eq!((told.os_id.as_str(), told.os_name.as_str()), ("first", "D 12"));
    assert_eq!(told.architecture.as_str(), std::env::consts::ARCH);
    // It reaches this control plane from an address at which nobody else finds it.
    assert!(told.addresses.iter().all(|address| !address.ip().is_loopback()));

    // For as long as nothing has changed, nothing is said but pings; and what has changed is said within a minute.
    let mut is_changed = false;
    let changed = loop {
        machine.clock.advance(limits::PING_INTERVAL);
        match link.receive().await {
            AgentFrame::Ping(Ping { sent_at }) => {
                let server_time = server_time(sent_at);
                link.send(ServerFrame::Pong(Pong { sent_at, server_time })).await;
                let is_looked_at = sent_at.since(BootInstant(0)) > Duration::from_secs(1000 + 2 * 60);
                if is_looked_at && !is_changed {
                    write("second");
                    is_changed = true;
                }
            }
            AgentFrame::HostFacts(facts) if is_changed => break facts,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(*changed, HostFacts { os_id: "second".parse().unwrap(), ..(*told).clone() });
    link.send(ServerFrame::Goodbye(Goodbye::new(GoodbyeCode::ShuttingDown, "for a test"))).await;
    let mut next = control_plane.accept_raw().await;
    next.welcome_with(Capabilities::HOST_FACTS, &*machine.clock).await;
    assert_eq!(next.receive().await, AgentFrame::HostFacts(changed));
    next.send(ServerFrame::Goodbye(Goodbye::new(GoodbyeCode::ShuttingDown, "for a test"))).await;

    // A server that does not take them is not sent any: the first frame after its welcome is the ack.
    let mut link = control_plane.accept(&*machine.clock).await;
    let push = Push::default();
    assert_eq!(link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await, INSTALLED);
}

#[tokio::test]
async fn after_a_lost_link_comes_another() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    for request in 0..3 {
        let mut link = control_plane.accept(&*machine.clock).await;
        let push = Push { request, ..Push::default() };
        assert_eq!(link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await, INSTALLED);
        assert_eq!(machine.sections(&push), usize::from(request) + 1);
    }
}

#[tokio::test]
async fn a_goodbye_ends_the_link_without_an_answer() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    for code in [GoodbyeCode::ShuttingDown, GoodbyeCode::Replaced, GoodbyeCode::Other(99)] {
        let mut link = control_plane.accept(&*machine.clock).await;
        link.send(ServerFrame::Goodbye(Goodbye::new(code, "for a test"))).await;
        link.closed().await;
    }
    control_plane.accept(&*machine.clock).await;
}

#[tokio::test]
async fn a_refused_link_is_tried_again() {
    let mut control_plane = ControlPlane::start().await;
    control_plane.refuse_link(EnrollErrorCode::IdentityRevoked);
    control_plane.refuse_link(EnrollErrorCode::Unavailable);
    let machine = Machine::start(&control_plane);
    control_plane.accept(&*machine.clock).await;
    assert_eq!(control_plane.refusals_left(), 0);
}

#[tokio::test]
async fn unknown_optional_frames_are_ignored_and_critical_ones_close() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let mut link = control_plane.accept(&*machine.clock).await;
    link.send_bytes(vec![0x7f, 1, 2, 3]).await;
    let push = Push::default();
    assert_eq!(link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await, INSTALLED);
    link.send_bytes(vec![0xff, 1, 2, 3]).await;
    assert_eq!(link.goodbye().await.code, GoodbyeCode::UnknownFrame);
    control_plane.accept(&*machine.clock).await;
}

#[tokio::test]
async fn what_is_no_frame_closes() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let rows = [vec![], vec![0x84, 1], vec![0x7f; limits::FRAME + 1]];
    for bytes in rows {
        let mut link = control_plane.accept(&*machine.clock).await;
        link.send_bytes(bytes).await;
        assert_eq!(link.goodbye().await.code, GoodbyeCode::ProtocolError);
    }
    let mut link = control_plane.accept(&*machine.clock).await;
    link.send_text("text").await;
    assert_eq!(link.goodbye().await.code, GoodbyeCode::ProtocolError);
}

#[tokio::test]
async fn silence_closes() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let link = control_plane.accept(&*machine.clock).await;
    machine.clock.advance(Duration::from_secs(30));
    assert_eq!(link.goodbye().await.code, GoodbyeCode::Idle);
    let mut link = control_plane.accept_raw().await;
    assert!(matches!(link.receive().await, AgentFrame::Hello(_)));
    machine.clock.advance(Duration::from_secs(10));
    assert_eq!(link.goodbye().await.code, GoodbyeCode::Idle, "no welcome");
}

#[tokio::test]
async fn a_server_certificate_of_another_intermediate_is_not_taken() {
    let mut control_plane = ControlPlane::start_impostor().await;
    let machine = Machine::start(&control_plane);
    for _ in 0..2 {
        let failure = control_plane.failure().await;
        assert!(failure.contains("UnknownCA") || failure.contains("unknown CA"), "{failure}");
    }
    drop(machine);
}

#[tokio::test]
async fn a_stopped_agent_says_goodbye_and_leaves_its_keys() {
    let mut control_plane = ControlPlane::start().await;
    let mut machine = Machine::start(&control_plane);
    let mut link = control_plane.accept(&*machine.clock).await;
    let push = Push::default();
    link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await;
    let running = machine.tell_agent_to_stop();
    assert_eq!(link.goodbye().await.code, GoodbyeCode::ShuttingDown);
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    assert_eq!(machine.login(&push), [Ok(push.request_id())]);
}

#[tokio::test]
async fn a_killed_agents_keys_work_on_and_the_next_agent_knows_them() {
    let mut control_plane = ControlPlane::start().await;
    let mut machine = Machine::start(&control_plane);
    let mut link = control_plane.accept(&*machine.clock).await;
    let (early, late) = (Push::default(), Push { key: 1, request: 1, ..Push::default() });
    link.grant(&machine.sign(&early), machine.clock.in_a_minute()).await;
    machine.clock.advance(Duration::from_secs(20));
    link.answer_ping(&*machine.clock).await;
    link.grant(&machine.sign(&late), machine.clock.in_a_minute()).await;
    machine.kill_agent().await;
    assert_eq!(machine.login(&early), [Ok(early.request_id())]);
    machine.clock.advance(Duration::from_secs(40));
    fs::write(machine.live_file(&late).with_file_name(".new"), "half a fi").unwrap();
    machine.start_agent();
    control_plane.accept(&*machine.clock).await;
    assert!(!machine.live_file(&early).exists(), "past its deadline");
    assert!(!machine.live_file(&late).with_file_name(".new").exists());
    assert_eq!(machine.login(&late), [Ok(late.request_id())]);
}

#[tokio::test]
async fn files_of_an_earlier_boot_and_files_that_are_none_are_removed_at_start() {
    let mut control_plane = ControlPlane::start().await;
    let mut machine = Machine::new(&control_plane);
    let earlier = Push { boot: OTHER_BOOT, ..Push::default() };
    let (broken, current) = (Push { key: 1, ..Push::default() }, Push { key: 2, ..Push::default() });
    let (now, statement) =
        (machine.clock.boot(), control_plane.authority.statement(&*machine.clock).to_string());
    let file = |push: &Push| {
        let document = machine.sign(push);
        let deadline = now.after(Duration::from_secs(30));
        merge(None, &Section { deadline, statement: &statement, document: &document }, now).unwrap()
    };
    fs::create_dir_all(machine.live_file(&earlier).parent().unwrap()).unwrap();
    fs::write(machine.live_file(&earlier), file(&earlier)).unwrap();
    fs::write(machine.live_file(&broken), "!Deadline=1\n").unwrap();
    fs::write(machine.live_file(&current), file(&current)).unwrap();
    fs::write(machine.live_file(&current).with_file_name("notes"), "somebody's").unwrap();
    machine.start_agent();
    control_plane.accept(&*machine.clock).await;
    assert!(!machine.live_file(&earlier).exists());
    assert!(!machine.live_file(&broken).exists());
    assert_eq!(machine.login(&current), [Ok(current.request_id())]);
    assert!(machine.live_file(&current).with_file_name("notes").exists(), "not ours to remove");
}

#[tokio::test]
async fn what_is_in_the_way_does_not_keep_the_agent_from_starting() {
    let mut control_plane = ControlPlane::start().await;
    let mut machine = Machine::new(&control_plane);
    let push = Push::default();
    fs::create_dir_all(machine.live_file(&push)).unwrap();
    fs::write(machine.directories.run.join("live/notes"), "somebody's").unwrap();
    machine.start_agent();
    let mut link = control_plane.accept(&*machine.clock).await;
    let other = Push { key: 1, ..Push::default() };
    assert_eq!(link.grant(&machine.sign(&other), machine.clock.in_a_minute()).await, INSTALLED);
}

#[tokio::test]
async fn files_take_the_group_of_a_setgid_directory() {
    let mut control_plane = ControlPlane::start().await;
    let mut machine = Machine::new(&control_plane);
    let live = machine.directories.run.join("live");
    fs::create_dir_all(&live).unwrap();
    // Only root can give a directory to a group it is not in; for others it stays the group they have.
    let _ = std::os::unix::fs::chown(&live, None, Some(12_345));
    fs::set_permissions(&live, fs::Permissions::from_mode(0o2750)).unwrap();
    machine.start_agent();
    let mut link = control_plane.accept(&*machine.clock).await;
    let push = Push::default();
    assert_eq!(link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await, INSTALLED);
    let (file, group) = (machine.live_file(&push), fs::metadata(&live).unwrap().gid());
    let directory = file.parent().unwrap();
    assert_eq!((mode(directory), fs::metadata(directory).unwrap().gid()), (0o2750, group));
    assert_eq!((mode(&file), fs::metadata(&file).unwrap().gid()), (0o640, group));
}

#[tokio::test]
async fn files_past_their_deadline_are_swept() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let mut link = control_plane.accept(&*machine.clock).await;
    let push = Push::default();
    let deadline = machine.clock.boot().after(Duration::from_secs(8));
    assert_eq!(link.grant(&machine.sign(&push), deadline).await, INSTALLED);
    machine.clock.advance(Duration::from_secs(8));
    // The sweep comes first in the tick that sends this ping.
    assert_eq!(link.receive().await, AgentFrame::Ping(Ping { sent_at: deadline }));
    assert!(!machine.live_file(&push).exists());
    assert!(!machine.live_file(&push).parent().unwrap().exists());
}

#[tokio::test]
async fn offers_are_reported_and_nonsense_is_not() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let mut link = control_plane.accept(&*machine.clock).await;
    let path = machine.directories.run.join("offers.sock");
    assert_eq!(mode(&path), 0o660);
    let socket = UnixDatagram::unbound().unwrap();
    let push = Push::default();
    let offer = Offer {
        user: push.user(),
        fingerprint: push.fingerprint(),
        requests: vec![push.request_id().parse().unwrap()],
        at: machine.clock.boot(),
    };
    socket.send_to(b"KeyOffered v2\n", &path).unwrap();
    socket.send_to(&[b'x'; 5000], &path).unwrap();
    socket.send_to(offer.encode().as_bytes(), &path).unwrap();
    let expected = Offered {
        offered_at: offer.at,
        lost: 0,
        fingerprint: offer.fingerprint,
        os_user: offer.user,
        request_ids: offer.requests,
    };
    assert_eq!(link.receive().await, AgentFrame::Offered(expected));
}

/// A login with a pushed key, told by sshd's PAM stack, and a key that nobody has used.
#[tokio::test]
async fn what_becomes_of_a_key_is_reported() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let mut link = control_plane.accept(&*machine.clock).await;
    let path = machine.directories.run.join("sessions.sock");
    assert_eq!(mode(&path), 0o600);
    let (push, unused) = (Push::default(), Push { key: 1, request: 1, ..Push::default() });
    let deadline = machine.clock.boot().after(Duration::from_secs(8));
    for push in [&push, &unused] {
        assert_eq!(link.grant(&machine.sign(push), deadline).await, INSTALLED);
    }
    let socket = UnixDatagram::unbound().unwrap();
    let session = SessionId { process: 7, started: 9 };
    let from: RemoteHost = "192.0.2.7".parse().unwrap();
    let (fingerprint, at) = (push.fingerprint(), machine.clock.boot());
    let event = |change| SessionEvent { user: push.user(), session, change, at };
    let send = |event: SessionEvent| socket.send_to(event.encode().as_bytes(), &path).unwrap();
    socket.send_to(b"SessionOpened v2\n", &path).unwrap();
    // With a key that nobody has pushed.
    let standing = Fingerprint::from_bytes([1; 32]);
    send(event(SessionChange::Opened { fingerprint: standing, from: from.clone() }));
    send(event(SessionChange::Opened { fingerprint, from: from.clone() }));
    send(event(SessionChange::Closed));
    let request_ids = vec![push.request_id().parse().unwrap()];
    let expected = |event| {
        let (from, os_user, request_ids) = (from.clone(), push.user(), request_ids.clone());
        AgentFrame::KeyUse(KeyUse { event, at, lost: 0, session, fingerprint, os_user, from, request_ids })
    };
    for event in [UseEvent::Used, UseEvent::Opened, UseEvent::Closed] {
        assert_eq!(link.receive().await, expected(event));
    }
    machine.clock.advance(Duration::from_secs(8));
    let expired = loop {
        if let AgentFrame::ExpiredUnused(expired) = link.receive_any().await {
            break expired;
        }
    };
    assert_eq!(expired.request_id.as_str(), unused.request_id());
}

#[tokio::test]
async fn offers_are_sent_at_a_bounded_rate() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    let mut link = control_plane.accept(&*machine.clock).await;
    let socket = tokio::net::UnixDatagram::unbound().unwrap();
    let (path, push) = (machine.directories.run.join("offers.sock"), Push::default());
    let mut offer = Offer {
        user: push.user(),
        fingerprint: push.fingerprint(),
        requests: vec![push.request_id().parse().unwrap()],
        at: machine.clock.boot(),
    };
    for number in 0..110 {
        offer.at.0 = number;
        // Waits where the socket is full, so that none is lost on the way.
        timeout(PATIENCE, socket.send_to(offer.encode().as_bytes(), &path)).await.unwrap().unwrap();
    }
    for number in 0..100 {
        let AgentFrame::Offered(offered) = link.receive().await else { panic!("no report") };
        assert_eq!((offered.offered_at.0, offered.lost), (number, 0));
    }
    // A grant that comes now is acknowledged before the next report: the burst is used up and the clock stands.
    assert_eq!(link.grant(&machine.sign(&push), machine.clock.in_a_minute()).await, INSTALLED);
    machine.clock.advance(Duration::from_secs(1));
    let AgentFrame::Offered(offered) = link.receive().await else { panic!("no report") };
    assert_eq!(offered.offered_at.0, 100);
}

#[tokio::test]
async fn one_agent_for_each_directory() {
    let mut control_plane = ControlPlane::start().await;
    let machine = Machine::start(&control_plane);
    control_plane.accept(&*machine.clock).await;
    let second = run(machine.settings(), std::future::pending()).await;
    assert!(matches!(second, Err(RunFailure::Running(_))), "{second:?}");
}

#[tokio::test]
async fn a_machine_that_is_not_enrolled_is_told_what_to_do() {
    let control_plane = ControlPlane::start().await;
    let machine = Machine::new(&control_plane);
    for file in ["link.json", "identity.pem"] {
        fs::remove_file(machine.directories.state.join(file)).unwrap();
        let failure = run(machine.settings(), std::future::pending()).await.unwrap_err().to_string();
        assert!(failure.contains("not enrolled") && failure.contains("enroll as root"), "{failure}");
    }
}

#[tokio::test]
async fn whoever_asked_is_told_once_that_a_link_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify.sock");
    let name = format!("instance-connect-test-{}", directory.path().display());
    for (value, address) in [
        (path.display().to_string(), SocketAddr::from_pathname(&path).unwrap()),
        (format!("@{name}"), SocketAddr::from_abstract_name(&name).unwrap()),
    ] {
        let told = UnixDatagram::bind_addr(&address).unwrap();
        told.set_nonblocking(true).unwrap();
        let mut control_plane = ControlPlane::start().await;
        let machine = Machine::new(&control_plane);
        let notify = Some(NotifySocket::parse(value.as_ref()).unwrap());
        tokio::spawn(run(RunSettings { notify, ..machine.settings() }, std::future::pending()));

        // It has said hello, and nobody has welcomed it.
        let mut link = control_plane.accept_raw().await;
        let AgentFrame::Hello(_) = link.receive().await else { panic!("no hello") };
        let mut message = [0; 64];
        assert_eq!(told.recv(&mut message).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(link);
        for _ in 0..2 {
            control_plane.accept(&*machine.clock).await;
        }
        let length = told.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
        assert_eq!(told.recv(&mut message).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
