//! A machine of its own for each test, signers and grants. RSA keys take long to make, so there are two.

use super::{Metadata, PassedSockets, Place, Serving, WatchedMetadata};
use crate::clock::MachineClock;
use crate::host_reports::HostReports;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use instance_connect_core::document::{
    BootInstant, DocumentTerms, InstanceId, RequestId, ServerInstant, SigningKey, UnixSeconds, base64_encode,
    stock_text,
};
use instance_connect_core::imds::{TOKEN_HEADER, TTL_HEADER};
use instance_connect_core::link::{
    Grant, GrantId, InstanceFacts, Staple, StapleBytes, StapleName, StockSigner, StockSigners, Twin,
};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;

pub(super) const OWN: &str = "i-0123456789abcdef0";
pub(super) const GUEST: &str = "i-00000000000000a0";
pub(super) const OTHER_GUEST: &str = "i-00000000000000a1";

/// Interfaces that are nowhere: what a test asks is answered without a socket.
const SETTINGS: &str = "\
    [[guest]]\ninstance = \"i-00000000000000a0\"\ninterface = \"ic-none0\"\n\
    [[guest]]\ninstance = \"i-00000000000000a1\"\ninterface = \"ic-none1\"\n";

pub(super) const BOOT: &str = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";
pub(super) const OTHER_BOOT: &str = "1b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11";

pub(super) const MINUTE: Duration = Duration::from_secs(60);

struct StockKey {
    pair: RsaKeyPair,
    chain: String,
}

static KEYS: LazyLock<[StockKey; 2]> = LazyLock::new(|| {
    std::array::from_fn(|_| {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let leaf = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        StockKey { pair: RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap(), chain: leaf.pem() }
    })
});

fn key(generation: u32) -> &'static StockKey {
    &KEYS[usize::try_from(generation).unwrap() - 1]
}

/// The chain of a generation, as it is shown.
pub(super) fn chain(generation: u32) -> &'static str {
    key(generation).chain.trim_end()
}

/// Signers of these generations: the first, the second, or both.
pub(super) fn signers(generations: &[u32]) -> StockSigners {
    let signer = |generation: &u32| StockSigner {
        generation: *generation,
        is_revoked: false,
        chain: key(*generation).chain.parse().unwrap(),
        staples: vec![Staple { name: StapleName([0xa0; 20]), response: StapleBytes::new(b"ocsp").unwrap() }],
    };
    StockSigners { each: generations.iter().map(signer).collect() }
}

pub(super) fn twin(generation: u32, document: &str) -> Twin {
    let mut signature = Box::new([0; 256]);
    let text = stock_text(document).unwrap();
    let pair = &key(generation).pair;
    pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), text.as_bytes(), signature.as_mut_slice()).unwrap();
    Twin { generation, signature }
}

pub(super) fn instance(id: &str) -> InstanceId {
    id.parse().unwrap()
}

pub(super) fn request(number: u32) -> RequestId {
    format!("0b7f1c52-6a0e-4c11-9d0b-{number:012x}").parse().unwrap()
}

pub(super) fn document(instance: &str, boot: &str, number: u32, kind: &str) -> String {
    let length = u32::try_from(kind.len()).unwrap().to_be_bytes();
    let blob = [&length[..], kind.as_bytes(), &number.to_be_bytes()].concat();
    let terms = DocumentTerms {
        expires_at: UnixSeconds(1_928_541_906),
        instance: &instance.parse().unwrap(),
        caller: "arn:aws:iam::123456789012:user/jane",
        request: &request(number),
        user: &"alice".parse().unwrap(),
        boot: &boot.parse().unwrap(),
        key_line: &format!("{kind} {}", base64_encode(&blob)),
    };
    terms.sign(&SigningKey::from_seed(&[7; 32]).unwrap()).unwrap()
}

/// A grant of that document with these signatures. What else is in it the metadata service does not look at.
pub(super) fn grant(document: &str, twins: Vec<Twin>) -> Grant {
    Grant { id: GrantId(1), deadline: ServerInstant(0), document: document.parse().unwrap(), twins }
}

/// A key of `alice`, signed by the first generation. The number tells requests and keys apart.
pub(super) fn alices(instance: &str, number: u32) -> Grant {
    let document = document(instance, BOOT, number, "ssh-ed25519");
    grant(&document, vec![twin(1, &document)])
}

pub(super) fn facts(id: &str) -> InstanceFacts {
    InstanceFacts {
        instance: instance(id),
        account: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        availability_zone: "us-east-1a".parse().unwrap(),
        domain: "example.com".parse().unwrap(),
        tags: BTreeMap::new(),
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub(super) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(super) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos().try_into().unwrap(), Ordering::SeqCst);
    }
}

impl MachineClock for ManualClock {
    fn boot(&self) -> BootInstant {
        BootInstant(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> UnixSeconds {
        UnixSeconds(1_800_000_000)
    }
}

/// A machine with two guests, and what hears of its own keys.
pub(super) struct TestMachine {
    pub(super) clock: Arc<ManualClock>,
    pub(super) reports: HostReports,
    directory: TempDir,
}

impl TestMachine {
    /// Within a tokio runtime, which the listeners do without as long as a test does not wait.
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let reports = HostReports::bind(directory.path()).unwrap();
        let machine =
            Self { clock: Arc::new(ManualClock(AtomicU64::new(1_000_000_000_000))), reports, directory };
        machine.write_settings(SETTINGS);
        machine
    }

    pub(super) fn write_settings(&self, text: &str) {
        fs::write(self.directory.path().join("metadata.toml"), text).unwrap();
    }

    pub(super) fn settings(&self) -> WatchedMetadata {
        WatchedMetadata::read(self.directory.path()).unwrap().unwrap()
    }

    /// Its agent's service, with what an earlier one has left.
    pub(super) fn start(&self) -> Serving {
        let clock: Arc<dyn MachineClock> = Arc::clone(&self.clock) as _;
        let place = Place {
            run: self.directory.path(),
            boot: &BOOT.parse().unwrap(),
            clock: &clock,
            readings: self.reports.readings(),
        };
        Metadata::start(self.settings(), instance(OWN), place, Arc::new(PassedSockets::default())).unwrap()
    }

    /// The same, with the first generation signing.
    pub(super) fn start_signed(&self) -> Serving {
        let metadata = self.start();
        metadata.set_signers(&signers(&[1])).unwrap();
        metadata
    }

    /// Installs a grant for a minute.
    pub(super) fn install(&self, metadata: &Metadata, grant: &Grant) {
        let entry = metadata.admit(grant).unwrap().unwrap();
        metadata.install(entry, grant, self.in_a_minute()).unwrap();
    }

    pub(super) fn in_a_minute(&self) -> BootInstant {
        self.clock.boot().after(MINUTE)
    }

    /// Where the service keeps what it shows.
    pub(super) fn stock(&self) -> PathBuf {
        self.directory.path().join("stock")
    }

    /// The file of that name there.
    pub(super) fn kept(&self, name: &impl ToString) -> PathBuf {
        self.stock().join(name.to_string())
    }

    /// The grants that are kept.
    pub(super) fn kept_grants(&self) -> Vec<RequestId> {
        let mut grants: Vec<RequestId> = names(&self.stock());
        grants.sort_by_key(ToString::to_string);
        grants
    }

    /// How many instances' facts are kept.
    pub(super) fn kept_facts(&self) -> usize {
        names::<InstanceId>(&self.stock()).len()
    }
}

fn names<T: std::str::FromStr>(directory: &Path) -> Vec<T> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// What an instance is answered to one request.
pub(super) fn ask(metadata: &Metadata, id: &str, asked: &Request<Empty<Bytes>>) -> (u16, String) {
    let response = metadata.answer(&instance(id), asked);
    let status = response.status().as_u16();
    let body = response.into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// A new token for an instance, good for an hour.
pub(super) fn token(metadata: &Metadata, id: &str) -> String {
    let asked = Request::put("/latest/api/token").header(TTL_HEADER, "3600").body(Empty::new()).unwrap();
    let (status, token) = ask(metadata, id, &asked);
    assert_eq!(status, 200);
    token
}

/// What an instance is answered with that token, below `/latest/meta-data/`.
pub(super) fn get_with(metadata: &Metadata, id: &str, token: &str, path: &str) -> (u16, String) {
    let asked = Request::get(format!("/latest/meta-data/{path}")).header(TOKEN_HEADER, token);
    ask(metadata, id, &asked.body(Empty::new()).unwrap())
}

/// The same with a new token.
pub(super) fn get(metadata: &Metadata, id: &str, path: &str) -> (u16, String) {
    get_with(metadata, id, &token(metadata, id), path)
}

/// The requests whose keys `alice` of an instance has now, in the order of the document.
pub(super) fn alices_keys(metadata: &Metadata, id: &str) -> Vec<RequestId> {
    let (status, keys) = get(metadata, id, "managed-ssh-keys/active-keys/alice");
    assert!(status == 200 || (status, keys.is_empty()) == (404, false), "{status} {keys}");
    let mut requests: Vec<RequestId> =
        keys.lines().filter_map(|line| line.strip_prefix("#Request=")?.parse().ok()).collect();
    requests.sort_by_key(ToString::to_string);
    requests
}
