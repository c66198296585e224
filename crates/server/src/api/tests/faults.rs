//! Faults that tests of others ask for: what a call comes to then, and that none succeeds by them.

use super::*;
use crate::faults::Fault;
use hyper::header::DATE;
use instance_connect_core::ids::InstanceId;

/// A setting whose agent takes every key, with these faults.
async fn with(faults: &[&str]) -> Setting {
    let mut setting = Setting::new().await;
    let faults = faults.iter().map(|fault| fault.parse::<Fault>().unwrap()).collect();
    Arc::get_mut(&mut setting.api).unwrap().faults = Faults::begin_with(faults).unwrap();
    setting.spawn_agent();
    setting
}

impl Setting {
    async fn signed_push(&self) -> (u16, String) {
        self.ask(&self.world.push_body("deploy"), SECRET_ACCESS_KEY, "192.0.2.1").await
    }

    /// A push that the caller has signed by a clock that is ahead so many seconds.
    async fn push_signed_ahead(&self, seconds: i64) -> Response<Body> {
        let now = self.clock.wall();
        self.clock.set_wall(UnixSeconds(now.0 + seconds));
        let request = self.signed(&self.world.push_body("deploy"), SECRET_ACCESS_KEY);
        self.clock.set_wall(now);
        Arc::clone(&self.api).answer(request, "192.0.2.1".parse().unwrap(), None).await
    }
}

fn failed(name: &str) -> (u16, String) {
    (if name == "ServiceException" { 500 } else { 400 }, name.to_owned())
}

fn succeeded() -> (u16, String) {
    (200, String::new())
}

#[tokio::test]
async fn an_error_is_had_by_its_name_so_many_times() {
    for name in ["ThrottlingException", "ServiceException", "EC2InstanceStateInvalidException"] {
        let setting = with(&[&format!("error={name},times=2")]).await;
        assert_eq!(setting.signed_push().await, failed(name));
        assert_eq!(setting.signed_push().await, failed(name));
        // Nothing was done, and nothing is on record.
        assert_eq!(setting.audit_records(), Vec::<Value>::new());
        assert_eq!(setting.signed_push().await, succeeded());
    }
}

#[tokio::test]
async fn a_fault_is_for_its_operation_and_instance() {
    let id = World::new().instance;
    let other: InstanceId = "i-0ffffffffffffffff".parse().unwrap();
    for (filter, struck) in [
        (String::new(), true),
        (",operation=SendSSHPublicKey".to_owned(), true),
        (format!(",operation=SendSSHPublicKey,instance={id}"), true),
        (format!(",instance={other}"), false),
        (",operation=SendSerialConsoleSSHPublicKey".to_owned(), false),
        (format!(",operation=SendSerialConsoleSSHPublicKey,instance={id}"), false),
    ] {
        let setting = with(&[&format!("error=AuthException{filter}")]).await;
        let expected = if struck { failed("AuthException") } else { succeeded() };
        assert_eq!(setting.signed_push().await, expected, "{filter}");
    }
}

#[tokio::test]
async fn faults_are_for_those_who_are_authenticated() {
    let setting = with(&["error=ThrottlingException"]).await;
    let body = setting.world.push_body("deploy");
    assert_eq!(setting.ask(&body, "not the secret", "192.0.2.1").await, failed("InvalidSignatureException"));
    assert_eq!(setting.signed_push().await, failed("ThrottlingException"));
}

/// A clock that is off only refuses: what is good by it alone stays refused, or old requests could be sent once more.
#[tokio::test]
async fn a_signature_has_to_be_good_by_both_clocks() {
    for (offset, ahead, good) in [
        (0, 0, true),
        (200, 0, true),
        (600, 0, false),
        (-600, 0, false),
        (600, 600, false),
        (-600, -600, false),
    ] {
        let setting = with(&[&format!("clock_offset_seconds={offset}")]).await;
        let answer = setting.push_signed_ahead(ahead).await;
        assert_eq!(answer.status().as_u16(), if good { 200 } else { 400 }, "{offset} {ahead}");
    }
}

#[tokio::test]
async fn a_client_sees_how_far_the_clock_is_off() {
    let setting = with(&["clock_offset_seconds=600,times=1"]).await;
    let answer = setting.push_signed_ahead(0).await;
    assert_eq!(answer.headers()["x-amzn-errortype"], "InvalidSignatureException");
    assert_eq!(answer.headers()[DATE], "Tue, 11 Feb 2031 02:15:06 GMT");
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    let message = "Signature expired: 20310211T020506Z is now earlier than 20310211T021006Z (20310211T021506Z - 5 min.)";
    assert!(String::from_utf8_lossy(&body).contains(message), "{body:?}");
    let answer = setting.push_signed_ahead(0).await;
    assert!(answer.status() == 200 && !answer.headers().contains_key(DATE));
}

#[tokio::test]
async fn a_key_ends_sooner_and_never_later() {
    for (fault, seconds) in [("key_lifetime_seconds=2", 2), ("key_lifetime_seconds=60", 60)] {
        let mut setting = Setting::new().await;
        let faults = Faults::begin_with(vec![fault.parse().unwrap()]).unwrap();
        Arc::get_mut(&mut setting.api).unwrap().faults = faults;
        let (link, mut queue) = setting.connect();
        let agent = async {
            let Some(ServerFrame::Grant(grant)) = queue.recv().await else { panic!("no grant") };
            link.acknowledged(grant.id, AckOutcome::Installed { os_user_exists: true });
            grant
        };
        let (answer, grant) = tokio::join!(setting.signed_push(), agent);
        assert_eq!(answer, succeeded());
        let remaining = grant.deadline.since(setting.clock.monotonic());
        assert_eq!(remaining, Duration::from_secs(seconds), "{fault}");
        let expires = setting.clock.wall().0 + i64::try_from(seconds).unwrap();
        assert!(grant.document.as_str().starts_with(&format!("#Timestamp={expires}\n")), "{fault}");
    }
}

/// Time passes when all wait. What is held up is judged like a request that comes later.
#[tokio::test(start_paused = true)]
async fn a_call_is_held_up_before_it_is_judged() {
    let faults = Faults::begin_with(vec!["delay_ms=60000,times=1".parse().unwrap()]).unwrap();
    let setting = Setting::new().await;
    let request = setting.signed(&setting.world.push_body("deploy"), SECRET_ACCESS_KEY);
    let begun = tokio::time::Instant::now();
    for waited in [60, 60] {
        faults.arrived(&request, setting.clock.as_ref()).await;
        assert_eq!(begun.elapsed().as_secs(), waited);
    }
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_ends_while_a_call_is_held_up_is_refused() {
    let setting = with(&["delay_ms=120000"]).await;
    let (clock, now) = (Arc::clone(&setting.clock), setting.clock.wall());
    let pushed = setting.signed_push();
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        clock.set_wall(UnixSeconds(now.0 + 301));
    };
    let (answer, ()) = tokio::join!(pushed, later);
    assert_eq!(answer, failed("InvalidSignatureException"));
}
