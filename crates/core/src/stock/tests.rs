use super::fixture::*;
use super::*;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RSA_PSS_SHA384, RsaEncoding, RsaPssSaltLength};
use instance_connect_document::{KeyLine, base64_decode};
use proptest::prelude::*;
use std::sync::LazyLock;

/// An entry as the stock host scripts read it.
struct Read<'a> {
    signed: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    key_line: &'a str,
    signature: Vec<u8>,
}

impl<'a> Read<'a> {
    fn header(&self, name: &str) -> &'a str {
        self.headers.iter().find(|(header, _)| *header == name).unwrap().1
    }

    fn is_signed_by(&self, public_key: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, public_key);
        key.verify(self.signed.as_bytes(), &self.signature).is_ok()
    }
}

/// The grammar of wire.md 3.5 to the letter; what the scripts skip or stop at is an error here. Nothing of the crate that
/// writes documents takes part.
fn read<'a>(blob: &'a str) -> Result<Vec<Read<'a>>, &'static str> {
    if blob.contains('\r') {
        return Err("CR");
    }
    if !blob.ends_with("\n\n") {
        return Err("no blank line at the end");
    }
    let mut entries = Vec::new();
    let mut rest = blob;
    while let Some(entry) = Some(rest.trim_start_matches('\n')).filter(|rest| !rest.is_empty()) {
        let end = entry.find("\n\n").ok_or("no blank line after an entry")? + 1;
        let lines: Vec<&str> = entry[..end].split_inclusive('\n').collect();
        let headers: Vec<&str> = lines.iter().copied().take_while(|line| line.starts_with('#')).collect();
        let (key_line, signature) = lines[headers.len()..].split_first().ok_or("no key line")?;
        if headers.is_empty() || !key_line.starts_with("ssh") {
            return Err("no headers, or a key line that does not begin with ssh");
        }
        let signature: String = signature.iter().map(|line| line.trim_end_matches('\n')).collect();
        let header = |line: &'a str| line.trim_end().strip_prefix('#')?.split_once('=');
        let signed = headers.iter().map(|line| line.len()).sum::<usize>() + key_line.len();
        entries.push(Read {
            signed: &entry[..signed],
            headers: headers.into_iter().map(header).collect::<Option<_>>().ok_or("a header is none")?,
            key_line: key_line.trim_end(),
            signature: base64_decode(&signature).filter(|bytes| bytes.len() == 256).ok_or("signature")?,
        });
        rest = &entry[end..];
    }
    Ok(entries)
}

fn keys() -> StockKeys {
    StockKeys::new(INSTANCE.parse().unwrap())
}

fn alices(number: u32) -> String {
    document(INSTANCE, "alice", number, &key_line("ssh-ed25519", number))
}

#[test]
fn only_signatures_of_signers_in_force_are_admitted() {
    let document = alices(1);
    let text = stock_text(&document).unwrap();
    let (good, next) = (twin(1, 0, &document), twin(2, 1, &document));
    let by =
        |encoding: &'static dyn RsaEncoding| Twin { generation: 1, signature: sign_with(encoding, 0, &text) };
    static SALT_20: LazyLock<aws_lc_rs::signature::RsaSignatureEncoding> =
        LazyLock::new(|| RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(20)));
    let under = |signature| Twin { generation: 1, signature };
    let refused = Err(Refusal::StockSignature);
    let rows: Vec<(&str, Vec<Twin>, Result<usize, Refusal>)> = vec![
        ("both", vec![good.clone(), next.clone()], Ok(2)),
        ("the older alone", vec![good.clone()], Ok(1)),
        ("the newer alone", vec![next.clone()], Ok(1)),
        ("with one that nobody announced", vec![good.clone(), twin(3, 2, &document)], Ok(1)),
        ("none", vec![], refused),
        ("one that nobody announced", vec![twin(3, 2, &document)], refused),
        ("under the other's number", vec![twin(1, 1, &document)], refused),
        ("a good one and a wrong one", vec![good.clone(), twin(2, 0, &document)], refused),
        ("of another document", vec![twin(1, 0, &alices(2))], refused),
        ("of the document as it is", vec![under(sign_with(&RSA_PSS_SHA256, 0, &document))], refused),
        ("with a salt of 20 bytes", vec![by(&*SALT_20)], refused),
        ("with another hash", vec![by(&RSA_PSS_SHA384)], refused),
        ("without PSS", vec![by(&RSA_PKCS1_SHA256)], refused),
    ];
    let mut keys = keys();
    keys.set_signers(vec![signer(1, 0, false), signer(2, 1, false)]);
    for (name, twins, expected) in rows {
        assert_eq!(keys.admit(&document, &twins, NOW).map(|entry| entry.twins.len()), expected, "{name}");
    }
    keys.set_signers(vec![signer(1, 0, true), signer(2, 1, false)]);
    assert_eq!(
        keys.admit(&document, std::slice::from_ref(&good), NOW),
        Err(Refusal::StockSignature),
        "revoked"
    );
    assert!(keys.admit(&document, &[good.clone(), next], NOW).is_ok(), "one of them revoked");
    keys.set_signers(vec![]);
    assert_eq!(keys.admit(&document, &[good], NOW), Err(Refusal::StockSignature), "no signer");
}

#[test]
fn only_documents_that_the_scripts_can_read_are_admitted() {
    let mut keys = keys();
    keys.set_signers(vec![signer(1, 0, false)]);
    let any = [twin(1, 0, &alices(1))];
    for kind in ["ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"] {
        let document = document(INSTANCE, "alice", 1, &key_line(kind, 1));
        assert_eq!(keys.admit(&document, &any, NOW), Err(Refusal::StockSignature), "{kind}");
    }
    let document = document(OTHER_INSTANCE, "alice", 1, &key_line("ssh-rsa", 1));
    assert_eq!(keys.admit(&document, &[twin(1, 0, &document)], NOW), Err(Refusal::WrongInstance));
    for malformed in ["", "#Alg=ed25519\n", &document.replace("\n\n", "\n"), &document.replace('\n', "\r\n")]
    {
        assert_eq!(keys.admit(malformed, &any, NOW), Err(Refusal::Malformed));
    }
}

/// Generations 1 and 2 with keys 0 and 1, and a grant for each row of generations.
fn with_grants(rows: &[&[u32]]) -> StockKeys {
    let mut keys = keys();
    keys.set_signers(vec![signer(1, 0, false), signer(2, 1, false)]);
    for (number, generations) in (1..).zip(rows) {
        let document = alices(number);
        let twin = |generation: &u32| twin(*generation, (*generation - 1).try_into().unwrap(), &document);
        let entry = keys.admit(&document, &generations.iter().map(twin).collect::<Vec<_>>(), NOW).unwrap();
        keys.install(entry, NOW.after(seconds(u64::from(number))));
    }
    keys
}

#[test]
fn readers_begin_with_the_generation_that_shows_every_key() {
    let rows: [(&[&[u32]], u32); 8] = [
        (&[], 2),
        (&[&[1, 2]], 2),
        (&[&[2]], 2),
        (&[&[1]], 1),
        (&[&[1], &[1, 2]], 1),
        (&[&[1], &[2]], 2),
        (&[&[1], &[1], &[2]], 1),
        (&[&[1], &[2], &[1, 2]], 2),
    ];
    for (grants, expected) in rows {
        assert_eq!(with_grants(grants).generation(NOW), Some(expected), "{grants:?}");
    }
    // The grant that only the older one signed ends first.
    assert_eq!(with_grants(&[&[1], &[1, 2]]).generation(NOW.after(seconds(1))), Some(2));
    let mut keys = with_grants(&[&[1]]);
    keys.set_signers(vec![signer(1, 0, true), signer(2, 1, false)]);
    assert_eq!(keys.generation(NOW), Some(2), "a revoked signer shows nobody in");
    keys.set_signers(vec![signer(1, 0, true)]);
    assert_eq!(keys.generation(NOW), None);
}

#[test]
fn a_number_that_comes_back_with_another_key_shows_nothing_of_before() {
    let mut keys = with_grants(&[&[1], &[1, 2], &[2]]);
    assert_eq!(keys.set_signers(vec![signer(1, 2, false), signer(2, 1, false)]), [request(1)]);
    let alice = "alice".parse().unwrap();
    assert_eq!(keys.document(&alice, 1, NOW), None);
    assert_eq!(keys.document(&alice, 2, NOW).unwrap().offers.len(), 2);
    // It was admitted under the key of before.
    let document = alices(9);
    let admitted = with_grants(&[]).admit(&document, &[twin(1, 0, &document)], NOW).unwrap();
    keys.install(admitted, NOW.after(seconds(9)));
    assert!(!keys.contains(&request(9)));
}

#[test]
fn keys_end_with_their_time_their_withdrawal_or_the_time_the_machine_lost() {
    let mut keys = with_grants(&[&[1], &[1], &[1], &[1]]);
    let shown = |keys: &StockKeys, now| {
        keys.document(&"alice".parse().unwrap(), 1, now).map(|shown| shown.offers.len())
    };
    assert_eq!(shown(&keys, NOW), Some(4));
    assert_eq!(shown(&keys, NOW.after(seconds(1))), Some(3), "over at its deadline, swept or not");
    assert_eq!(keys.expire(NOW.after(seconds(1))), [request(1)]);
    assert!(!keys.contains(&request(1)) && keys.contains(&request(2)));
    assert!(keys.withdraw(&request(2)) && !keys.withdraw(&request(2)));
    assert_eq!(shown(&keys, NOW), Some(2));
    keys.shorten(seconds(3));
    assert_eq!(shown(&keys, NOW), Some(1));
    assert_eq!(keys.expire(NOW), [request(3)]);
    assert_eq!(shown(&keys, NOW.before(seconds(60))), None, "a deadline of another clock");
    assert_eq!(keys.users(1, NOW), BTreeSet::from([&"alice".parse().unwrap()]));
    assert_eq!(keys.users(1, NOW.after(seconds(1))), BTreeSet::new());
}

#[test]
fn a_key_that_was_pushed_again_is_shown_once_and_offered_for_all() {
    let mut keys = keys();
    keys.set_signers(vec![signer(1, 0, false)]);
    let key = key_line("ssh-rsa", 1);
    for number in 1..=9 {
        let document = document(INSTANCE, "alice", number, &key);
        let entry = keys.admit(&document, &[twin(1, 0, &document)], NOW).unwrap();
        let evicted = keys.install(entry, NOW.after(seconds(u64::from(20 - number))));
        assert_eq!(evicted, (number == 9).then(|| request(8)), "a hand-over file has eight sections");
    }
    let shown = keys.document(&"alice".parse().unwrap(), 1, NOW).unwrap();
    let entries = read(&shown.text).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].header("Request"), request(1).as_str(), "the first one ends last");
    let [offer] = &shown.offers[..] else { panic!("one key") };
    assert_eq!(offer.requests, [1, 2, 3, 4, 5, 6, 7, 9].map(request));
}

#[test]
fn room_for_as_many_keys_as_there_are_live_ones() {
    let mut keys = keys();
    keys.set_signers(vec![signer(1, 0, false)]);
    let grant = |user: usize, number: u32| {
        document(INSTANCE, &format!("user{user}"), number, &key_line("ssh-rsa", number))
    };
    let admit = |keys: &StockKeys, document: &str, now| keys.admit(document, &[twin(1, 0, document)], now);
    for number in 0..1024 {
        let document = grant(number as usize / 64, number);
        let entry = admit(&keys, &document, NOW).unwrap();
        keys.install(entry, NOW.after(seconds(30)));
    }
    assert_eq!(admit(&keys, &grant(0, 2000), NOW), Err(Refusal::UserFull));
    assert_eq!(admit(&keys, &grant(16, 2000), NOW), Err(Refusal::InstanceFull));
    let again = document(INSTANCE, "user0", 3000, &key_line("ssh-rsa", 0));
    assert!(admit(&keys, &again, NOW).is_ok(), "the same key needs no room");
    assert!(
        admit(&keys, &grant(0, 2000), NOW.after(seconds(30))).is_ok(),
        "a key past its deadline has none"
    );
    keys.withdraw(&request(0));
    assert!(admit(&keys, &grant(0, 2000), NOW).is_ok());
}

/// Grants of three users, one of them twice with one key, and one of another instance; each with its signature by each key.
static GRANTS: LazyLock<Vec<(String, [Twin; 3])>> = LazyLock::new(|| {
    let grants = [
        (INSTANCE, "alice", "ssh-ed25519", 1),
        (INSTANCE, "alice", "ssh-ed25519", 1),
        (INSTANCE, "alice", "ssh-rsa", 2),
        (INSTANCE, "svc$", "ssh-rsa", 2),
        (INSTANCE, "a.b@c", "ssh-ed25519", 3),
        (OTHER_INSTANCE, "alice", "ssh-ed25519", 4),
    ];
    let grant = |(number, (instance, user, kind, key)): (u32, (&str, &str, &str, u32))| {
        let document = document(instance, user, number, &key_line(kind, key));
        let twins = std::array::from_fn(|key| twin(0, key, &document));
        (document, twins)
    };
    (1..).zip(grants).map(grant).collect()
});

const USERS: [&str; 4] = ["alice", "svc$", "a.b@c", "nobody"];

#[derive(Clone, Debug)]
enum Event {
    /// These sign: which key under which number, and whether it is revoked.
    Announced(BTreeMap<u32, (usize, bool)>),
    /// A grant comes, with signatures by the announced of these two places, and perhaps with one that is whosever.
    Granted {
        grant: usize,
        by: [bool; 2],
        stray: Option<(u32, usize)>,
        lives: u64,
    },
    Withdrawn(usize),
    Shortened(u64),
    Passed(u64),
    Expired,
    /// Somebody begins to read.
    Begun,
}

fn event() -> impl Strategy<Value = Event> {
    let key = prop_oneof![4 => Just(None), 1 => (0..3_usize).prop_map(Some)];
    let signer = (1..4_u32, key, prop::bool::weighted(0.2))
        // As a rule each number has its own key.
        .prop_map(|(generation, key, is_revoked)| {
            (generation, (key.unwrap_or(generation as usize % 3), is_revoked))
        });
    let stray = prop::option::weighted(0.2, (1..5_u32, 0..3_usize));
    prop_oneof![
        2 => prop::collection::vec(signer, 1..=2).prop_map(|signers| Event::Announced(signers.into_iter().collect())),
        5 => (0..6_usize, any::<[bool; 2]>(), stray, 1..60_u64)
            .prop_map(|(grant, by, stray, lives)| Event::Granted { grant, by, stray, lives }),
        1 => (0..6_usize).prop_map(Event::Withdrawn),
        1 => (0..20_u64).prop_map(Event::Shortened),
        1 => (0..30_u64).prop_map(Event::Passed),
        1 => Just(Event::Expired),
        3 => Just(Event::Begun),
    ]
}

/// What ought to be: which of [`GRANTS`] live until when, and who has signed them under which number.
#[derive(Default)]
struct Model {
    signers: BTreeMap<u32, (usize, bool)>,
    live: BTreeMap<usize, (BootInstant, BTreeSet<(u32, usize)>)>,
}

impl Model {
    /// These sign from now on. Returns the grants that nobody of them has signed, which are gone.
    fn announced(&mut self, signers: BTreeMap<u32, (usize, bool)>) -> Vec<usize> {
        self.signers = signers;
        let mut live = std::mem::take(&mut self.live);
        live.values_mut().for_each(|(_, twins)| twins.retain(|twin| self.is_in_force(*twin)));
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            live.into_iter().partition(|(_, (_, twins))| !twins.is_empty());
        self.live = kept;
        gone.into_keys().collect()
    }

    fn is_in_force(&self, (generation, key): (u32, usize)) -> bool {
        self.signers.get(&generation).is_some_and(|(announced, _)| *announced == key)
    }

    fn judge(&self, grant: usize, twins: &[(u32, usize)]) -> Result<BTreeSet<(u32, usize)>, Refusal> {
        if grant == 5 {
            return Err(Refusal::WrongInstance);
        }
        let announced: Vec<_> =
            twins.iter().filter(|(generation, _)| self.signers.contains_key(generation)).collect();
        let is_shown = announced.iter().any(|(generation, _)| !self.signers[generation].1);
        if !is_shown || !announced.iter().all(|twin| self.is_in_force(**twin)) {
            return Err(Refusal::StockSignature);
        }
        Ok(announced.into_iter().copied().collect())
    }

    fn generation(&self, now: BootInstant) -> Option<u32> {
        let live: Vec<_> =
            self.live.values().filter(|(deadline, _)| *deadline > now).map(|(_, twins)| twins).collect();
        let newest_first = self.signers.iter().rev().filter(|(_, (_, is_revoked))| !is_revoked);
        let shows = |generation: u32| {
            live.iter().filter(|twins| twins.iter().any(|(by, _)| *by == generation)).count()
        };
        let most = newest_first.clone().map(|(generation, _)| shows(*generation)).max()?;
        newest_first.map(|(generation, _)| *generation).find(|generation| shows(*generation) == most)
    }
}

fn granted(grant: usize) -> ClaimedGrant {
    ClaimedGrant::of(&GRANTS[grant].0).unwrap()
}

/// What is there, what ought to be, and who has begun to read: a generation and the key that it had.
struct Machine {
    keys: StockKeys,
    model: Model,
    now: BootInstant,
    readers: BTreeSet<(u32, usize)>,
}

impl Machine {
    fn happens(&mut self, event: Event) -> Result<(), TestCaseError> {
        let Self { keys, model, now, readers } = self;
        match event {
            Event::Announced(signers) => {
                let announced =
                    signers.iter().map(|(number, (key, revoked))| signer(*number, *key, *revoked));
                let gone: BTreeSet<_> = keys.set_signers(announced.collect()).into_iter().collect();
                let expected = model.announced(signers).into_iter().map(|grant| granted(grant).request);
                prop_assert_eq!(gone, expected.collect());
            }
            Event::Granted { grant, by, stray, lives } => {
                let announced = model.signers.iter().zip(by).filter(|(_, by)| *by);
                let announced = announced.map(|((generation, (key, _)), _)| (*generation, *key));
                let by: Vec<_> = announced.chain(stray).collect();
                self.is_granted(grant, &by, lives)?;
            }
            Event::Withdrawn(grant) => {
                prop_assert_eq!(keys.withdraw(&granted(grant).request), model.live.remove(&grant).is_some());
            }
            Event::Shortened(by) => {
                keys.shorten(seconds(by));
                model.live.values_mut().for_each(|(deadline, _)| *deadline = deadline.before(seconds(by)));
            }
            Event::Passed(by) => *now = now.after(seconds(by)),
            Event::Expired => {
                keys.expire(*now);
                model.live.retain(|_, (deadline, _)| *deadline > *now);
            }
            Event::Begun => {
                let generation = keys.generation(*now);
                prop_assert_eq!(generation, model.generation(*now));
                readers.extend(generation.map(|generation| (generation, model.signers[&generation].0)));
            }
        }
        Ok(())
    }

    fn is_granted(&mut self, grant: usize, by: &[(u32, usize)], lives: u64) -> Result<(), TestCaseError> {
        let (document, signatures) = &GRANTS[grant];
        let twin =
            |(generation, key): &(u32, usize)| Twin { generation: *generation, ..signatures[*key].clone() };
        let admitted = self.keys.admit(document, &by.iter().map(twin).collect::<Vec<_>>(), self.now);
        let expected = self.model.judge(grant, by);
        prop_assert_eq!(admitted.as_ref().err(), expected.as_ref().err());
        if let (Ok(entry), Ok(twins)) = (admitted, expected) {
            let deadline = self.now.after(seconds(lives));
            self.keys.install(entry, deadline);
            self.model.live.insert(grant, (deadline, twins));
        }
        Ok(())
    }

    /// What a reader is shown now: its own signer's chain, and of each user the live keys that this one has signed.
    fn is_right_for(&self, reader: (u32, usize)) -> Result<(), TestCaseError> {
        let (generation, key) = reader;
        let leaf = format!("leaf of key {key}\n");
        prop_assert!(self.keys.signer(generation).unwrap().announced.chain.as_str().starts_with(&leaf));
        let mut users = BTreeSet::new();
        for user in USERS {
            let live = self.model.live.iter().filter(|(grant, (deadline, twins))| {
                *deadline > self.now && twins.contains(&reader) && granted(**grant).user.as_str() == user
            });
            let live: Vec<ClaimedGrant> = live.map(|(grant, _)| granted(*grant)).collect();
            match self.keys.document(&user.parse().unwrap(), generation, self.now) {
                None => prop_assert!(live.is_empty()),
                Some(shown) => {
                    users.insert(user);
                    shows_these(&shown, &live, user, &public_key(key))?;
                }
            }
        }
        let listed = self.keys.users(generation, self.now).into_iter().map(|user| user.as_str()).collect();
        prop_assert_eq!(users, listed);
        Ok(())
    }
}

/// Each live key is in it, and once; and nothing else is.
fn shows_these(
    shown: &ActiveKeys,
    live: &[ClaimedGrant],
    user: &str,
    public_key: &[u8],
) -> Result<(), TestCaseError> {
    let entries = read(&shown.text).unwrap();
    for entry in &entries {
        prop_assert!(entry.is_signed_by(public_key));
        let headers = ["Instance", "User", "Alg"].map(|name| entry.header(name));
        prop_assert_eq!(headers, [INSTANCE, user, "rsa-pss"]);
        prop_assert!(live.iter().any(|grant| grant.request.as_str() == entry.header("Request")));
    }
    let fingerprint = |entry: &Read<'_>| KeyLine::parse(entry.key_line).unwrap().fingerprint();
    let printed: BTreeSet<_> = entries.iter().map(fingerprint).collect();
    prop_assert_eq!(printed.len(), entries.len());
    prop_assert_eq!(&printed, &live.iter().map(|grant| grant.fingerprint).collect());
    let offered: BTreeSet<_> = shown.offers.iter().flat_map(|offer| &offer.requests).collect();
    prop_assert_eq!(offered, live.iter().map(|grant| &grant.request).collect());
    prop_assert_eq!(printed, shown.offers.iter().map(|offer| offer.fingerprint).collect());
    Ok(())
}

proptest! {
    /// Grants under the older signer, both, or the newer; announcements, also of a number with another key; time, withdrawals
    /// and lost time: in any order, and read at any moment with any token that was ever taken.
    #[test]
    fn no_order_of_events_shows_a_document_that_its_readers_chain_does_not_verify(
        events in prop::collection::vec(event(), 1..24),
    ) {
        let (keys, model, readers) = (keys(), Model::default(), BTreeSet::new());
        let mut machine = Machine { keys, model, now: NOW, readers };
        for event in events {
            machine.happens(event)?;
            // A reader whose generation is not announced any more, or has another key now, is shown nothing at all.
            for reader in machine.readers.iter().filter(|reader| machine.model.is_in_force(**reader)) {
                machine.is_right_for(*reader)?;
            }
        }
    }
}
