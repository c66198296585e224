//! What happens after a failed attempt: another, a pause, another clock, or nothing.

use crate::server::{Act, NOW, Reply, Server, Stage, acting, client_of, client_on, http};
use instance_connect_client::{Client, ClientBuilder, Error, Event, SendSshPublicKey};
use serde_json::Value;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SUCCESS: &str = r#"{"RequestId":"id","Success":true}"#;

fn push() -> SendSshPublicKey {
    SendSshPublicKey::new("i-0123456789abcdef0", "ec2-user", "ssh-ed25519 AAAA")
}

/// Each case of the fixture: the same answers in the same order, to one client of ours.
#[tokio::test]
async fn tried_again_as_botocore_does() {
    let fixture: Value = serde_json::from_str(include_str!("../botocore_fixture.json")).unwrap();
    for case in fixture["calls"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let answers = case["answers"].as_array().unwrap().iter().map(act).collect();
        let (address, connections) = acting(answers).await;
        let random = match case["random"].as_f64() {
            None => u32::MAX,
            Some(0.5) => u32::MAX / 2,
            Some(other) => panic!("{name}: {other}"),
        };
        let stage = Arc::new(Stage { random, ..Stage::default() });
        let most = case["max_attempts"].as_u64().unwrap_or(3).try_into().unwrap();
        let client = client_on(&stage, &format!("http://{address}"), Client::builder().max_attempts(most));
        let mut attempts = 0;
        for (number, made) in case["made"].as_array().unwrap().iter().enumerate() {
            let outcome = outcome(client.send_ssh_public_key(&push()).await.as_ref().err());
            assert_eq!(made["outcome"], outcome, "{name}, call {number}");
            let pauses: Vec<Duration> = stage.pauses.lock().unwrap().drain(..).collect();
            let expected = made["pauses"].as_array().unwrap();
            assert_eq!(pauses.len(), expected.len(), "{name}, call {number}");
            for (pause, expected) in pauses.iter().zip(expected) {
                let difference = pause.as_secs_f64() - expected.as_f64().unwrap();
                assert!(difference.abs() < 1e-6, "{name}, call {number}: {pause:?} and {expected}");
            }
            attempts += 1 + expected.len();
        }
        assert_eq!(connections.load(Ordering::SeqCst), attempts, "{name}");
    }
}

fn act(answer: &Value) -> Act {
    let Some(body) = answer["body"].as_str() else { return Act::Write(Vec::new()) };
    let headers = answer["headers"].as_object().into_iter().flatten();
    let head: String =
        headers.map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap())).collect();
    http(answer["status"].as_u64().unwrap().try_into().unwrap(), &head, body)
}

fn outcome(error: Option<&Error>) -> String {
    match error {
        None => "Success".to_owned(),
        Some(error) => error.fault().map_or("ConnectionClosed", |fault| &fault.code).to_owned(),
    }
}

/// HTTP's own header, which botocore does not look at, asks as AWS's does.
#[tokio::test]
async fn a_service_that_asks_for_patience() {
    for (head, pause) in [
        ("Retry-After: 2\r\n", 2000),
        ("Retry-After: 0\r\n", 50),
        ("Retry-After: 3600\r\n", 5050),
        ("Retry-After: 99999999999999999999\r\n", 50),
        ("Retry-After: -1\r\n", 50),
        ("Retry-After: Sun, 01 Mar 2026 12:35:06 GMT\r\n", 50),
        ("Retry-After: 2\r\nx-amz-retry-after: 70\r\n", 70),
    ] {
        let (address, _) = acting(vec![http(503, head, "<html>"), http(200, "", SUCCESS)]).await;
        let stage = Arc::default();
        let client = client_on(&stage, &format!("http://{address}"), Client::builder());
        assert!(client.send_ssh_public_key(&push()).await.unwrap().success);
        assert_eq!(*stage.pauses.lock().unwrap(), [Duration::from_millis(pause)], "{head}");
    }
}

/// Chance makes a pause shorter, down to none at all.
#[tokio::test]
async fn pauses_are_spread() {
    for (random, pauses) in [(0, [0, 0]), (u32::MAX / 4, [250, 500])] {
        let throttled = http(400, "", r#"{"__type":"ThrottlingException"}"#);
        let (address, _) = acting(vec![throttled]).await;
        let stage = Arc::new(Stage { random, ..Stage::default() });
        let client = client_on(&stage, &format!("http://{address}"), Client::builder());
        assert!(matches!(client.send_ssh_public_key(&push()).await, Err(Error::Throttling(_))));
        let rounded: Vec<_> =
            stage.pauses.lock().unwrap().iter().map(|pause| pause.as_micros().div_ceil(1000)).collect();
        assert_eq!(rounded, pauses);
    }
}

/// Without a stage, the pauses are the runtime's, and this one's clock does not wait for them.
#[tokio::test(start_paused = true)]
async fn the_systems_surroundings() {
    let throttled = http(400, "", r#"{"__type":"ThrottlingException"}"#);
    let (address, connections) = acting(vec![throttled]).await;
    let builder = Client::builder().region("us-east-1").endpoint_url(format!("http://{address}"));
    let settings = builder.credentials(crate::server::credentials()).resolve(&Default::default()).unwrap();
    let started = tokio::time::Instant::now();
    let error = Client::new(settings).unwrap().send_ssh_public_key(&push()).await.unwrap_err();
    assert!(matches!(error, Error::Throttling(_)), "{error:?}");
    assert_eq!(connections.load(Ordering::SeqCst), 3);
    assert!(
        started.elapsed() <= Duration::from_secs(3) + Duration::from_millis(10),
        "{:?}",
        started.elapsed()
    );
}

/// Each attempt is signed anew, at its own time.
#[tokio::test]
async fn attempts_are_told_and_signed_one_by_one() {
    let server = Server::start(Reply::json(500, r#"{"__type":"ServiceException","Message":"oh"}"#)).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let builder = Client::builder().observer(move |event: &Event<'_>| {
        if let Event::Retrying { failure, pause } = event {
            log.lock().unwrap().push((failure.to_string(), *pause));
        }
    });
    let error = server.client_with(builder).send_ssh_public_key(&push()).await.unwrap_err();
    assert!(matches!(error, Error::ServiceFailure(_)), "{error:?}");
    let failure = "ServiceException: oh".to_owned();
    let expected = [50, 100].map(|milliseconds| (failure.clone(), Duration::from_millis(milliseconds)));
    assert_eq!(*told.lock().unwrap(), expected);
    assert_eq!(server.received.lock().unwrap().len(), 3);
}

const EXPIRED: &str = r#"{"__type":"com.amazon.coral.service#InvalidSignatureException","message":"Signature expired: 20260301T123456Z is now earlier than 20260301T124000Z (20260301T124500Z - 5 min.)"}"#;

/// The refusal of a clock, with this `Date`.
fn refused_at(date: &str, body: &str) -> Act {
    http(400, &format!("Date: {date}\r\n"), body)
}

/// A client of `acts`, and what it tells of clocks.
async fn clocked(acts: Vec<Act>, builder: ClientBuilder) -> (Client, Arc<Stage>, Arc<Mutex<Vec<i64>>>) {
    let (address, _) = acting(acts).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let builder = builder.observer(move |event: &Event<'_>| {
        if let Event::ClockCorrected { seconds } = event {
            log.lock().unwrap().push(*seconds);
        }
    });
    let stage = Arc::default();
    (client_on(&stage, &format!("http://{address}"), builder), stage, told)
}

/// A server that takes signatures of its own time alone, as the real one does.
async fn strict_server(date: &'static str, amz_date: &'static str) -> Server {
    Server::deciding(move |request| {
        let in_time = request.headers["x-amz-date"] == amz_date;
        let mut reply = if in_time { Reply::success() } else { Reply::json(400, EXPIRED) };
        reply.headers.push(("date", date));
        reply
    })
    .await
}

#[tokio::test]
async fn a_wrong_clock_costs_one_attempt() {
    // Ten minutes ahead of ours, then ten behind.
    for (date, amz_date) in [
        ("Sun, 01 Mar 2026 12:44:56 GMT", "20260301T124456Z"),
        ("Sun, 01 Mar 2026 12:24:56 GMT", "20260301T122456Z"),
    ] {
        let server = strict_server(date, amz_date).await;
        let stage: Arc<Stage> = Arc::default();
        let client = client_on(&stage, &server.url, Client::builder());
        assert!(client.send_ssh_public_key(&push()).await.unwrap().success);
        assert_eq!(server.received.lock().unwrap().len(), 2);
        // At once, and it is not forgotten.
        assert_eq!(*stage.pauses.lock().unwrap(), [Duration::ZERO]);
        for _ in 0..3 {
            assert!(client.clone().send_ssh_public_key(&push()).await.unwrap().success);
        }
        assert_eq!(server.received.lock().unwrap().len(), 5);
    }
}

/// Somebody sets the clock right while the client lives: what it knew is wrong now.
#[tokio::test]
async fn a_clock_that_is_set() {
    let server = strict_server("Sun, 01 Mar 2026 12:44:56 GMT", "20260301T124456Z").await;
    let stage: Arc<Stage> = Arc::default();
    let client = client_on(&stage, &server.url, Client::builder());
    assert!(client.send_ssh_public_key(&push()).await.unwrap().success);
    stage.now.store(NOW.0 + 600, Ordering::SeqCst);
    assert!(client.send_ssh_public_key(&push()).await.unwrap().success);
    assert_eq!(server.received.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn refusals_that_no_clock_explains() {
    let mismatch =
        r#"{"__type":"InvalidSignatureException","message":"The request signature we calculated …"}"#;
    let denied = r#"{"__type":"AccessDeniedException","Message":"no"}"#;
    for (date, body) in [
        // Four minutes are what the way may take.
        ("Sun, 01 Mar 2026 12:38:56 GMT", mismatch),
        ("Sun, 01 Mar 2026 12:30:56 GMT", EXPIRED),
        ("yesterday", EXPIRED),
        // Another code says nothing about the clock.
        ("Sun, 01 Mar 2026 13:34:56 GMT", denied),
    ] {
        let (client, stage, told) = clocked(vec![refused_at(date, body)], Client::builder()).await;
        assert!(client.send_ssh_public_key(&push()).await.is_err());
        assert!(told.lock().unwrap().is_empty() && stage.pauses.lock().unwrap().is_empty(), "{date} {body}");
    }
}

/// A server whose word changes with each answer is not followed for ever.
#[tokio::test]
async fn clocks_that_run_wild() {
    let dates =
        ["Sun, 01 Mar 2026 13:34:56 GMT", "Sun, 01 Mar 2099 12:34:56 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"];
    let acts = dates.map(|date| refused_at(date, EXPIRED)).to_vec();
    let (client, _, told) = clocked(acts, Client::builder()).await;
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert!(matches!(&error, Error::ClockSkew(fault) if fault.clock_skew == Some(-NOW.0)), "{error:?}");
    assert_eq!(told.lock().unwrap().len(), 3);
}

/// One attempt is one attempt; the next call knows better.
#[tokio::test]
async fn a_correction_for_the_next_call() {
    let server = strict_server("Sun, 01 Mar 2026 12:44:56 GMT", "20260301T124456Z").await;
    let client = client_of(&server.url, Client::builder().max_attempts(1));
    let error = client.send_ssh_public_key(&push()).await.unwrap_err();
    assert!(matches!(&error, Error::ClockSkew(fault) if fault.clock_skew == Some(600)), "{error:?}");
    assert!(client.send_ssh_public_key(&push()).await.unwrap().success);
}

/// Somebody on the way who may not sign, but would like a push that is good next month, answers in the service's place
/// with next month's date. On Linux, 0.0.0.0 reaches this machine while it does not look like it.
#[tokio::test]
async fn a_date_that_anybody_could_have_sent_is_not_believed() {
    let server = Server::deciding(|_| {
        let mut reply = Reply::json(400, EXPIRED);
        reply.headers.push(("date", "Wed, 01 Apr 2026 12:34:56 GMT"));
        reply
    })
    .await;
    let client =
        client_of(&server.url.replace("127.0.0.1", "0.0.0.0"), Client::builder().allow_plain_http(true));
    for _ in 0..2 {
        let error = client.send_ssh_public_key(&push()).await.unwrap_err();
        // It is still said by how much the clocks differ.
        assert!(
            matches!(&error, Error::ClockSkew(fault) if fault.clock_skew == Some(31 * 86_400)),
            "{error:?}"
        );
    }
    let received = server.received.lock().unwrap();
    let dates: Vec<_> =
        received.iter().map(|request| request.headers["x-amz-date"].to_str().unwrap()).collect();
    assert_eq!(dates, ["20260301T123456Z", "20260301T123456Z"]);
}
