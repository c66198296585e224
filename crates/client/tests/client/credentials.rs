//! Credentials from a program of the user's: asked in time, once, and ended with the call that asks.

use crate::server::{Reply, Server, Stage};
use instance_connect_client::{Client, Environment, Error, Event, SendSshPublicKey, Surroundings};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

fn push() -> SendSshPublicKey {
    SendSshPublicKey::new("i-0123456789abcdef0", "ec2-user", "ssh-ed25519 AAAA")
}

/// Counts its runs, and prints a key id with that number.
const COUNTING: &str = r#"
cd "$(dirname "$0")"
echo >> runs
number=$(wc -l < runs)
if [ -e broken ]; then echo "no token device" >&2; exit 3; fi
printf '{"Version": 1, "AccessKeyId": "KEY%s", "SecretAccessKey": "PRINTED-SECRET", "SessionToken": "PRINTED-TOKEN",
 "Expiration": "%s"}' "$number" "$(cat expiration)"
"#;

/// A home whose profile has a program.
struct Home {
    directory: TempDir,
    stage: Arc<Stage>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Home {
    fn new(script: &str) -> Self {
        let home = Self { directory: TempDir::new().unwrap(), stage: Arc::default(), told: Arc::default() };
        let program = home.write("program", &format!("#!/bin/sh\n{script}"));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(home.directory.path().join(".aws")).unwrap();
        home.write(
            ".aws/config",
            &format!("[default]\ncredential_process = {} an-argument\n", program.display()),
        );
        home
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// How often the program was started.
    fn runs(&self) -> usize {
        std::fs::read_to_string(self.directory.path().join("runs")).unwrap_or_default().len()
    }

    fn client(&self, url: &str) -> Client {
        let log = Arc::clone(&self.told);
        let builder = Client::builder()
            .region("us-east-1")
            .endpoint_url(url)
            .surroundings(Arc::clone(&self.stage) as Arc<dyn Surroundings>)
            .observer(move |event: &Event<'_>| log.lock().unwrap().push(format!("{event:?}")));
        let environment = Environment::new([("AWS_PAGER", "")], Some(self.directory.path().to_owned()));
        let settings = builder.resolve(&environment).unwrap();
        assert_eq!(settings.access_key_id(), None);
        assert_eq!(settings.credentials_source(), "the credential_process of profile default");
        Client::new(settings).unwrap()
    }

    fn pass(&self, seconds: i64) {
        self.stage.now.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// The key ids that signed.
fn signers(server: &Server) -> Vec<String> {
    let received = server.received.lock().unwrap();
    let id = |text: &str| text.split(['=', '/']).nth(1).unwrap().to_owned();
    received.iter().map(|request| id(request.headers["authorization"].to_str().unwrap())).collect()
}

#[tokio::test]
async fn replaced_before_they_expire() {
    let home = Home::new(COUNTING);
    home.write("expiration", "2026-03-01T13:34:56Z");
    let server = Server::start(Reply::success()).await;
    let client = home.client(&server.url);
    for _ in 0..3 {
        client.send_ssh_public_key(&push()).await.unwrap();
    }
    home.pass(3600 - 301);
    client.send_ssh_public_key(&push()).await.unwrap();
    assert_eq!(signers(&server), ["KEY1"; 4]);
    home.write("expiration", "2026-03-01T14:29:56Z");
    home.pass(1);
    client.send_ssh_public_key(&push()).await.unwrap();
    assert_eq!(signers(&server)[4], "KEY2");
    assert_eq!(server.received.lock().unwrap()[4].headers["x-amz-security-token"], "PRINTED-TOKEN");

    let told = home.told.lock().unwrap().join("\n");
    assert!(
        told.contains(
            r#"CredentialsIssued { access_key_id: "KEY2", expires: Some(UnixSeconds(1772375396)) }"#
        ),
        "{told}"
    );
    assert!(!told.contains("PRINTED") && !format!("{client:?}").contains("PRINTED"), "{told}");
    assert!(!format!("{client:?}").contains("an-argument"), "{client:?}");
}

/// A program that fails for a while is no reason to stop before its last credentials do.
#[tokio::test]
async fn a_program_that_breaks() {
    let home = Home::new(COUNTING);
    home.write("expiration", "2026-03-01T13:34:56Z");
    let server = Server::start(Reply::success()).await;
    let client = home.client(&server.url);
    client.send_ssh_public_key(&push()).await.unwrap();
    home.write("broken", "");
    // Asked once, and left alone for a minute.
    for (seconds, runs) in [(3400, 2), (59, 2), (1, 3), (0, 3), (139, 4)] {
        home.pass(seconds);
        client.send_ssh_public_key(&push()).await.unwrap();
        assert_eq!(home.runs(), runs, "{seconds}");
    }
    home.pass(1);
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the credential_process of profile default failed (exit status: 3): no token device"
    );
    assert!(matches!(error, Error::Credentials(_)), "{error:?}");
    assert_eq!(signers(&server), ["KEY1"; 6]);
}

/// With a wrong clock, what counts is the service's time as soon as that is known.
#[tokio::test]
async fn expiration_by_the_services_clock() {
    let home = Home::new(COUNTING);
    home.write("expiration", "2026-03-01T13:34:56Z");
    let server = Server::deciding(|request| {
        let in_time = request.headers["x-amz-date"] == "20260301T133455Z";
        let mut reply =
            if in_time { Reply::success() } else { Reply::json(400, r#"{"__type":"RequestExpired"}"#) };
        reply.headers.push(("date", "Sun, 01 Mar 2026 13:34:55 GMT"));
        reply
    })
    .await;
    let client = home.client(&server.url);
    client.send_ssh_public_key(&push()).await.unwrap();
    client.send_ssh_public_key(&push()).await.unwrap();
    assert_eq!(signers(&server), ["KEY1", "KEY1", "KEY2"]);
}

#[tokio::test]
async fn calls_at_once_start_it_once() {
    let home = Home::new(COUNTING);
    home.write("expiration", "2026-03-01T13:34:56Z");
    let server = Server::start(Reply::success()).await;
    let client = home.client(&server.url);
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send_ssh_public_key(&push()).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(home.runs(), 1);
}

#[test]
fn blocking_calls() {
    let home = Home::new(COUNTING);
    home.write("expiration", "2026-03-01T13:34:56Z");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(Server::start(Reply::success()));
    let settings = home.client(&server.url).settings().clone();
    let client = instance_connect_client::blocking::Client::new(settings).unwrap();
    for _ in 0..2 {
        assert!(client.send_ssh_public_key(&push()).unwrap().success);
    }
    assert_eq!(home.runs(), 1);
}

/// What goes wrong is said, what was printed is not. Nothing listens where these calls would go.
#[tokio::test]
async fn programs_that_are_no_good() {
    for (script, complaint) in [
        ("echo SECRET; exit 1", "failed (exit status: 1) and said nothing".to_owned()),
        ("echo SECRET; kill -TERM $$", "failed (signal: 15 (SIGTERM)) and said nothing".to_owned()),
        (
            "printf '\\033[31mfirst\\nsecond\\n' >&2; exit 2",
            "failed (exit status: 2): \\u{1b}[31mfirst\\nsecond".to_owned(),
        ),
        (
            "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo SECRET; exit 1",
            format!("failed (exit status: 1): {}", "x".repeat(1024)),
        ),
        ("echo SECRET", "printed no credentials in JSON (line 1, column 1)".to_owned()),
        (
            r#"echo '{"Version": 1, "AccessKeyId": ["SECRET"]}'"#,
            "printed no credentials in JSON (line 1, column 30)".to_owned(),
        ),
        (r#"echo '{"Version": 2}'"#, "printed version 2 of the format, not 1".to_owned()),
        (r#"echo '{"Version": 1, "SecretAccessKey": "SECRET"}'"#, "printed no AccessKeyId".to_owned()),
        (
            r#"echo '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": ""}'"#,
            "printed no SecretAccessKey".to_owned(),
        ),
        (
            r#"echo '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "SECRET", "Expiration": "SECRET"}'"#,
            "printed an Expiration that is not a time such as 2026-01-02T03:04:05Z".to_owned(),
        ),
        (
            r#"echo '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "SECRET", "Expiration": "2026-03-01T12:34:56Z"}'"#,
            "gave credentials that have expired".to_owned(),
        ),
        ("exec yes SECRET", "cannot be read: it printed more than 65536 bytes".to_owned()),
    ] {
        let error =
            Home::new(script).client("http://127.0.0.1:9").send_ssh_public_key(&push()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the credential_process of profile default {complaint}"));
    }
    let home = Home::new("");
    std::fs::remove_file(home.directory.path().join("program")).unwrap();
    let error = home.client("http://127.0.0.1:9").send_ssh_public_key(&push()).await.unwrap_err();
    let program = home.directory.path().join("program");
    let expected = format!(
        "the credential_process of profile default cannot be started as {program:?}: No such file or directory (os error 2)"
    );
    assert_eq!(error.to_string(), expected);
}

/// It reads nothing of ours, and may complain at length without getting stuck.
#[tokio::test]
async fn a_program_that_reads_and_talks() {
    let script = r#"yes complaint | head -c 1000000 >&2; cat; echo '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B"}'"#;
    let server = Server::start(Reply::success()).await;
    assert!(Home::new(script).client(&server.url).send_ssh_public_key(&push()).await.unwrap().success);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_never_ends() {
    let home = Home::new("exec sleep 100");
    let error = home.client("http://127.0.0.1:9").send_ssh_public_key(&push()).await.unwrap_err();
    assert!(
        error.to_string().starts_with("the credential_process of profile default took longer than 60 s"),
        "{error}"
    );
}

/// Nobody waits for the call any more: the program goes too. It holds a pipe open, whose end is seen here.
#[tokio::test]
async fn a_program_ends_with_its_call() {
    let home = Home::new("exec 3> \"$(dirname \"$0\")/pipe\"; echo >&3; exec sleep 100");
    let path = home.directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut pipe = pipe::OpenOptions::new().open_receiver(path).unwrap();
    let client = home.client("http://127.0.0.1:9");
    let push = push();
    let started = async {
        // Until the program has opened its end, there is nothing in it but its end.
        while pipe.read(&mut [0]).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = client.send_ssh_public_key(&push) => panic!("{answer:?}"),
        () = started => {}
    }
    let end = tokio::time::timeout(Duration::from_secs(20), pipe.read(&mut [0])).await;
    assert_eq!(end.expect("the program is still there").unwrap(), 0);
}
