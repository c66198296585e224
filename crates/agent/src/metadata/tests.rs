use super::fixture::*;
use super::*;
use crate::host_reports::HostReport;
use futures_util::FutureExt as _;
use http_body_util::Empty;
use instance_connect_core::link::{GuestKey, ServerFrame, Twin};
use std::fs;

/// One second, and the shortest time there is.
const SECOND: Duration = Duration::from_secs(1);
const INSTANT: Duration = Duration::from_nanos(1);

/// What is to be said of guests' keys by now: of whose, what, and of which requests.
fn reports(metadata: &Metadata) -> Vec<(String, &'static str, Vec<RequestId>)> {
    metadata.sweep(metadata.clock.boot());
    std::iter::from_fn(|| metadata.next_report())
        .map(|report| match report {
            AgentFrame::GuestReport(GuestReport { instance, report: GuestKey::Offered(offered) }) => {
                (instance.to_string(), "offered", offered.request_ids)
            }
            AgentFrame::GuestReport(GuestReport { instance, report: GuestKey::ExpiredUnused(unused) }) => {
                (instance.to_string(), "unused", vec![unused.request_id])
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn what_was_installed_is_shown_and_again_by_the_next_agent() {
    let machine = TestMachine::new();
    let metadata = machine.start();
    assert_eq!(get(&metadata, OWN, "instance-id"), (200, OWN.to_owned()));
    for path in ["placement/region", "managed-ssh-keys/signer-cert"] {
        assert_eq!(get(&metadata, OWN, path).0, 404, "{path} was said by nobody yet");
    }
    metadata.set_signers(&signers(&[1])).unwrap();
    metadata.set_facts(facts(OWN)).unwrap();
    machine.install(&metadata, &alices(OWN, 1));
    machine.install(&metadata, &alices(OWN, 2));
    let token = token(&metadata, OWN);
    let read = |metadata: &Metadata| {
        let paths =
            ["placement/region", "managed-ssh-keys/signer-cert", "managed-ssh-keys/active-keys/alice"];
        paths.map(|path| get_with(metadata, OWN, &token, path))
    };
    let shown = read(&metadata);
    assert_eq!(shown[0], (200, "us-east-1".to_owned()));
    assert_eq!(shown[1], (200, chain(1).to_owned()));
    assert_eq!(alices_keys(&metadata, OWN), [request(1), request(2)]);
    drop(metadata);
    let next = machine.start();
    // Who has begun with a token of before goes on with it.
    assert_eq!(read(&next), shown);
    machine.clock.advance(MINUTE - INSTANT);
    assert_eq!(alices_keys(&next, OWN), [request(1), request(2)]);
    machine.clock.advance(INSTANT);
    assert_eq!(alices_keys(&next, OWN), [], "to their deadlines and no longer");
}

#[tokio::test]
async fn what_cannot_be_shown_again_is_removed_and_nothing_else_suffers() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    metadata.set_facts(facts(OWN)).unwrap();
    metadata.set_facts(facts(GUEST)).unwrap();
    for number in 1..=8 {
        machine.install(&metadata, &alices(OWN, number));
    }
    let text = document(OWN, OTHER_BOOT, 9, "ssh-ed25519");
    machine.install(&metadata, &grant(&text, vec![twin(1, &text)]));
    let ended = alices(OWN, 10);
    let entry = metadata.admit(&ended).unwrap().unwrap();
    metadata.install(entry, &ended, machine.clock.boot().after(SECOND)).unwrap();
    assert_eq!(machine.kept_grants().len(), 10);
    drop(metadata);

    let file = |number| machine.kept(&request(number));
    let cut = |number, length| {
        let bytes = fs::read(file(number)).unwrap();
        fs::write(file(number), &bytes[..length]).unwrap();
    };
    cut(2, 0);
    cut(3, 8);
    cut(4, 100);
    // Another frame under the name of a request, another request's grant, and a signature that is not right any more.
    fs::copy(machine.kept(&"signers"), file(5)).unwrap();
    fs::write(file(6), b"nonsense").unwrap();
    let mut forged = fs::read(file(7)).unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    fs::write(file(7), forged).unwrap();
    fs::write(machine.kept(&GUEST), b"nonsense").unwrap();
    // What a crash leaves.
    fs::write(machine.kept(&crate::files::UNFINISHED), b"half").unwrap();
    machine.clock.advance(SECOND);

    let next = machine.start();
    assert_eq!(alices_keys(&next, OWN), [request(1), request(8)]);
    assert_eq!(machine.kept_grants(), [request(1), request(8)]);
    assert_eq!(get(&next, OWN, "placement/region").0, 200);
    assert_eq!(get(&next, GUEST, "placement/region").0, 404);
    next.set_facts(facts(GUEST)).unwrap();
    machine.install(&next, &alices(GUEST, 11));
    assert_eq!(
        (get(&next, GUEST, "placement/region").0, alices_keys(&next, GUEST)),
        (200, vec![request(11)])
    );
}

/// Whatever is in `RUN/stock`, the agent starts: keys for our own command depend on it.
#[tokio::test]
async fn damaged_signers_or_a_damaged_token_key_are_made_good_by_what_comes_next() {
    let damaged_chain = ServerFrame::StockSigners({
        let mut damaged = signers(&[1]);
        damaged.each[0].chain = chain(1).replacen("MII", "!!!", 1).parse().unwrap();
        damaged
    });
    let no_chain = ServerFrame::StockSigners({
        let mut damaged = signers(&[1]);
        damaged.each[0].chain = "no certificate\n".parse().unwrap();
        damaged
    });
    for (name, bytes) in [
        ("signers", Vec::new()),
        ("signers", b"nonsense".to_vec()),
        ("signers", damaged_chain.encode()),
        ("signers", no_chain.encode()),
        ("token.key", Vec::new()),
        ("token.key", vec![1; 33]),
    ] {
        let machine = TestMachine::new();
        let metadata = machine.start_signed();
        machine.install(&metadata, &alices(OWN, 1));
        let token = token(&metadata, OWN);
        drop(metadata);
        fs::write(machine.kept(&name), &bytes).unwrap();
        let next = machine.start();
        let (status, _) = get_with(&next, OWN, &token, "instance-id");
        assert_eq!(status, 401, "{name}: nobody goes on with what is not the same any more");
        next.set_signers(&signers(&[1])).unwrap();
        machine.install(&next, &alices(OWN, 2));
        let expected: &[RequestId] =
            if name == "signers" { &[request(2)] } else { &[request(1), request(2)] };
        assert_eq!(alices_keys(&next, OWN), expected, "{name}");
    }
}

#[tokio::test]
async fn signers_that_cannot_be_are_not_taken() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    machine.install(&metadata, &alices(OWN, 1));
    let mut damaged = signers(&[2]);
    damaged.each[0].chain = "no certificate\n".parse().unwrap();
    assert!(metadata.set_signers(&damaged).is_err());
    assert_eq!((alices_keys(&metadata, OWN), metadata.status().generations), (vec![request(1)], vec![1]));
    drop(metadata);
    assert_eq!(alices_keys(&machine.start(), OWN), [request(1)]);
}

#[tokio::test]
async fn what_the_signers_in_force_have_not_signed_is_not_kept_either() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    machine.install(&metadata, &alices(OWN, 1));
    metadata.set_signers(&signers(&[1, 2])).unwrap();
    let text = document(OWN, BOOT, 2, "ssh-ed25519");
    let by_both = grant(&text, vec![twin(1, &text), twin(2, &text)]);
    machine.install(&metadata, &by_both);
    let begun = token(&metadata, OWN);
    metadata.set_signers(&signers(&[2])).unwrap();
    assert_eq!(get_with(&metadata, OWN, &begun, "instance-id").0, 401, "the generation of its token is gone");
    assert_eq!(alices_keys(&metadata, OWN), [request(2)]);
    assert_eq!(machine.kept_grants(), [request(2)]);
    drop(metadata);
    let next = machine.start();
    assert_eq!(alices_keys(&next, OWN), [request(2)]);
    assert_eq!(get(&next, OWN, "managed-ssh-keys/signer-cert"), (200, chain(2).to_owned()));
}

#[tokio::test]
async fn what_was_withdrawn_is_shown_to_nobody_and_not_called_unused() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    machine.install(&metadata, &alices(GUEST, 1));
    machine.install(&metadata, &alices(GUEST, 2));
    assert!(!metadata.withdraw(&request(3)).unwrap());
    assert!(metadata.withdraw(&request(1)).unwrap());
    assert!(!metadata.withdraw(&request(1)).unwrap(), "withdrawn twice");
    assert_eq!((alices_keys(&metadata, GUEST), machine.kept_grants()), (vec![request(2)], vec![request(2)]));
    assert_eq!(reports(&metadata), [(GUEST.to_owned(), "offered", vec![request(2)])]);
    machine.clock.advance(MINUTE);
    assert_eq!(reports(&metadata), []);
}

#[tokio::test]
async fn a_machine_that_was_paused_shows_its_keys_that_much_shorter_also_after_a_restart() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    machine.install(&metadata, &alices(GUEST, 1));
    machine.install(&metadata, &alices(OWN, 2));
    machine.install(&metadata, &alices(OWN, 3));
    fs::write(machine.kept(&request(3)), b"damaged").unwrap();
    metadata.shorten(SECOND * 50).unwrap();
    assert_eq!(machine.kept_grants(), [request(1), request(2)], "one without an end is not kept");
    machine.clock.advance(SECOND * 10 - INSTANT);
    let shown = |metadata: &Metadata| (alices_keys(metadata, GUEST), alices_keys(metadata, OWN));
    assert_eq!(shown(&metadata), (vec![request(1)], vec![request(2), request(3)]));
    drop(metadata);
    let next = machine.start();
    assert_eq!(shown(&next), (vec![request(1)], vec![request(2)]));
    machine.clock.advance(INSTANT);
    assert_eq!(shown(&next), (vec![], vec![]));
    drop(next);
    assert_eq!(shown(&machine.start()), (vec![], vec![]));
}

#[tokio::test]
async fn what_has_ended_is_forgotten_and_the_rest_is_not() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    machine.install(&metadata, &alices(OWN, 1));
    machine.install(&metadata, &alices(GUEST, 2));
    machine.clock.advance(SECOND);
    machine.install(&metadata, &alices(OWN, 3));
    machine.clock.advance(MINUTE - SECOND - INSTANT);
    metadata.sweep(machine.clock.boot());
    assert_eq!(machine.kept_grants(), [request(1), request(2), request(3)]);
    machine.clock.advance(INSTANT);
    metadata.sweep(machine.clock.boot());
    assert_eq!(machine.kept_grants(), [request(3)]);
    assert_eq!((alices_keys(&metadata, OWN), alices_keys(&metadata, GUEST)), (vec![request(3)], vec![]));
}

/// Delivered again over the next link, with another deadline.
#[tokio::test]
async fn the_same_grant_again_is_one_entry_until_the_deadline_it_came_with_last() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    machine.install(&metadata, &alices(GUEST, 1));
    let again = alices(GUEST, 1);
    let entry = metadata.admit(&again).unwrap().unwrap();
    metadata.install(entry, &again, machine.clock.boot().after(SECOND)).unwrap();
    assert_eq!(alices_keys(&metadata, GUEST), [request(1)]);
    machine.clock.advance(SECOND);
    assert_eq!(alices_keys(&metadata, GUEST), []);
    drop(metadata);
    assert_eq!(alices_keys(&machine.start(), GUEST), []);
}

#[tokio::test]
async fn a_guest_is_shown_its_own_keys_and_nobody_elses() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    metadata.set_facts(facts(OWN)).unwrap();
    for (number, id) in [(1, OWN), (2, GUEST), (3, OTHER_GUEST)] {
        machine.install(&metadata, &alices(id, number));
    }
    for (number, id) in [(1, OWN), (2, GUEST), (3, OTHER_GUEST)] {
        assert_eq!(alices_keys(&metadata, id), [request(number)]);
        assert_eq!(get(&metadata, id, "instance-id"), (200, id.to_owned()));
    }
    let of_a_guest = token(&metadata, GUEST);
    for id in [OWN, OTHER_GUEST] {
        let (status, _) = get_with(&metadata, id, &of_a_guest, "managed-ssh-keys/active-keys/alice");
        assert_eq!(status, 401, "a token opens for the instance that it was made for");
    }
    // What the machine is called, and where it is, is no guest's business.
    metadata.set_address(Some(Ipv4Addr::new(192, 0, 2, 7)));
    for path in ["local-ipv4", "local-hostname", "placement/region"] {
        assert_eq!((get(&metadata, OWN, path).0, get(&metadata, GUEST, path).0), (200, 404), "{path}");
    }
}

#[tokio::test]
async fn what_became_of_a_guests_key_is_reported_once() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    machine.install(&metadata, &alices(GUEST, 1));
    machine.install(&metadata, &alices(OTHER_GUEST, 2));
    let path = "/latest/meta-data/managed-ssh-keys/active-keys/alice";
    let asked = Request::head(path).header(imds::TOKEN_HEADER, token(&metadata, GUEST));
    assert_eq!(ask(&metadata, GUEST, &asked.body(Empty::new()).unwrap()), (200, String::new()));
    assert_eq!(reports(&metadata), [], "who reads no key was offered none");
    alices_keys(&metadata, GUEST);
    alices_keys(&metadata, GUEST);
    assert_eq!(reports(&metadata), [(GUEST.to_owned(), "offered", vec![request(1)])]);
    machine.clock.advance(MINUTE);
    metadata.sweep(machine.clock.boot());
    assert!(metadata.has_report());
    assert_eq!(reports(&metadata), [(OTHER_GUEST.to_owned(), "unused", vec![request(2)])]);
    assert!(!metadata.has_report());
}

#[tokio::test]
async fn a_guests_key_that_a_pause_has_ended_is_reported_with_that_end() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    machine.install(&metadata, &alices(GUEST, 1));
    metadata.shorten(SECOND * 50).unwrap();
    machine.clock.advance(SECOND * 10 - INSTANT);
    assert_eq!(reports(&metadata), []);
    machine.clock.advance(INSTANT);
    assert_eq!(reports(&metadata), [(GUEST.to_owned(), "unused", vec![request(1)])]);
}

#[tokio::test]
async fn what_became_of_a_guests_key_before_the_agent_started_is_not_guessed() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    machine.install(&metadata, &alices(GUEST, 1));
    machine.install(&metadata, &alices(GUEST, 2));
    drop(metadata);
    let next = machine.start();
    next.withdraw(&request(2)).unwrap();
    alices_keys(&next, GUEST);
    assert_eq!(reports(&next), [(GUEST.to_owned(), "offered", vec![request(1)])]);
    drop(next);
    let third = machine.start();
    machine.clock.advance(MINUTE);
    assert_eq!(reports(&third), []);
}

/// The agent knows more of them: whether somebody logged in.
#[tokio::test]
async fn the_machines_own_keys_are_reported_elsewhere() {
    let mut machine = TestMachine::new();
    let metadata = machine.start_signed();
    machine.install(&metadata, &alices(OWN, 1));
    alices_keys(&metadata, OWN);
    let Some(HostReport::Offered(offer)) = machine.reports.next().now_or_never() else { panic!("no offer") };
    assert_eq!((offer.requests, offer.at), (vec![request(1)], machine.clock.boot()));
    machine.install(&metadata, &alices(OWN, 2));
    machine.clock.advance(MINUTE);
    metadata.sweep(machine.clock.boot());
    assert!(!metadata.has_report());
    assert!(machine.reports.next().now_or_never().is_none());
}

#[tokio::test]
async fn who_asks_too_often_waits_and_nobody_else_does() {
    let machine = TestMachine::new();
    let metadata = machine.start();
    let status = |id| ask(&metadata, id, &Request::get("/").body(Empty::new()).unwrap()).0;
    for asked in 0..2000 {
        assert_eq!(status(GUEST), 401, "request {asked}");
    }
    assert_eq!([status(GUEST), status(GUEST)], [503, 503]);
    assert_eq!([status(OTHER_GUEST), status(OWN)], [401, 401]);
    machine.clock.advance(Duration::from_millis(1));
    assert_eq!([status(GUEST), status(GUEST)], [401, 503]);
}

#[tokio::test]
async fn a_grant_with_a_signature_that_is_not_its_signers_is_refused_and_nothing_kept() {
    let machine = TestMachine::new();
    let metadata = machine.start();
    metadata.set_signers(&signers(&[1, 2])).unwrap();
    machine.install(&metadata, &alices(OWN, 1));
    let text = document(OWN, BOOT, 2, "ssh-ed25519");
    let of_another = twin(1, &document(OWN, BOOT, 3, "ssh-ed25519"));
    let under = |generation, twin: Twin| Twin { generation, ..twin };
    for (what, twins) in [
        ("none", vec![]),
        ("of another document", vec![of_another.clone()]),
        ("of the other signer", vec![under(1, twin(2, &text))]),
        ("of nobody who is announced", vec![under(3, twin(1, &text))]),
        ("a good one and a wrong one", vec![twin(1, &text), under(2, of_another)]),
    ] {
        assert_eq!(metadata.admit(&grant(&text, twins)), Err(Refusal::StockSignature), "{what}");
    }
    assert_eq!(alices_keys(&metadata, OWN), [request(1)]);
    assert_eq!(machine.kept_grants(), [request(1)]);
    // A key that the scripts do not know is not theirs to be shown.
    let other_kind = document(OWN, BOOT, 4, "ecdsa-sha2-nistp256");
    assert_eq!(metadata.admit(&grant(&other_kind, vec![])), Ok(None));
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_shown() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    let granted = alices(GUEST, 1);
    let entry = metadata.admit(&granted).unwrap().unwrap();
    // Nothing can be renamed over a directory, not even by root.
    fs::create_dir(machine.kept(&request(1))).unwrap();
    let deadline = machine.in_a_minute();
    assert_eq!(metadata.install(entry.clone(), &granted, deadline), Err(Refusal::Storage));
    assert_eq!(alices_keys(&metadata, GUEST), []);
    fs::remove_dir(machine.kept(&request(1))).unwrap();
    metadata.install(entry, &granted, deadline).unwrap();
    metadata.give_up(&request(1));
    assert_eq!((alices_keys(&metadata, GUEST), machine.kept_grants()), (vec![], vec![]));
}

/// The control plane says which instances have this host; `metadata.toml` says which of them are answered.
#[tokio::test]
async fn instances_that_come_and_go_take_no_room_from_those_that_are_listed() {
    let machine = TestMachine::new();
    let metadata = machine.start();
    for number in 0..1500 {
        metadata.set_facts(facts(&format!("i-{number:017x}"))).unwrap();
    }
    for id in [GUEST, OTHER_GUEST, OWN] {
        metadata.set_facts(facts(id)).unwrap();
        assert_eq!(get(&metadata, id, "placement/region").0, 200, "{id}");
    }
    for number in 1500..3000 {
        metadata.set_facts(facts(&format!("i-{number:017x}"))).unwrap();
    }
    let most = GUESTS_PER_HOST + 1;
    assert!(machine.kept_facts() <= most && metadata.state().instances.len() <= most);
    drop(metadata);
    let next = machine.start();
    for id in [GUEST, OTHER_GUEST, OWN] {
        assert_eq!(get(&next, id, "placement/region").0, 200, "{id} after a restart");
    }
}

/// What the control plane knows of an instance may come before root lists it.
#[tokio::test]
async fn a_guest_is_known_as_soon_as_it_is_listed() {
    let machine = TestMachine::new();
    let metadata = machine.start_signed();
    let (late, text) =
        ("i-00000000000000a2", "[[guest]]\ninstance = \"i-00000000000000a2\"\ninterface = \"ic-none2\"\n");
    metadata.set_facts(facts(late)).unwrap();
    assert!(metadata.guest(&alices(late, 1)).is_none());
    machine.write_settings(text);
    metadata.set_settings(machine.settings().settings);
    assert!(metadata.guest(&alices(late, 1)).is_some_and(|guest| guest.instance == instance(late)));
    assert!(metadata.guest(&alices(GUEST, 1)).is_none(), "it is listed no longer");
    assert_eq!(get(&metadata, late, "placement/region").0, 200);
    machine.install(&metadata, &alices(late, 1));
    assert_eq!(alices_keys(&metadata, late), [request(1)]);
}
