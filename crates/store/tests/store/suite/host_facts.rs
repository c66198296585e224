//! What agents say of their machines.

use crate::engine::Engine;
use crate::fixtures::*;
use instance_connect_core::host_facts::{HostFacts, HostFactsReport as Report, ReportedFacts};
use instance_connect_core::inventory::{AgentChange, InstanceState};
use instance_connect_store::{Entity, Store, StoreError};

async fn known(store: &dyn Store, instance: u8) -> Option<ReportedFacts> {
    store.host_facts(&[instance_id(instance)]).await.unwrap().remove(&instance_id(instance))
}

/// A report by the agent of instance 1: what came of it, and whether it has raised the sequence.
async fn report(store: &dyn Store, generation: u64, facts: &HostFacts, seconds: i64) -> (Report, bool) {
    let before = store.sequence().await.unwrap();
    let judged = store.judge_host_facts(&instance_id(1), generation, facts).await.unwrap();
    let reported = store.report_host_facts(&instance_id(1), generation, facts, later(seconds)).await.unwrap();
    assert_eq!(judged, reported);
    let after = store.sequence().await.unwrap();
    assert!(after - before <= 1);
    (reported, after > before)
}

pub(crate) async fn host_facts_are_kept_as_the_agent_says_them(engine: impl Engine) {
    let store = engine.open().await;
    populate_version_7(&*store).await;
    assert_eq!(known(&*store, 1).await, None);
    assert_eq!(report(&*store, 1, &HostFacts::default(), 0).await, (Report::Recorded, true));
    assert_eq!(report(&*store, 1, &facts(1), 1).await, (Report::Recorded, true));
    let first = ReportedFacts { facts: facts(1), reported_at: later(1) };
    assert_eq!(known(&*store, 1).await, Some(first.clone()));
    // Said again, it is said since then; and what nobody is shown in a list is nobody's new snapshot.
    assert_eq!(report(&*store, 1, &facts(1), 2).await, (Report::Known, false));
    assert_eq!(known(&*store, 1).await, Some(first));
    let renamed = HostFacts { hostname: "other".parse().unwrap(), ..facts(1) };
    assert_eq!(report(&*store, 1, &renamed, 3).await, (Report::Recorded, false));

    let updated = HostFacts { kernel: "6.1.0-19-amd64".parse().unwrap(), ..renamed.clone() };
    assert_eq!(report(&*store, 1, &updated, 4).await, (Report::Kept, false));
    assert_eq!(report(&*store, 1, &renamed, 3).await, (Report::Kept, false));

    // Whoever starts again knows it, in the same order.
    let store = engine.open().await;
    assert_eq!(
        known(&*store, 1).await,
        Some(ReportedFacts { facts: renamed.clone(), reported_at: later(3) })
    );
    assert_eq!(view(&*store).await.claims, [(instance_id(1), renamed.claims())].into());
    assert!(store.host_facts(&[instance_id(2), instance_id(9)]).await.unwrap().is_empty());
    // A machine that is gone is where it was.
    store.set_instance_state(&instance_id(1), InstanceState::Terminated, NOW).await.unwrap();
    assert_eq!(report(&*store, 1, &facts(2), 4).await, (Report::Known, false));
    assert_eq!(known(&*store, 1).await.unwrap().facts, renamed);
}

pub(crate) async fn what_an_agent_that_was_replaced_or_revoked_says_does_not_count(engine: impl Engine) {
    let store = engine.open().await;
    populate(&*store).await;
    let late = async |generation| {
        let before = view(&*store).await;
        let refused = store.judge_host_facts(&instance_id(1), generation, &facts(2)).await.unwrap_err();
        assert!(matches!(refused, StoreError::NotFound(Entity::Agent)), "{refused:?}");
        let refused = store.report_host_facts(&instance_id(1), generation, &facts(2), NOW).await.unwrap_err();
        assert!(matches!(refused, StoreError::NotFound(Entity::Agent)), "{refused:?}");
        assert_eq!(view(&*store).await, before);
        assert_eq!(known(&*store, 1).await, None);
    };
    store.create_join_token(&token(4, 1), NOW).await.unwrap();
    store.redeem_join_token(&[4; 32], &instance_id(1), NOW, true).await.unwrap();
    late(1).await;
    assert_eq!(report(&*store, 2, &facts(1), 0).await, (Report::Recorded, true));
    store.change_agent(&instance_id(1), AgentChange::Revoke).await.unwrap();
    late(2).await;
    let refused = store.report_host_facts(&instance_id(2), 1, &facts(2), NOW).await.unwrap_err();
    assert!(matches!(refused, StoreError::NotFound(Entity::Agent)), "it was never enrolled");
}
