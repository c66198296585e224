//! An agent that serves the metadata service: what is shown, and what is on the machine, when the answer to a grant comes.

use crate::control_plane::{ACCOUNT, ControlPlane, PATIENCE, REGION, ServerLink, server_time};
use crate::machine::{Machine, OTHER_BOOT, Push};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use instance_connect_core::document::stock_text;
use instance_connect_core::link::{
    Ack, AckOutcome, AgentFrame, Capabilities, Grant, GrantId, InstanceFacts, Refusal, ServerFrame, Signer,
    StockSigner, StockSigners, Twin, Withdraw, WithdrawId, Withdrawn,
};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const INSTALLED: AckOutcome = AckOutcome::Installed { os_user_exists: true };
const WRONG_TWIN: AckOutcome = AckOutcome::Refused(Refusal::StockSignature);

const GUEST: &str = "i-00000000000000a0";

/// Who signs for the metadata service.
static STOCK_SIGNER: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap());

fn stock_signers() -> StockSigners {
    let leaf = CertificateParams::new(Vec::new()).unwrap().self_signed(&*STOCK_SIGNER).unwrap();
    let chain = leaf.pem().parse().unwrap();
    StockSigners { each: vec![StockSigner { generation: 1, is_revoked: false, chain, staples: Vec::new() }] }
}

fn twin(document: &str) -> Twin {
    let mut signature = Box::new([0; 256]);
    let key = RsaKeyPair::from_pkcs8(STOCK_SIGNER.serialized_der()).unwrap();
    let text = stock_text(document).unwrap();
    key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), text.as_bytes(), signature.as_mut_slice()).unwrap();
    Twin { generation: 1, signature }
}

fn facts(instance: &str) -> InstanceFacts {
    InstanceFacts {
        instance: instance.parse().unwrap(),
        account: ACCOUNT.parse().unwrap(),
        region: REGION.parse().unwrap(),
        availability_zone: format!("{REGION}a").parse().unwrap(),
        domain: "example.com".parse().unwrap(),
        tags: BTreeMap::new(),
    }
}

/// A machine with a metadata service, its guest, and its agent's link.
struct Serving {
    control_plane: ControlPlane,
    machine: Machine,
    link: ServerLink,
    address: SocketAddr,
}

impl Serving {
    /// With a control plane that signs for the service.
    async fn start() -> Self {
        let mut serving = Self::start_with(Capabilities::RENEWAL.with(Capabilities::METADATA)).await;
        serving.link.send(ServerFrame::StockSigners(stock_signers())).await;
        serving.link.send(ServerFrame::Instance(facts(Push::default().instance))).await;
        serving
    }

    async fn start_with(capabilities: Capabilities) -> Self {
        // An address for each test, since whatever asks for any port may get that of another.
        static LAST: AtomicU8 = AtomicU8::new(1);
        let process = std::process::id().to_be_bytes();
        let host = [127, process[2], process[3], LAST.fetch_add(1, Ordering::SeqCst)];
        let address = SocketAddr::from((host, 8169));
        let mut control_plane = ControlPlane::start().await;
        let mut machine = Machine::new(&control_plane);
        let settings =
            format!("listen = \"{address}\"\n[[guest]]\ninstance = \"{GUEST}\"\ninterface = \"ic-none0\"\n");
        fs::write(machine.path("etc/metadata.toml"), settings).unwrap();
        machine.start_agent();
        let mut link = control_plane.accept_raw().await;
        let hello = link.welcome_with(capabilities, &*machine.clock).await;
        assert!(hello.capabilities.contains(Capabilities::METADATA));
        let statement = control_plane.authority.statement(&*machine.clock).to_string().parse().unwrap();
        link.send(ServerFrame::Signer(Signer { statement })).await;
        Self { control_plane, machine, link, address }
    }

    /// Sends a push's grant with these signatures, and waits for its ack.
    async fn grant(&mut self, document: &str, twins: Vec<Twin>) -> AckOutcome {
        let deadline = server_time(self.machine.clock.in_a_minute());
        let grant = Grant { id: GrantId(7), deadline, document: document.parse().unwrap(), twins };
        self.link.send(ServerFrame::Grant(grant)).await;
        match self.link.receive().await {
            AgentFrame::Ack(Ack { id: GrantId(7), outcome }) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Whether a push is kept for the metadata service, whichever of its instances it is for.
    fn is_kept(&self, push: &Push) -> bool {
        self.machine.directories.run.join("stock").join(push.request_id()).exists()
    }

    /// What a local user is answered to one request, when the connection is closed.
    async fn ask(&self, request: &str) -> String {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    /// What alice's keys are, as the host scripts ask for them.
    async fn alices_keys(&self) -> String {
        let token = self
            .ask(
                "PUT /latest/api/token HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\
                 X-aws-ec2-metadata-token-ttl-seconds: 5\r\n\r\n",
            )
            .await;
        let token = token.split_once("\r\n\r\n").unwrap().1;
        let path = "/latest/meta-data/managed-ssh-keys/active-keys/alice";
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\nX-aws-ec2-metadata-token: {token}\r\n\r\n"
        ))
        .await
    }
}

#[tokio::test]
async fn a_grant_is_there_for_both_commands_before_it_is_acknowledged() {
    let mut serving = Serving::start().await;
    let push = Push::default();
    let document = serving.machine.sign(&push);
    assert_eq!(serving.grant(&document, vec![twin(&document)]).await, INSTALLED);
    // The agent runs in this very thread: nothing of it has gone on since the ack came.
    assert!(serving.is_kept(&push));
    assert_eq!(serving.machine.login(&push), [Ok(push.request_id())]);
    let shown = serving.alices_keys().await;
    assert!(shown.contains(&format!("\n#Request={}\n", push.request_id())), "{shown}");
    assert!(shown.contains(&push.key_line()) && shown.contains("#Alg=rsa-pss"), "{shown}");
    let AgentFrame::Offered(offered) = serving.link.receive().await else { panic!("nobody was told") };
    assert_eq!(offered.request_ids, [push.request_id().parse().unwrap()]);

    let withdraw = Withdraw {
        id: WithdrawId(7),
        request_id: push.request_id().parse().unwrap(),
        fingerprint: push.fingerprint(),
        os_user: push.user(),
    };
    serving.link.send(ServerFrame::Withdraw(withdraw)).await;
    let withdrawn = AgentFrame::Withdrawn(Withdrawn { id: WithdrawId(7), removed: true });
    assert_eq!(serving.link.receive().await, withdrawn);
    assert!(!serving.is_kept(&push) && !serving.machine.live_file(&push).exists());
    assert!(serving.alices_keys().await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn a_grant_whose_signatures_the_scripts_would_not_take_leaves_nothing() {
    let mut serving = Serving::start().await;
    let push = Push::default();
    let document = serving.machine.sign(&push);
    let of_another = twin(&serving.machine.sign(&Push { request: 1, ..Push::default() }));
    for twins in [vec![of_another], vec![]] {
        assert_eq!(serving.grant(&document, twins).await, WRONG_TWIN);
        assert!(!serving.is_kept(&push) && !serving.machine.live_file(&push).exists());
    }
    assert!(serving.alices_keys().await.starts_with("HTTP/1.1 404 "));
    assert_eq!(
        serving.grant(&document, vec![twin(&document)]).await,
        INSTALLED,
        "the link is as good as before"
    );
}

/// Where one of both cannot be, neither is.
#[tokio::test]
async fn a_hand_over_file_that_cannot_be_written_leaves_nothing_to_show() {
    let mut serving = Serving::start().await;
    let push = Push::default();
    let document = serving.machine.sign(&push);
    // Nothing can be renamed over a directory, not even by root.
    fs::create_dir_all(serving.machine.live_file(&push)).unwrap();
    let refused = AckOutcome::Refused(Refusal::Storage);
    assert_eq!(serving.grant(&document, vec![twin(&document)]).await, refused);
    assert!(!serving.is_kept(&push));
    assert!(serving.alices_keys().await.starts_with("HTTP/1.1 404 "));
}

/// A control plane of an earlier version signs for nobody's scripts; keys for our own command come all the same.
#[tokio::test]
async fn a_server_that_knows_of_no_metadata_service_delivers_keys_without_signatures() {
    let mut serving = Serving::start_with(Capabilities::RENEWAL).await;
    let push = Push::default();
    let document = serving.machine.sign(&push);
    assert_eq!(serving.grant(&document, vec![]).await, INSTALLED);
    assert_eq!(serving.machine.login(&push), [Ok(push.request_id())]);
    assert!(!serving.is_kept(&push));
    assert!(serving.alices_keys().await.starts_with("HTTP/1.1 404 "));
    let guests = Push { instance: GUEST, request: 1, ..Push::default() };
    let document = serving.machine.sign(&guests);
    let outcome = serving.grant(&document, vec![]).await;
    assert!(matches!(outcome, AckOutcome::Refused(_)), "a guest would get nothing of it: {outcome:?}");
}

#[tokio::test]
async fn what_an_agent_has_shown_the_next_one_shows() {
    let mut serving = Serving::start().await;
    let push = Push::default();
    let document = serving.machine.sign(&push);
    assert_eq!(serving.grant(&document, vec![twin(&document)]).await, INSTALLED);
    serving.machine.kill_agent().await;
    serving.machine.start_agent();
    // No link is open yet: this one has not been welcomed.
    let _link = serving.control_plane.accept_raw().await;
    assert!(serving.alices_keys().await.contains(&push.key_line()));
}

#[tokio::test]
async fn what_may_not_be_for_a_guest_leaves_nothing() {
    let mut serving = Serving::start().await;
    serving.link.send(ServerFrame::Instance(facts(GUEST))).await;
    let push = Push { instance: GUEST, ..Push::default() };
    for (refused, refusal) in [
        (Push { user: "root", ..push.clone() }, Refusal::Vetoed),
        (Push { instance: "i-00000000000000a1", request: 1, ..push.clone() }, Refusal::WrongInstance),
        (Push { boot: OTHER_BOOT, request: 2, ..push.clone() }, Refusal::WrongBoot),
    ] {
        let document = serving.machine.sign(&refused);
        let outcome = serving.grant(&document, vec![twin(&document)]).await;
        assert_eq!((outcome, serving.is_kept(&refused)), (AckOutcome::Refused(refusal), false));
    }
    let document = serving.machine.sign(&push);
    let outcome = serving.grant(&document, vec![]).await;
    assert!(matches!(outcome, AckOutcome::Refused(_)), "{outcome:?}");
    assert!(!serving.is_kept(&push) && !serving.machine.live_file(&push).exists());
}
