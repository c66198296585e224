//! Real `openssl`, as the stock host scripts call it (wire.md 3.6, 3.7), and rustls; rotation with the clock moved.

use super::*;
use crate::stock::authority::{Ca, leaf_params};
use crate::system::SystemClock;
use instance_connect_core::document::ServerInstant;
use instance_connect_core::link::ServerFrame;
use instance_connect_store::{MasterKey, SqliteStore};
use instance_connect_testkit::{ManualClock, SeededRandom, World};
use rcgen::{Issuer, KeyPair, SanType};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

const DAY: u64 = 24 * 60 * 60;

/// A document's text: what is in it does not matter here.
const TEXT: &str = "#Timestamp=1\n#Alg=rsa-pss\nssh-ed25519 AAAA\n";

fn settings() -> StockSettings {
    StockSettings {
        domain: "amazonaws.com".parse().unwrap(),
        rotation: Duration::from_secs(30 * DAY),
        overlap: Duration::from_secs(600),
        staple_lifetime: Duration::from_secs(DAY),
    }
}

/// Those of [`StockSigners::of_tests`].
pub(super) async fn shared() -> Arc<StockSigners> {
    let setting = Setting::new();
    Arc::new(setting.load(setting.start).await)
}

/// A store, and a directory for files.
struct Setting {
    directory: TempDir,
    store: SqliteStore,
    /// Now: openssl looks at the real clock.
    start: UnixSeconds,
}

impl Setting {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        Self { directory, store, start: SystemClock.wall() }
    }

    async fn load(&self, now: UnixSeconds) -> StockSigners {
        StockSigners::load(&self.store, &World::new().region, settings(), now).await.unwrap()
    }

    async fn step(&self, signers: &StockSigners, seconds: u64) {
        signers.step(&self.store, self.after(seconds)).await.unwrap();
    }

    fn after(&self, seconds: u64) -> UnixSeconds {
        UnixSeconds(self.start.0.saturating_add_unsigned(seconds))
    }
}

fn open(directory: &TempDir) -> SqliteStore {
    let key = MasterKey::from_bytes([1; 32]);
    SqliteStore::open(&directory.path().join("store"), &key, Arc::new(SeededRandom::new(1))).unwrap()
}

/// What machines are told: the generations, and of each whether it is revoked.
fn told(signers: &StockSigners) -> Vec<(u32, bool)> {
    let told = &signers.in_force().signers.each;
    told.iter().map(|signer| (signer.generation, signer.is_revoked)).collect()
}

/// Whose signatures a document gets.
async fn signed_by(signers: &StockSigners) -> Vec<u32> {
    let twins = signers.sign(TEXT.to_owned()).await.unwrap();
    twins.iter().map(|twin| twin.generation).collect()
}

/// A machine: where the scripts put what they read.
struct Machine {
    directory: TempDir,
}

impl Machine {
    /// One that trusts this root: in a directory, as Debian has it.
    fn new(signers: &StockSigners) -> Self {
        let machine = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::create_dir(machine.path("certs")).unwrap();
        machine.write("certs/Instance_Connect_signer_root.pem", signers.root_pem());
        let hashed = machine.openssl(&["rehash", "certs"]);
        assert!(hashed.status.success(), "{hashed:?}");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn openssl(&self, arguments: &[&str]) -> Output {
        Command::new("openssl").args(arguments).current_dir(self.directory.path()).output().unwrap()
    }

    /// Splits the chain and keeps the staples under their names.
    fn read(&self, signer: &StockSigner) {
        let chain = signer.chain.as_str();
        let certificates: Vec<&str> = chain.split_inclusive("-----END CERTIFICATE-----\n").collect();
        for (number, certificate) in certificates.iter().enumerate() {
            self.write(&format!("cert{number}.pem"), certificate);
        }
        assert_eq!(certificates.len(), 3);
        for staple in &signer.staples {
            self.write(&staple.name.to_string(), staple.response.as_bytes());
        }
    }

    /// The scripts' verification of the chain, with a directory and with a bundle.
    fn verify(&self, certificate: &str, intermediate: &str) -> [Output; 2] {
        let intermediate = std::fs::read_to_string(self.path(intermediate)).unwrap();
        let root = std::fs::read_to_string(self.path("certs/Instance_Connect_signer_root.pem")).unwrap();
        self.write("ca-trust.pem", intermediate + &root);
        [
            self.openssl(&[
                "verify",
                "-x509_strict",
                "-CApath",
                "certs",
                "-CAfile",
                "ca-trust.pem",
                certificate,
            ]),
            self.openssl(&["verify", "-x509_strict", "-CAfile", "ca-trust.pem", certificate]),
        ]
    }

    /// What the scripts hear of the revocation of certificate `number` in the chain.
    fn status(&self, number: usize) -> String {
        let (certificate, issuer) = (format!("cert{number}.pem"), format!("cert{}.pem", number + 1));
        let name = self.openssl(&["x509", "-noout", "-fingerprint", "-sha1", "-in", &certificate]);
        let name = String::from_utf8(name.stdout).unwrap();
        let (_, name) = name.trim().split_once('=').unwrap();
        let said = self.openssl(&[
            "ocsp",
            "-no_nonce",
            "-issuer",
            &issuer,
            "-cert",
            &certificate,
            "-VAfile",
            &issuer,
            "-respin",
            &name.replace(':', ""),
        ]);
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    }

    /// Whether the scripts take this signature of a text.
    fn accepts(&self, text: &str, signature: &TwinSignature) -> bool {
        let key = self.openssl(&["x509", "-pubkey", "-noout", "-in", "cert0.pem"]);
        self.write("pubkey", key.stdout);
        self.write("signature", signature);
        self.write("text", text);
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"];
        let words = ["-verify", "pubkey", "-signature", "signature", "text"];
        let words: Vec<&str> = ["dgst", "-sha256"].into_iter().chain(pss).chain(words).collect();
        self.openssl(&words).status.success()
    }
}

#[tokio::test]
async fn the_stock_scripts_take_chain_staples_and_signatures() {
    let setting = Setting::new();
    let signers = setting.load(setting.start).await;
    setting.store.change_stock_signer(1, StockChange::Due, setting.start).await.unwrap();
    setting.step(&signers, 0).await;
    let (in_force, twins) = (signers.in_force(), signers.sign(TEXT.to_owned()).await.unwrap());
    assert_eq!((told(&signers), twins.len()), (vec![(1, false), (2, false)], 2));
    for (signer, twin) in in_force.signers.each.iter().zip(&twins) {
        let machine = Machine::new(&signers);
        machine.read(signer);
        for verified in machine.verify("cert0.pem", "cert1.pem") {
            assert_eq!(String::from_utf8_lossy(&verified.stdout), "cert0.pem: OK\n", "{verified:?}");
        }
        for number in [0, 1] {
            let status = machine.status(number);
            assert!(status.starts_with(&format!("cert{number}.pem: good\n")), "{status}");
        }
        assert_eq!(signer.generation, twin.generation);
        assert!(machine.accepts(TEXT, &twin.signature));
        assert!(!machine.accepts(&TEXT.replace('1', "2"), &twin.signature));
        // What the scripts compare, and cut out of the subject.
        let subject = machine.openssl(&["x509", "-noout", "-subject", "-in", "cert0.pem"]);
        let name = "subject=CN = managed-ssh-signer.us-east-1.amazonaws.com\n";
        assert_eq!(String::from_utf8_lossy(&subject.stdout), name);
        let root = machine.openssl(&["x509", "-noout", "-subject", "-in", "cert2.pem"]);
        assert_eq!(String::from_utf8_lossy(&root.stdout), format!("subject=CN = {ROOT_NAME}\n"));
    }
    // The signature of one is none of the other.
    let machine = Machine::new(&signers);
    machine.read(&in_force.signers.each[0]);
    assert!(!machine.accepts(TEXT, &twins[1].signature));
}

/// What AWS's certificates have, which other implementations than the scripts look at.
#[tokio::test]
async fn certificates_say_what_the_contract_says() {
    let signers = StockSigners::of_tests().await;
    let machine = Machine::new(&signers);
    machine.read(&signers.in_force().signers.each[0]);
    let leaf = [
        "Subject: CN = managed-ssh-signer.us-east-1.amazonaws.com\n",
        "Public-Key: (2048 bit)",
        "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment\n",
        "X509v3 Extended Key Usage: \n                TLS Web Server Authentication, TLS Web Client Authentication\n",
        "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
        "X509v3 Subject Alternative Name: \n                DNS:managed-ssh-signer.us-east-1.amazonaws.com\n",
        "X509v3 Subject Key Identifier:",
        "X509v3 Authority Key Identifier:",
    ];
    let of_a_ca = |intermediates_below| {
        [
            "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n".to_owned(),
            format!("CA:TRUE, pathlen:{intermediates_below}\n"),
            "X509v3 Basic Constraints: critical\n".to_owned(),
            "X509v3 Name Constraints: critical\n                Permitted:\n                  \
             DNS:managed-ssh-signer.us-east-1.amazonaws.com\n                Excluded:\n                  \
             IP:0.0.0.0/0.0.0.0\n                  IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0\n"
                .to_owned(),
            "X509v3 Subject Key Identifier:".to_owned(),
        ]
    };
    for (file, expected) in [
        ("cert0.pem", leaf.map(str::to_owned).to_vec()),
        ("cert1.pem", of_a_ca(0).to_vec()),
        ("cert2.pem", of_a_ca(1).to_vec()),
    ] {
        let text = machine.openssl(&["x509", "-noout", "-text", "-in", file]);
        let text = String::from_utf8(text.stdout).unwrap();
        for expected in expected {
            assert!(text.contains(&expected), "{file} has no {expected:?}:\n{text}");
        }
    }
}

/// With the longest names there are.
#[tokio::test]
async fn everything_fits_a_frame() {
    let setting = Setting::new();
    let settings = StockSettings { domain: "amazonaws.com.cn".parse().unwrap(), ..settings() };
    let region = "abcdefghijklmnop-qrstuvwxyzabc-1".parse().unwrap();
    let signers = StockSigners::load(&setting.store, &region, settings, setting.start).await.unwrap();
    let order = StockChange::Ordered { revokes: true };
    setting.store.change_stock_signer(1, order, setting.start).await.unwrap();
    setting.step(&signers, 0).await;
    assert_eq!(told(&signers), [(1, true), (2, false)]);
    let told = signers.in_force().signers.clone();
    let encoded = ServerFrame::StockSigners(told.clone()).encode();
    assert!(encoded.len() <= link::limits::FRAME, "{}", encoded.len());
    assert_eq!(ServerFrame::decode(&encoded).unwrap(), Some(ServerFrame::StockSigners(told)));
    assert!(DOMAINS.iter().all(|domain| domain.len() <= "amazonaws.com.cn".len()));
}

#[tokio::test]
async fn a_signer_follows_the_other_with_an_overlap() {
    let setting = Setting::new();
    let signers = setting.load(setting.start).await;
    let mut changes = signers.changes();
    assert_eq!((told(&signers), signed_by(&signers).await), (vec![(1, false)], vec![1]));
    for (seconds, expected) in [
        (30 * DAY - 1, &[1][..]),
        (30 * DAY, &[1, 2]),
        (30 * DAY + 599, &[1, 2]),
        (30 * DAY + 600, &[2]),
        (60 * DAY - 1, &[2]),
        (60 * DAY, &[2, 3]),
        (60 * DAY + 600, &[3]),
    ] {
        setting.step(&signers, seconds).await;
        assert_eq!(signed_by(&signers).await, expected, "{seconds}");
        assert_eq!(told(&signers), expected.iter().map(|number| (*number, false)).collect::<Vec<_>>());
        // Whoever sends it hears of it, by the version that it has.
        assert_eq!(*changes.borrow_and_update(), signers.in_force().version);
        // Done twice, nothing happens.
        setting.step(&signers, seconds).await;
        assert!(!changes.has_changed().unwrap(), "{seconds}");
    }
    // Nobody ordered that.
    assert_eq!(setting.store.operator_events().await.unwrap(), []);
    // Started again, it goes on.
    assert_eq!(told(&setting.load(setting.after(60 * DAY + 601)).await), [(3, false)]);
}

#[tokio::test]
async fn two_control_planes_that_rotate_at_once_have_one_signer() {
    let setting = Setting::new();
    let (here, there) = (&setting.store, &open(&setting.directory));
    let region = World::new().region;
    let load = |store| StockSigners::load(store, &region, settings(), setting.start);
    let (first, second) = tokio::join!(load(here), load(there));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.root_pem(), second.root_pem());
    for month in 1..=3 {
        let now = setting.after(month * 30 * DAY);
        let (one, other) = tokio::join!(first.step(here, now), second.step(there, now));
        one.and(other).unwrap();
        // The one that found it done has taken it, or does at its next look.
        let current = setting.store.stock_rotation().await.unwrap().current;
        assert_eq!(u64::from(current), month + 1);
        let chains = |signers: &StockSigners| -> Vec<String> {
            signers.in_force().signers.each.iter().map(|signer| signer.chain.as_str().to_owned()).collect()
        };
        assert_eq!(chains(&first), chains(&second));
        assert_eq!(told(&first), [(current - 1, false), (current, false)]);
    }
}

/// Catches the planted `revoked-signer-signs`.
#[tokio::test]
async fn a_revoked_signer_is_told_as_revoked_and_signs_nothing() {
    let setting = Setting::new();
    let signers = setting.load(setting.start).await;
    let order = StockChange::Ordered { revokes: true };
    setting.store.change_stock_signer(1, order, setting.start).await.unwrap();
    setting.step(&signers, 1).await;
    assert_eq!((told(&signers), signed_by(&signers).await), (vec![(1, true), (2, false)], vec![2]));
    for (signer, expected) in signers.in_force().signers.each.iter().zip(["revoked", "good"]) {
        let machine = Machine::new(&signers);
        machine.read(signer);
        let status = machine.status(0);
        assert!(status.starts_with(&format!("cert0.pem: {expected}\n")), "{status}");
        assert!(machine.status(1).starts_with("cert1.pem: good\n"));
    }
    setting.step(&signers, 600).await;
    assert_eq!(told(&signers), [(2, false)]);
}

#[tokio::test]
async fn staples_are_renewed_after_a_quarter_of_their_life() {
    let setting = Setting::new();
    // The last of these is made now, which openssl looks at.
    let begun = UnixSeconds(setting.start.0.saturating_sub_unsigned(DAY / 4));
    let signers = setting.load(begun).await;
    let staples = || signers.in_force().signers.each[0].staples.clone();
    let first = staples();
    signers.step(&setting.store, UnixSeconds(setting.start.0 - 1)).await.unwrap();
    assert_eq!(staples(), first);
    setting.step(&signers, 0).await;
    let renewed = staples();
    assert_eq!(
        renewed.iter().map(|s| s.name).collect::<Vec<_>>(),
        first.iter().map(|s| s.name).collect::<Vec<_>>()
    );
    let machine = Machine::new(&signers);
    let times = |staples: &[Staple]| {
        machine.write("staple", staples[0].response.as_bytes());
        let text = machine.openssl(&["ocsp", "-respin", "staple", "-resp_text", "-noverify"]);
        let text = String::from_utf8(text.stdout).unwrap();
        let time = |label| text.lines().find_map(|line| line.trim().strip_prefix(label)).unwrap().to_owned();
        [time("This Update: "), time("Next Update: ")]
    };
    let dates = |seconds: [i64; 2]| seconds.map(|seconds| openssl_date(UnixSeconds(seconds)));
    let day = i64::try_from(DAY).unwrap();
    assert_eq!(times(&first), dates([begun.0 - 3600, begun.0 + day]));
    assert_eq!(times(&renewed), dates([setting.start.0 - 3600, setting.start.0 + day]));
    // Also where the clock was set back.
    signers.step(&setting.store, begun).await.unwrap();
    assert_eq!(times(&staples()), times(&first));
}

/// As openssl prints it.
fn openssl_date(time: UnixSeconds) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(time.0).unwrap();
    let month: String = time.month().to_string().chars().take(3).collect();
    let (hour, minute, second) = time.to_hms();
    format!("{month} {:>2} {hour:02}:{minute:02}:{second:02} {} GMT", time.day(), time.year())
}

#[tokio::test]
async fn a_signer_that_is_due_is_replaced_before_it_is_used() {
    let setting = Setting::new();
    assert_eq!(told(&setting.load(setting.start).await), [(1, false)]);
    // The control plane was down for longer than the leaf lasts.
    let later = setting.after(100 * DAY);
    let signers = setting.load(later).await;
    assert_eq!(told(&signers).last(), Some(&(2, false)));
    assert!(signers.in_force().expires() > setting.after(180 * DAY));
    // A process has made the next one and ended before it took over; long afterwards another one goes on.
    signers.leaf(&setting.store, 3, later).await.unwrap();
    let signers = setting.load(setting.after(195 * DAY)).await;
    assert_eq!(setting.store.stock_rotation().await.unwrap().current, 4);
    assert_eq!(told(&signers).last(), Some(&(4, false)));
    // A clock that was wrong by years for a moment.
    let signers = setting.load(setting.after(5000 * DAY)).await;
    assert_eq!(told(&signers).last(), Some(&(5, false)));
    setting.step(&signers, 200 * DAY).await;
    assert_eq!(told(&signers).last(), Some(&(6, false)));
    assert!(signers.in_force().expires() < setting.after(300 * DAY));
}

#[tokio::test(start_paused = true)]
async fn what_is_due_or_was_ordered_happens_by_itself() {
    let setting = Setting::new();
    let clock = Arc::new(ManualClock::new(setting.start, ServerInstant(1)));
    let signers = Arc::new(setting.load(setting.start).await);
    let other: Arc<dyn Store> = Arc::new(open(&setting.directory));
    let inventory = Arc::new(LiveInventory::load(other, clock.clone()).await.unwrap());
    let (following, followed, at) = (Arc::clone(&signers), Arc::clone(&inventory), Arc::clone(&clock));
    tokio::spawn(async move { following.follow(&followed, at.as_ref()).await });
    let mut changes = signers.changes();

    clock.advance(Duration::from_secs(30 * DAY));
    changes.changed().await.unwrap();
    assert_eq!(told(&signers), [(1, false), (2, false)]);
    // By a command, in a process of its own.
    let order = StockChange::Ordered { revokes: true };
    setting.store.change_stock_signer(2, order, clock.wall()).await.unwrap();
    inventory.refresh().await.unwrap();
    changes.wait_for(|_| told(&signers) == [(2, true), (3, false)]).await.unwrap();
    clock.advance(Duration::from_secs(600));
    changes.wait_for(|_| told(&signers) == [(3, false)]).await.unwrap();
}

#[test]
fn regions_and_zones_that_the_scripts_refuse_are_named_once() {
    let zone = |name: &str| -> AvailabilityZone { name.parse().unwrap() };
    let warnings = |region: &str, zones: &[AvailabilityZone]| {
        refused_by_the_scripts(&region.parse().unwrap(), zones).join("\n")
    };
    assert_eq!(warnings("us-east-1", &[zone("us-east-1a"), zone("us-east-1f")]), "");
    let zones = ["us-east-1-lax-1a", "us-east-1a", "us-east-1ab", "us-east-1ab"].map(zone);
    assert_eq!(
        warnings("us-east-1", &zones),
        "The distributions' host scripts give no key to instances in the zone us-east-1-lax-1a: they take us-east-1 with \
         one letter behind it.\nThe distributions' host scripts give no key to instances in the zone us-east-1ab: they take \
         us-east-1 with one letter behind it."
    );
    for region in ["lab", "lab-1", "us-east-12", "abcdefghijklmnopqrstuvwxyz-abc-1"] {
        let expected = format!(
            "The distributions' host scripts give no key to instances of the region {region}: they take names such as us-east-1."
        );
        assert_eq!(warnings(region, &zones), expected);
    }
}

/// Each name has a root of its own, that is constrained to it, also with the longest there are.
#[tokio::test]
async fn another_domain_or_region_has_another_root() {
    let setting = Setting::new();
    let mut roots = vec![setting.load(setting.start).await.root_pem()];
    let longest = "abcdefghijklmnop-qrstuvwxyzabc-1";
    for (region, domain) in
        [("us-east-1", "c2s.ic.gov"), ("us-east-2", "amazonaws.com"), (longest, "amazonaws.com.cn")]
    {
        let settings = StockSettings { domain: domain.parse().unwrap(), ..settings() };
        let region = region.parse().unwrap();
        let signers = StockSigners::load(&setting.store, &region, settings, setting.start).await.unwrap();
        assert_eq!(signers.signer_name(), format!("managed-ssh-signer.{region}.{domain}"));
        assert_eq!(signers.domain().as_str(), domain);
        assert!(!roots.contains(&signers.root_pem()));
        roots.push(signers.root_pem());
        let machine = Machine::new(&signers);
        machine.read(&signers.in_force().signers.each[0]);
        for verified in machine.verify("cert0.pem", "cert1.pem") {
            assert!(verified.status.success(), "{verified:?}");
        }
        signers.leaf(&setting.store, 99_999_999, setting.start).await.unwrap();
    }
}

/// Machines trust the root for every server they talk to. Whoever steals it, with all it has signed, must not be able to be
/// any other server. Catches the planted `signer-root-unconstrained`.
#[tokio::test]
async fn the_root_vouches_for_the_signers_name_alone() {
    let signers = StockSigners::of_tests().await;
    let (root, intermediate) = (&signers.authority.root, &signers.authority.intermediate);
    let now = SystemClock.wall();
    // A thief who has the root's key makes an intermediate without constraints.
    let own = KeyPair::generate().unwrap();
    let params = crate::pki::ca_params("thief", 0, now).unwrap();
    let certificate = params.signed_by(&own, &root.issuer).unwrap().der().clone();
    let own = Ca { issuer: Issuer::from_ca_cert_der(&certificate, own).unwrap(), certificate };

    let name = signers.signer_name();
    for (by, issuer) in [("intermediate", intermediate), ("root", &own)] {
        for (case, names, is_good) in [
            (name, vec![SanType::DnsName(name.try_into().unwrap())], true),
            ("login.example.com", vec![SanType::DnsName("login.example.com".try_into().unwrap())], false),
            ("amazonaws.com", vec![SanType::DnsName("amazonaws.com".try_into().unwrap())], false),
            ("192.0.2.1", vec![SanType::IpAddress("192.0.2.1".parse().unwrap())], false),
            ("2001:db8::1", vec![SanType::IpAddress("2001:db8::1".parse().unwrap())], false),
            // The right one beside another.
            (
                "other.example.com",
                [name, "other.example.com"].map(|name| SanType::DnsName(name.try_into().unwrap())).to_vec(),
                false,
            ),
        ] {
            let mut params = leaf_params(name, now).unwrap();
            params.subject_alt_names = names;
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer.issuer).unwrap();

            let machine = Machine::new(&signers);
            machine.write("cert0.pem", certificate.pem());
            machine.write("cert1.pem", crate::pki::pem(&issuer.certificate));
            for verified in machine.verify("cert0.pem", "cert1.pem") {
                assert_eq!(verified.status.success(), is_good, "openssl, {by}, {case}: {verified:?}");
                let reason = String::from_utf8_lossy(&verified.stderr);
                assert!(is_good || reason.contains("subtree violation"), "{reason}");
            }
            // TLS is all that it is good for, also with the right name.
            let words = ["verify", "-purpose", "smimesign", "-CAfile", "ca-trust.pem", "cert0.pem"];
            let mail = machine.openssl(&words);
            assert!(!mail.status.success(), "{by}, {case}: {mail:?}");
            let verified =
                rustls_verifies(&root.certificate, certificate.der(), &issuer.certificate, case, now);
            assert_eq!(verified.is_ok(), is_good, "rustls, {by}, {case}: {verified:?}");
        }
    }
}

/// Whether rustls takes the certificate for a server of this name.
fn rustls_verifies(
    root: &CertificateDer<'static>,
    certificate: &CertificateDer<'static>,
    intermediate: &CertificateDer<'static>,
    name: &str,
    now: UnixSeconds,
) -> Result<(), rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let (name, now) = (ServerName::try_from(name.to_owned()).unwrap(), u64::try_from(now.0).unwrap());
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    verifier.verify_server_cert(certificate, std::slice::from_ref(intermediate), &name, &[], now).map(drop)
}
