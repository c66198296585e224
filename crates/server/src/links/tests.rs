use super::*;
use crate::streams::{NoStream, Stream, Streams};
use instance_connect_core::console::Mode;
use instance_connect_core::document::{UnixSeconds, base64_decode};
use instance_connect_core::link::StreamRefusal;
use instance_connect_store::{MasterKey, SqliteStore};
use instance_connect_testkit::{ManualClock, SeededRandom, World};
use std::time::Duration;

struct Setting {
    links: Arc<Links>,
    clock: Arc<ManualClock>,
    world: World,
    _directory: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Self {
        let (directory, random) = (tempfile::tempdir().unwrap(), Arc::new(SeededRandom::new(1)));
        let world = World::new();
        let clock = Arc::new(ManualClock::new(world.now, ServerInstant(1_000_000_000)));
        let store =
            SqliteStore::open(directory.path(), &MasterKey::from_bytes([1; 32]), random.clone()).unwrap();
        let pki = Pki::load(&store, random.as_ref(), &world.region, UnixSeconds(world.now.0)).await.unwrap();
        let links = Arc::new(Links::new(Arc::new(pki), StockSigners::of_tests().await, clock.clone()));
        Self { links, clock, world, _directory: directory }
    }

    fn grant(&self, number: u32) -> Grant {
        self.grant_of(&self.world, number)
    }

    /// A grant for the instance of this world.
    fn grant_of(&self, world: &World, number: u32) -> Grant {
        let request = format!("0b7f1c52-6a0e-4c11-9d0b-{number:012x}").parse().unwrap();
        let authorized = world.authorized("deploy").unwrap();
        Grant::issue(&authorized, request, self.clock.wall(), self.clock.monotonic()).unwrap()
    }

    fn deliver(&self, number: u32) -> tokio::task::JoinHandle<Result<Delivered, DeliveryError>> {
        self.deliver_grant(self.grant(number))
    }

    fn deliver_grant(&self, grant: Grant) -> tokio::task::JoinHandle<Result<Delivered, DeliveryError>> {
        let links = Arc::clone(&self.links);
        tokio::spawn(async move { links.deliver(grant).await })
    }

    /// The link of the instance's agent, put in its place.
    fn connect(&self, boot: &str) -> (Arc<Link>, mpsc::Receiver<ServerFrame>, Vec<Withdraw>) {
        self.connect_at(&self.world.instance, boot)
    }

    /// The link of this instance's agent, put in its place.
    fn connect_at(
        &self,
        instance: &InstanceId,
        boot: &str,
    ) -> (Arc<Link>, mpsc::Receiver<ServerFrame>, Vec<Withdraw>) {
        let claim =
            LinkClaim { boot_id: boot.parse().unwrap(), source: "192.0.2.1".parse().unwrap(), generation: 1 };
        let (link, wanted) = Link::new(claim, self.clock.monotonic(), false);
        let opened = self.links.slot(instance).open(&link, None, self.clock.monotonic());
        (link, wanted.frames, opened.unwrap().withdrawals)
    }
}

const BOOT: &str = "5c0c6f9e-3f60-4c11-9d0b-1c5a6f0e9a11";
const NEXT_BOOT: &str = "6c0c6f9e-3f60-4c11-9d0b-1c5a6f0e9a11";
const INSTALLED: AckOutcome = AckOutcome::Installed { os_user_exists: true };

async fn next_grant(queue: &mut mpsc::Receiver<ServerFrame>) -> link::Grant {
    match queue.recv().await {
        Some(ServerFrame::Grant(grant)) => grant,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn success_only_after_the_acknowledgement() {
    let setting = Setting::new().await;
    let (link, mut queue, _) = setting.connect(BOOT);
    let push = setting.deliver(1);
    let grant = next_grant(&mut queue).await;
    assert_eq!(grant.deadline, setting.clock.monotonic().after(Duration::from_secs(60)));
    assert!(grant.document.as_str().contains(&format!("#Boot={BOOT}\n")));
    let signature = grant.document.as_str().trim_end().lines().last().unwrap().to_owned();
    assert_eq!(base64_decode(&signature).unwrap().len(), 64);
    assert!(!push.is_finished());
    // Somebody else's acknowledgement is not ours.
    link.acknowledged(GrantId(grant.id.0 + 1), INSTALLED);
    tokio::task::yield_now().await;
    assert!(!push.is_finished());
    link.acknowledged(grant.id, AckOutcome::Installed { os_user_exists: false });
    assert!(!push.await.unwrap().unwrap().os_user_exists);
    // Acknowledged twice: nobody waits, nothing happens.
    link.acknowledged(grant.id, INSTALLED);
}

#[tokio::test(start_paused = true)]
async fn a_push_waits_for_an_agent_between_two_links() {
    let setting = Setting::new().await;
    let push = setting.deliver(1);
    tokio::time::sleep(Duration::from_millis(1900)).await;
    let (link, mut queue, _) = setting.connect(BOOT);
    link.acknowledged(next_grant(&mut queue).await.id, INSTALLED);
    assert!(push.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_link_lost_before_the_acknowledgement_is_not_the_end() {
    let setting = Setting::new().await;
    let (first, mut queue, _) = setting.connect(BOOT);
    let push = setting.deliver(1);
    let lost = next_grant(&mut queue).await;
    setting.links.slot(&setting.world.instance).close(&first);
    let (second, mut queue, _) = setting.connect(NEXT_BOOT);
    let again = next_grant(&mut queue).await;
    // Signed for the boot that the machine is in now.
    assert!(again.document.as_str().contains(&format!("#Boot={NEXT_BOOT}\n")));
    // The late acknowledgement of the lost link counts for nothing.
    first.acknowledged(lost.id, INSTALLED);
    tokio::task::yield_now().await;
    assert!(!push.is_finished());
    second.acknowledged(again.id, INSTALLED);
    assert!(push.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_an_acknowledgement_the_key_is_withdrawn_until_it_has_expired() {
    let setting = Setting::new().await;
    let (link, mut queue, _) = setting.connect(BOOT);
    let push = setting.deliver(1);
    next_grant(&mut queue).await;
    assert_eq!(push.await.unwrap().unwrap_err(), DeliveryError::Unknown);
    // At once,
    let Some(ServerFrame::Withdraw(sent)) = queue.recv().await else { panic!("no withdrawal") };
    assert_eq!(sent.request_id, *setting.grant(1).request());
    // at each reconnect,
    setting.links.slot(&setting.world.instance).close(&link);
    let (_, _, owed) = setting.connect(BOOT);
    assert_eq!(owed, std::slice::from_ref(&sent));
    let (_, _, owed) = setting.connect(BOOT);
    assert_eq!(owed, std::slice::from_ref(&sent));
    // until the machine says that it is gone,
    setting.links.slot(&setting.world.instance).withdrawn(sent.id);
    assert!(setting.connect(BOOT).2.is_empty());
    // or it has expired.
    let (_link, mut queue, _) = setting.connect(BOOT);
    let push = setting.deliver(2);
    next_grant(&mut queue).await;
    assert_eq!(push.await.unwrap().unwrap_err(), DeliveryError::Unknown);
    assert_eq!(setting.connect(BOOT).2.len(), 1);
    setting.clock.advance(Duration::from_secs(60));
    assert!(setting.connect(BOOT).2.is_empty());
}

/// The first attempt was installed and its answer lost; the second is refused because the disk has filled meanwhile.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_lost_attempt_withdraws_what_that_may_have_left() {
    let setting = Setting::new().await;
    let (first, mut queue, _) = setting.connect(BOOT);
    let push = setting.deliver(1);
    next_grant(&mut queue).await;
    setting.links.slot(&setting.world.instance).close(&first);
    let (second, mut queue, _) = setting.connect(BOOT);
    second.acknowledged(next_grant(&mut queue).await.id, AckOutcome::Refused(Refusal::Storage));
    // Whether the key is there is not known, whatever the second attempt says.
    assert_eq!(push.await.unwrap().unwrap_err(), DeliveryError::Unknown);
    assert!(matches!(queue.recv().await, Some(ServerFrame::Withdraw(_))));
}

#[tokio::test(start_paused = true)]
async fn a_grant_whose_push_has_given_up_is_not_sent_any_more() {
    let setting = Setting::new().await;
    let (link, mut queue, _) = setting.connect(BOOT);
    let push = setting.deliver(1);
    let frame = queue.recv().await.unwrap();
    assert!(!link.is_moot(&frame));
    assert_eq!(push.await.unwrap().unwrap_err(), DeliveryError::Unknown);
    assert!(link.is_moot(&frame));
    assert!(!link.is_moot(&queue.recv().await.unwrap()), "the withdrawal is");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told() {
    let setting = Setting::new().await;
    let (link, mut queue, _) = setting.connect(BOOT);
    let push = setting.deliver(1);
    link.acknowledged(next_grant(&mut queue).await.id, AckOutcome::Refused(Refusal::Vetoed));
    assert_eq!(push.await.unwrap().unwrap_err(), DeliveryError::Refused(Refusal::Vetoed));
    assert!(queue.try_recv().is_err(), "nothing is there to be withdrawn");
}

#[tokio::test(start_paused = true)]
async fn pushes_in_flight_to_one_instance_are_bounded() {
    let setting = Setting::new().await;
    let (link, mut queue, _) = setting.connect(BOOT);
    let waiting: Vec<_> = (0..8).map(|number| setting.deliver(number)).collect();
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(next_grant(&mut queue).await.id);
    }
    assert_eq!(setting.deliver(8).await.unwrap().unwrap_err(), DeliveryError::Busy);
    ids.into_iter().for_each(|id| link.acknowledged(id, INSTALLED));
    for push in waiting {
        assert!(push.await.unwrap().is_ok());
    }
    let push = setting.deliver(9);
    link.acknowledged(next_grant(&mut queue).await.id, INSTALLED);
    assert!(push.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_link_that_was_replaced_does_not_take_the_place_of_its_successor() {
    let setting = Setting::new().await;
    let (first, _first_queue, _) = setting.connect(BOOT);
    let (second, mut queue, _) = setting.connect(BOOT);
    setting.links.slot(&setting.world.instance).close(&first);
    let push = setting.deliver(1);
    second.acknowledged(next_grant(&mut queue).await.id, INSTALLED);
    assert!(push.await.unwrap().is_ok());
}

/// An agent that does what it is told, and says so.
async fn obey(
    links: Arc<Links>,
    instance: InstanceId,
    link: Arc<Link>,
    mut queue: mpsc::Receiver<ServerFrame>,
) {
    while let Some(frame) = queue.recv().await {
        match frame {
            ServerFrame::Grant(grant) => link.acknowledged(grant.id, INSTALLED),
            ServerFrame::Withdraw(withdraw) => links.slot(&instance).withdrawn(withdraw.id),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_revoked_by_machine_key_and_principal() {
    let setting = Setting::new().await;
    let (link, queue, _) = setting.connect(BOOT);
    let instance = &setting.world.instance;
    tokio::spawn(obey(Arc::clone(&setting.links), instance.clone(), link, queue));
    let revoke = async |selection| {
        let revoked = setting.links.revoke(selection).await;
        assert!(revoked.iter().all(|revoked| revoked.confirmed), "{revoked:?}");
        revoked.into_iter().map(|revoked| revoked.key.request).collect::<Vec<_>>()
    };
    let alice = setting.grant(0).caller().to_owned();
    let fingerprint = setting.grant(0).fingerprint();
    let other_instance: InstanceId = "i-0ffffffffffffffff".parse().unwrap();
    let none = Selection::default();
    for (selection, is_meant) in [
        (Selection { instance: Some(instance), ..none }, true),
        (Selection { instance: Some(&other_instance), ..none }, false),
        (Selection { principal: Some(&alice), ..none }, true),
        (Selection { principal: Some("arn:aws:iam::111122223333:user/bob"), ..none }, false),
        (Selection { instance: Some(instance), fingerprint: Some(fingerprint), ..none }, true),
        (
            Selection {
                instance: Some(instance),
                fingerprint: Some(instance_connect_core::ids::Fingerprint::from_bytes([0; 32])),
                ..none
            },
            false,
        ),
    ] {
        for number in 1..=2 {
            setting.deliver(number).await.unwrap().unwrap();
        }
        let expected: Vec<_> =
            if is_meant { (1..=2).map(|n| setting.grant(n).request().clone()).collect() } else { vec![] };
        assert_eq!(revoke(selection).await, expected, "{selection:?}");
        assert_eq!(revoke(Selection { instance: Some(instance), ..none }).await.len(), 2 - expected.len());
        // What was withdrawn is not there any more.
        assert!(revoke(none).await.is_empty());
    }
    setting.deliver(1).await.unwrap().unwrap();
    setting.clock.advance(Duration::from_secs(60));
    assert!(revoke(none).await.is_empty(), "it has expired");
}

/// More of them than a link's queue holds, and none is lost.
#[tokio::test(start_paused = true)]
async fn every_key_of_a_machine_is_revoked_at_once() {
    let setting = Setting::new().await;
    let (link, queue, _) = setting.connect(BOOT);
    tokio::spawn(obey(Arc::clone(&setting.links), setting.world.instance.clone(), link, queue));
    for number in 0..200 {
        setting.deliver(number).await.unwrap().unwrap();
    }
    let revoked = setting.links.revoke(Selection::default()).await;
    assert_eq!(revoked.iter().filter(|revoked| revoked.confirmed).count(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_not_reached_is_told_when_it_is_back() {
    let setting = Setting::new().await;
    let (link, mut queue, _) = setting.connect(BOOT);
    let push = setting.deliver(1);
    link.acknowledged(next_grant(&mut queue).await.id, INSTALLED);
    push.await.unwrap().unwrap();
    setting.links.slot(&setting.world.instance).close(&link);
    let [revoked] = setting.links.revoke(Selection::default()).await.try_into().unwrap();
    assert!(!revoked.confirmed);
    let (_, _, owed) = setting.connect(BOOT);
    assert_eq!(owed.len(), 1);
    assert_eq!(owed[0].request_id, revoked.key.request);
}

/// A push that is under way when its principal is revoked: its withdrawal comes first, and the agent refuses it.
#[tokio::test(start_paused = true)]
async fn a_push_under_way_is_revoked_too() {
    let setting = Setting::new().await;
    let push = setting.deliver(1);
    tokio::task::yield_now().await;
    let [revoked] = setting.links.revoke(Selection::default()).await.try_into().unwrap();
    assert_eq!((revoked.key.request, revoked.confirmed), (setting.grant(1).request().clone(), false));
    let (_, _, owed) = setting.connect(BOOT);
    assert_eq!(owed.len(), 1);
    push.abort();
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_needs_no_revocation() {
    let setting = Setting::new().await;
    let (link, mut queue, _) = setting.connect(BOOT);
    let push = setting.deliver(1);
    link.acknowledged(next_grant(&mut queue).await.id, AckOutcome::Refused(Refusal::Vetoed));
    assert!(push.await.unwrap().is_err());
    assert!(setting.links.revoke(Selection::default()).await.is_empty());
}

const GUEST: &str = "i-0aaaaaaaaaaaaaaaa";

/// Whoever enrols a machine as the guest gets none of its keys: an operator has said who answers for it.
#[tokio::test(start_paused = true)]
async fn a_push_to_a_guest_goes_over_its_hosts_link() {
    let setting = Setting::new().await;
    let guest = setting.world.with_guest(GUEST);
    let (host_link, mut queue, _) = setting.connect(BOOT);
    let (guest_link, mut guest_queue, _) = setting.connect_at(&guest.instance, NEXT_BOOT);
    let push = setting.deliver_grant(setting.grant_of(&guest, 1));
    let grant = next_grant(&mut queue).await;
    let document = grant.document.as_str();
    assert!(document.contains(&format!("#Instance={GUEST}\n")), "{document}");
    assert!(document.contains(&format!("#Boot={BOOT}\n")), "{document}");
    guest_link.acknowledged(grant.id, INSTALLED);
    tokio::task::yield_now().await;
    assert!(!push.is_finished());
    host_link.acknowledged(grant.id, INSTALLED);
    assert_eq!(push.await.unwrap().unwrap().grant.instance(), &guest.instance);
    assert!(guest_queue.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_a_guest_may_have_is_withdrawn_over_its_hosts_links() {
    let setting = Setting::new().await;
    let guest = setting.world.with_guest(GUEST);
    let (link, mut queue, _) = setting.connect(BOOT);
    let push = setting.deliver_grant(setting.grant_of(&guest, 1));
    next_grant(&mut queue).await;
    assert_eq!(push.await.unwrap().unwrap_err(), DeliveryError::Unknown);
    let Ok(ServerFrame::Withdraw(sent)) = queue.try_recv() else { panic!("no withdrawal") };
    assert_eq!(sent.request_id, *setting.grant_of(&guest, 1).request());
    setting.links.slot(&setting.world.instance).close(&link);
    assert_eq!(setting.connect(BOOT).2, std::slice::from_ref(&sent));
    // An agent of the guest's own is not told, and cannot say that it is done.
    assert!(setting.connect_at(&guest.instance, NEXT_BOOT).2.is_empty());
    setting.links.slot(&guest.instance).withdrawn(sent.id);
    assert_eq!(setting.connect(BOOT).2, std::slice::from_ref(&sent));
    setting.links.slot(&setting.world.instance).withdrawn(sent.id);
    assert!(setting.connect(BOOT).2.is_empty());
}

#[tokio::test(start_paused = true)]
async fn keys_of_a_guest_and_of_its_host_are_revoked_apart() {
    let setting = Setting::new().await;
    let guests = [setting.world.with_guest(GUEST), setting.world.with_guest("i-0bbbbbbbbbbbbbbbb")];
    let (link, queue, _) = setting.connect(BOOT);
    let host = &setting.world.instance;
    let agent = tokio::spawn(obey(Arc::clone(&setting.links), host.clone(), Arc::clone(&link), queue));
    let worlds = [&setting.world, &guests[0], &guests[1]];
    let deliver_to_each = async || {
        for (number, world) in (1..).zip(worlds) {
            setting.deliver_grant(setting.grant_of(world, number)).await.unwrap().unwrap();
        }
    };
    let revoke = async |selection| {
        let revoked = setting.links.revoke(selection).await;
        revoked.into_iter().map(|Revoked { key, confirmed }| (key.instance, confirmed)).collect::<Vec<_>>()
    };
    deliver_to_each().await;
    for World { instance, .. } in worlds {
        let selection = Selection { instance: Some(instance), ..Selection::default() };
        assert_eq!(revoke(selection).await, [(instance.clone(), true)]);
    }
    deliver_to_each().await;
    assert_eq!(revoke(Selection::default()).await.len(), worlds.len());
    // A host that is not reached is told of its guests' keys when it is back.
    deliver_to_each().await;
    setting.links.slot(host).close(&link);
    agent.abort();
    let selection = Selection { instance: Some(&guests[1].instance), ..Selection::default() };
    assert_eq!(revoke(selection).await, [(guests[1].instance.clone(), false)]);
    let requests: Vec<_> = setting.connect(BOOT).2.into_iter().map(|owed| owed.request_id).collect();
    assert_eq!(requests, [setting.grant_of(&guests[1], 3).request().clone()]);
    assert!(setting.connect_at(&guests[1].instance, BOOT).2.is_empty());
}

fn console_line(setting: &Setting) -> OwnedLine {
    OwnedLine { instance: setting.world.instance.clone(), port: 0 }
}

/// Asks for a stream, and gives what the agent was told of it.
async fn asked_for(
    setting: &Setting,
    streams: &Arc<Streams>,
    queue: &mut mpsc::Receiver<ServerFrame>,
) -> (tokio::task::JoinHandle<Result<Stream, NoStream>>, link::OpenStream) {
    let (streams, agent, line) = (Arc::clone(streams), setting.world.instance.clone(), console_line(setting));
    let opening = tokio::spawn(async move { streams.open(&agent, line, Mode::Write, 7).await });
    match queue.recv().await {
        Some(ServerFrame::OpenStream(open)) => (opening, open),
        other => panic!("{other:?}"),
    }
}

/// A ticket is for one agent, once, and for ten seconds. Catches the planted `tickets-of-others`.
#[tokio::test]
async fn a_stream_is_brought_by_whom_it_was_asked_of_and_once() {
    let setting = Setting::new().await;
    let streams = Arc::new(Streams::new(Arc::clone(&setting.links), Arc::new(SeededRandom::new(2))));
    let (agent, other) = (&setting.world.instance, &"i-0fedcba9876543210".parse().unwrap());
    assert!(!streams.is_owned(agent, &console_line(&setting)));
    let (link, mut queue, _) = setting.connect(BOOT);
    let no_line = streams.open(agent, console_line(&setting), Mode::Write, 0).await;
    assert_eq!(no_line.err(), Some(NoStream::NoLink));
    link.owns_now(vec![console_line(&setting)]);
    assert!(
        streams.is_owned(agent, &console_line(&setting)) && !streams.is_owned(other, &console_line(&setting))
    );

    let (opening, open) = asked_for(&setting, &streams, &mut queue).await;
    assert_eq!((&open.line, open.mode, open.replay), (&console_line(&setting), Mode::Write, 7));
    assert!(streams.redeem(other, &open.ticket).is_none());
    assert!(streams.redeem(agent, &link::StreamTicket::from_bytes([0; 32])).is_none());
    streams.refused(other, open.id, StreamRefusal::Occupied);
    let awaited = streams.redeem(agent, &open.ticket);
    assert!(awaited.is_some() && streams.redeem(agent, &open.ticket).is_none());
    // It is brought to nothing: whoever waits hears of it.
    drop(awaited);
    assert_eq!(opening.await.unwrap().err(), Some(NoStream::Late));

    let (opening, open) = asked_for(&setting, &streams, &mut queue).await;
    streams.refused(agent, open.id, StreamRefusal::Occupied);
    assert_eq!(opening.await.unwrap().err(), Some(NoStream::Refused(StreamRefusal::Occupied)));
    assert!(streams.redeem(agent, &open.ticket).is_none());

    let (opening, open) = asked_for(&setting, &streams, &mut queue).await;
    setting.clock.advance(link::limits::STREAM_TICKET);
    assert!(streams.redeem(agent, &open.ticket).is_none());
    opening.abort();
    assert!(opening.await.unwrap_err().is_cancelled());
    assert_eq!(streams.waiting(), 0);
}
