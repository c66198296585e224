//! Anchors that roll over, and the keys that sign documents under them.

use super::*;
use instance_connect_core::document::{
    self, AnchorSet, AnchorSetRefusal, Anchors, Expected, MachineTime, Refusal, Section, SignerStatement,
    SigningKey, UnixDay,
};
use instance_connect_core::inventory::{AgentIdentity, AnchorChange};
use instance_connect_core::link::{self, HeldAnchors};

impl Setting {
    /// Takes a step, which the control plane then follows.
    async fn roll_over(&self, step: AnchorChange) {
        let Agents { inventory, links, random, .. } = self.agents.as_ref();
        inventory.store().change_anchors(step, self.clock.wall()).await.unwrap();
        links.pki().follow_once(inventory.store(), random.as_ref()).await.unwrap();
    }

    /// A private key of the control plane, as whoever has its store and master key finds it there.
    async fn stolen_key(&self, name: &str) -> SigningKey {
        let authority = self.agents.inventory.store().authority(&name.parse().unwrap()).await.unwrap();
        SigningKey::from_seed(authority.unwrap().secret.expose().try_into().unwrap()).unwrap()
    }

    /// Waits until it is noted that the machine trusts this anchor set.
    async fn trusts(&self, set: u32) {
        while self.agent().await.anchor_set != set {
            tokio::task::yield_now().await;
        }
    }

    /// As the store has it.
    async fn agent(&self) -> AgentIdentity {
        let stored = self.agents.inventory.store().inventory().await.unwrap().inventory;
        stored.agents[&self.world.instance].clone()
    }
}

/// A machine that takes what its own anchors stand behind.
struct Machine<'a> {
    setting: &'a Setting,
    socket: Socket,
    anchors: Anchors,
    /// Every statement that it was sent, last first.
    statements: Vec<String>,
    /// The set it was sent last.
    next: Option<String>,
    /// The keys it has taken, each with the statement for it.
    taken: Vec<(String, link::Grant)>,
}

impl<'a> Machine<'a> {
    async fn enrolled(setting: &'a Setting) -> Self {
        setting.enroll("first").await.unwrap();
        let anchors = std::fs::read_to_string(setting.directory.path().join("first/etc/anchors")).unwrap();
        let (anchors, socket) = (Anchors::parse(&anchors).unwrap(), setting.upgrade("first").await.unwrap());
        let (statements, taken) = (Vec::new(), Vec::new());
        let mut machine = Self { setting, socket, anchors, statements, next: None, taken };
        send(&mut machine.socket, &hello()).await;
        machine.tell().await;
        timeout(PATIENCE, setting.agents.links.connected(&setting.world.instance)).await.unwrap();
        machine
    }

    /// The next frame that is neither a statement nor a set.
    async fn next(&mut self) -> ServerFrame {
        loop {
            match next(&mut self.socket).await.expect("the link stays open") {
                ServerFrame::Signer(signer) => {
                    self.statements.insert(0, signer.statement.as_str().to_owned())
                }
                ServerFrame::Anchors(set) => self.next = Some(set.as_str().to_owned()),
                frame => return frame,
            }
        }
    }

    /// Hears everything that the control plane sends because of a ping.
    async fn ping(&mut self) {
        for sent_at in [BootInstant(2), BootInstant(3)] {
            send(&mut self.socket, &AgentFrame::Ping(Ping { sent_at })).await;
        }
        let mut pongs = 0;
        while pongs < 2 {
            match self.next().await {
                ServerFrame::Pong(_) => pongs += 1,
                ServerFrame::Welcome(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes the set that it was sent, if it was sent one.
    async fn follow(&mut self) {
        self.ping().await;
        let Some(text) = self.next.take() else { return };
        self.take(&text).await;
    }

    /// Takes a set, from whomever it is.
    async fn take(&mut self, text: &str) {
        assert_eq!(text.parse::<AnchorSet>().unwrap().replaces(&self.anchors), Ok(()));
        self.anchors = Anchors::parse(text).unwrap();
        self.tell().await;
    }

    /// Says which anchors it trusts.
    async fn tell(&mut self) {
        send(&mut self.socket, &AgentFrame::Anchors(HeldAnchors::of(&self.anchors))).await;
    }

    /// What a login says of a document with this statement.
    fn judges(&self, statement: &str, document: &str) -> Result<(), Refusal> {
        let Setting { world, clock, .. } = self.setting;
        let now = MachineTime { boot: BootInstant(clock.monotonic().0), wall: clock.wall() };
        let expected = Expected {
            anchors: &self.anchors,
            instance: &world.instance,
            user: &"deploy".parse().unwrap(),
            boot: &read_boot_id().unwrap(),
            fingerprint: None,
            longest_lifetime: Duration::from_secs(60),
        };
        let section = Section { deadline: now.boot.after(Duration::from_secs(1)), statement, document };
        document::verify(&section, &expected, now).map(|_| ())
    }

    /// Takes a key that is pushed to it, by a statement that it was sent before. Those that it has taken within the last
    /// minute still open the account.
    async fn take_a_push(&mut self) {
        let (links, grant) = (Arc::clone(&self.setting.agents.links), self.setting.grant());
        let push = tokio::spawn(async move { links.deliver(grant).await });
        let grant = loop {
            match self.next().await {
                ServerFrame::Grant(grant) => break grant,
                ServerFrame::Welcome(_) => {}
                other => panic!("{other:?}"),
            }
        };
        let is_good = |statement: &&String| self.judges(statement, grant.document.as_str()).is_ok();
        let statement = self.statements.iter().take(limits::STATEMENTS_KEPT).find(is_good).cloned();
        let outcome = AckOutcome::Installed { os_user_exists: true };
        send(&mut self.socket, &AgentFrame::Ack(Ack { id: grant.id, outcome })).await;
        push.await.unwrap().unwrap();
        self.taken.push((statement.expect("a statement for what was pushed"), grant));
        let now = self.setting.clock.monotonic();
        for (statement, grant) in self.taken.iter().filter(|(_, grant)| grant.deadline > now) {
            assert_eq!(self.judges(statement, grant.document.as_str()), Ok(()), "{:?}", self.anchors);
        }
    }
}

/// At every stage a machine takes what is pushed to it, before it follows and after, and what it has taken stays good.
#[tokio::test]
async fn anchors_roll_over_while_keys_are_pushed() {
    use AnchorChange::{Begin, Finish};
    let setting = Setting::new().await;
    let mut machine = Machine::enrolled(&setting).await;
    let mut signers = std::collections::BTreeSet::new();
    machine.take_a_push().await;
    for (step, set, anchor, withheld) in
        [(Begin, 2, 1, 0), (Finish, 3, 2, 120), (Begin, 4, 2, 0), (Finish, 5, 3, 120)]
    {
        setting.roll_over(step).await;
        machine.take_a_push().await;
        // A key that is pushed when the old anchor is about to be forgotten has its minute, too.
        setting.wait(Duration::from_secs(withheld)).await;
        machine.take_a_push().await;
        machine.follow().await;
        assert_eq!(machine.anchors.set(), set);
        machine.take_a_push().await;
        let (statement, _) = machine.taken.last().unwrap();
        signers.insert((anchor, statement.split(' ').nth(1).unwrap().to_owned()));
        // What was said soon after the last time is noted with a later ping.
        setting.wait(limits::ANCHOR_REPORTS).await;
        machine.ping().await;
        timeout(PATIENCE, setting.trusts(set)).await.unwrap();
    }
    assert_eq!(signers.len(), 3, "each anchor has one signer: {signers:?}");
    assert_eq!(signers.iter().map(|(_, signer)| signer).collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[tokio::test]
async fn machines_forget_an_anchor_two_minutes_after_it_and_not_earlier_by_the_next_roll_over() {
    let setting = Setting::new().await;
    let mut machine = Machine::enrolled(&setting).await;
    setting.roll_over(AnchorChange::Begin).await;
    machine.follow().await;
    machine.take_a_push().await;
    setting.roll_over(AnchorChange::Finish).await;
    let store = setting.agents.inventory.store();
    for seconds in [0, 119] {
        setting.wait(Duration::from_secs(seconds)).await;
        assert!(store.change_anchors(AnchorChange::Begin, setting.clock.wall()).await.is_err());
        machine.follow().await;
        assert_eq!(machine.anchors.set(), 2);
        machine.take_a_push().await;
    }
    setting.wait(Duration::from_secs(1)).await;
    machine.follow().await;
    assert_eq!(machine.anchors.set(), 3);
    setting.roll_over(AnchorChange::Begin).await;
    machine.follow().await;
    assert_eq!(machine.anchors.set(), 4);
}

/// Whoever has copied store and master key has every key there was. Catches the planted `signer-kept`.
#[tokio::test]
async fn a_store_that_was_stolen_before_a_roll_over_signs_nothing_after_it() {
    let setting = Setting::new().await;
    let mut machine = Machine::enrolled(&setting).await;
    machine.take_a_push().await;
    let (anchor, signer) = (setting.stolen_key("anchor").await, setting.stolen_key("signer").await);
    let (region, boot) = (&setting.world.region, read_boot_id().unwrap());
    let forged = || setting.grant().document(&boot, &signer).unwrap();
    let statement =
        SignerStatement::issue(&anchor, signer.verifying_key(), region, UnixDay(u32::MAX)).to_string();
    assert_eq!(machine.judges(&statement, &forged()), Ok(()), "what was stolen is of use");

    setting.roll_over(AnchorChange::Begin).await;
    machine.follow().await;
    setting.roll_over(AnchorChange::Finish).await;
    machine.take_a_push().await;
    setting.wait(limits::ANCHORS_WITHHELD).await;
    machine.follow().await;
    assert_eq!(machine.anchors.set(), 3);
    machine.take_a_push().await;

    // Neither by the thief's own statement nor by any that was ever sent.
    for statement in machine.statements.iter().chain([&statement]) {
        assert!(machine.judges(statement, &forged()).is_err(), "{statement}");
    }
    // The signer does not vouch for itself, and the anchor does not come back.
    let own = SignerStatement::issue(&signer, signer.verifying_key(), region, UnixDay(u32::MAX)).to_string();
    assert_eq!(machine.judges(&own, &forged()), Err(Refusal::UnknownSigner));
    let set: AnchorSet = AnchorSet::issue(&anchor, 99, region, &[anchor.verifying_key()]).parse().unwrap();
    assert_eq!(set.replaces(&machine.anchors), Err(AnchorSetRefusal::Untrusted));
}

/// Whoever has the first anchor signs for machines that have not forgotten it: what they take from a thief bears a good
/// number, and keys that are pushed go on to be good there. Catches the planted `anchors-believed`.
#[tokio::test]
async fn a_machine_that_follows_a_thief_is_not_taken_for_one_that_has_followed() {
    // Whether it has the right set of the overlap, whether the thief comes after the end of that, and with which number.
    for (has_next, is_finished, forged) in
        [(true, false, 3), (true, true, 3), (false, false, 2), (true, false, 99)]
    {
        let setting = Setting::new().await;
        let mut machine = Machine::enrolled(&setting).await;
        timeout(PATIENCE, setting.trusts(1)).await.unwrap();
        setting.wait(limits::ANCHOR_REPORTS).await;
        setting.roll_over(AnchorChange::Begin).await;
        if has_next {
            machine.follow().await;
            timeout(PATIENCE, setting.trusts(2)).await.unwrap();
            setting.wait(limits::ANCHOR_REPORTS).await;
        } else {
            machine.ping().await;
            machine.next = None;
        }
        if is_finished {
            setting.roll_over(AnchorChange::Finish).await;
        }
        let (stolen, next) = (setting.stolen_key("anchor").await, setting.stolen_key("anchor-2").await);
        let thief = SigningKey::from_seed(&[9; 32]).unwrap();
        let trusted = [next.verifying_key(), thief.verifying_key()];
        machine.take(&AnchorSet::issue(&stolen, forged, &setting.world.region, &trusted)).await;
        machine.ping().await;
        timeout(PATIENCE, setting.trusts(0)).await.expect("it is one that has not followed");
        if !is_finished {
            setting.roll_over(AnchorChange::Finish).await;
        }
        setting.wait(limits::ANCHORS_WITHHELD).await;
        machine.take_a_push().await;

        // It is sent a set that it could take, once; and never one that it must refuse.
        machine.ping().await;
        assert_eq!(machine.next.take().is_some(), forged < 3);
        machine.tell().await;
        machine.ping().await;
        assert_eq!(machine.next, None);
        setting.wait(limits::ANCHOR_REPORTS).await;
        machine.ping().await;
        assert_eq!(setting.agent().await.anchor_set, 0, "{forged}");

        // The operator copies the file of another machine.
        machine.anchors = Anchors::parse(&setting.agents.links.pki().anchors()).unwrap();
        machine.tell().await;
        timeout(PATIENCE, setting.trusts(3)).await.expect("now it has followed");
    }
}

/// A machine that says now this and now that, over one link after the other: nobody else hears of it, and it is written seldom.
#[tokio::test]
async fn what_a_machine_says_of_its_anchors_is_noted_seldom_and_wakes_nobody() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let first = setting.agents.links.pki().anchors();
    setting.roll_over(AnchorChange::Begin).await;
    let second = setting.agents.links.pki().anchors();
    let store = setting.agents.inventory.store();
    let mut link = setting.open("first").await;
    let before = store.sequence().await.unwrap();
    send_anchors_and_wait(&mut link, &first).await;
    timeout(PATIENCE, setting.trusts(1)).await.unwrap();
    drop(link);
    let mut link = setting.open("first").await;
    send_anchors_and_wait(&mut link, &second).await;
    assert_eq!(setting.agent().await.anchor_set, 1);
    setting.wait(limits::ANCHOR_REPORTS).await;
    send(&mut link, &AgentFrame::Ping(Ping { sent_at: BootInstant(3) })).await;
    timeout(PATIENCE, setting.trusts(2)).await.unwrap();
    assert_eq!(store.sequence().await.unwrap(), before);
}

async fn send_anchors_and_wait(link: &mut Socket, file: &str) {
    send(link, &AgentFrame::Anchors(HeldAnchors::of(&Anchors::parse(file).unwrap()))).await;
    send(link, &AgentFrame::Ping(Ping { sent_at: BootInstant(2) })).await;
    while !matches!(next(link).await.expect("a pong"), ServerFrame::Pong(_)) {}
}

#[tokio::test]
async fn a_roll_over_that_began_before_anybody_followed_is_followed() {
    let setting = Setting::new().await;
    let Agents { inventory, links, random, .. } = setting.agents.as_ref();
    inventory.store().change_anchors(AnchorChange::Begin, setting.clock.wall()).await.unwrap();
    inventory.refresh().await.unwrap();
    let followed = async {
        while links.pki().newest_anchor_set() != 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, async {
        tokio::select! { () = links.pki().follow(inventory, random.as_ref()) => {}, () = followed => {} }
    })
    .await
    .unwrap();
    assert_eq!(links.pki().newest_anchor_set(), 2);
}
