//! What agents say of their machines.

use super::*;
use instance_connect_core::host_facts::{Addresses, HostFacts};
use instance_connect_core::ids::Fingerprint;
use instance_connect_core::inventory::{AgentChange, InstanceDetails};
use instance_connect_core::link::{AgentUrn, Offered};

fn facts(address: &str) -> HostFacts {
    HostFacts {
        hostname: "web".parse().unwrap(),
        architecture: "aarch64".parse().unwrap(),
        addresses: vec![address.parse().unwrap()],
        ..HostFacts::default()
    }
}

fn frame(address: &str) -> AgentFrame {
    AgentFrame::HostFacts(Box::new(facts(address)))
}

impl Setting {
    fn urn(&self, generation: u64) -> AgentUrn {
        AgentUrn {
            region: self.agents.region.clone(),
            account: self.world.account.clone(),
            instance: self.world.instance.clone(),
            generation,
        }
    }

    /// The first address of each report that is on record.
    fn addresses_recorded(&self) -> Vec<serde_json::Value> {
        let records = self.records_of("ReportHostFacts").into_iter();
        records.map(|record| record["requestParameters"]["addresses"][0].clone()).collect()
    }

    /// Where the instance is found, by the newest snapshot.
    async fn found(&self, instance: &InstanceId) -> Addresses {
        self.agents.inventory.refresh().await.unwrap();
        let inventory = self.agents.inventory.current().unwrap();
        inventory.addresses(&inventory.instances[instance])
    }

    async fn is_found_at(&self, address: &str) {
        let expected = Addresses { private_ip: address.parse().ok(), ..Addresses::default() };
        let wait = async {
            while self.found(&self.world.instance).await != expected {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
    }
}

#[tokio::test]
async fn host_facts_are_taken_at_intervals_and_follow_a_change() {
    let setting = Setting::new().await;
    let urn = |generation| setting.urn(generation);
    setting.enroll("first").await.unwrap();
    let mut socket = setting.open("first").await;
    send_and_wait(&mut socket, &frame("10.0.1.1")).await;
    setting.is_found_at("10.0.1.1").await;
    // What is said once more is nothing new.
    host_facts::take(&setting.agents, &urn(1), &facts("10.0.1.1")).await.unwrap();
    // Too soon after the last one: they wait, and the last of them counts.
    for address in ["10.0.1.2", "10.0.1.3"] {
        send_and_wait(&mut socket, &frame(address)).await;
    }
    setting.is_found_at("10.0.1.1").await;
    setting.wait(limits::HOST_FACT_REPORTS).await;
    send(&mut socket, &AgentFrame::Ping(Ping { sent_at: BootInstant(3) })).await;
    setting.is_found_at("10.0.1.3").await;

    // Whoever takes the identity over has said nothing yet, and what the one before says does not count any more.
    setting.enroll("second").await.unwrap();
    setting.is_found_at("").await;
    host_facts::take(&setting.agents, &urn(1), &facts("10.0.1.1")).await.unwrap();
    setting.is_found_at("").await;
    host_facts::take(&setting.agents, &urn(2), &facts("10.0.1.4")).await.unwrap();
    setting.is_found_at("10.0.1.4").await;

    // On record is what was new of it, each time.
    let recorded = ["10.0.1.1", "10.0.1.3", "10.0.1.4"];
    assert_eq!(setting.addresses_recorded(), recorded);
    // Another kernel is kept, and nothing that the record would show.
    let updated = HostFacts { kernel: "6.1.0-19-amd64".parse().unwrap(), ..facts("10.0.1.4") };
    host_facts::take(&setting.agents, &urn(2), &updated).await.unwrap();
    let own = &setting.world.instance;
    let kept = setting.agents.inventory.store().host_facts(std::slice::from_ref(own)).await.unwrap();
    assert_eq!(kept[own].facts, updated);
    assert_eq!(setting.addresses_recorded(), recorded);
}

/// An agent says of keys what it likes, as often as it likes; that does not keep from the record where it leads clients.
#[tokio::test]
async fn where_clients_are_led_is_on_record_before() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut socket = setting.open("first").await;
    let offered = AgentFrame::Offered(Offered {
        offered_at: BootInstant(1),
        lost: 0,
        fingerprint: Fingerprint::from_bytes([7; 32]),
        os_user: "deploy".parse().unwrap(),
        request_ids: Vec::new(),
    });
    for _ in 0..600 {
        send_and_wait(&mut socket, &offered).await;
    }
    send_and_wait(&mut socket, &frame("10.0.1.2")).await;
    setting.is_found_at("10.0.1.2").await;
    assert_eq!(setting.addresses_recorded(), ["10.0.1.2"]);

    // What cannot be recorded leads nobody anywhere.
    setting.agents.audit.fail();
    host_facts::take(&setting.agents, &setting.urn(1), &facts("10.0.1.3")).await.unwrap_err();
    setting.is_found_at("10.0.1.2").await;
}

/// Nobody knows which of two machines has said it.
#[tokio::test]
async fn what_a_suspended_identity_says_is_not_shown() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    host_facts::take(&setting.agents, &setting.urn(1), &facts("10.0.1.1")).await.unwrap();
    setting.is_found_at("10.0.1.1").await;
    let (store, instance) = (setting.agents.inventory.store(), &setting.world.instance);
    store.change_agent(instance, AgentChange::Suspend { presented: 1 }).await.unwrap();
    setting.is_found_at("").await;
    store.change_agent(instance, AgentChange::Rearm).await.unwrap();
    setting.is_found_at("10.0.1.1").await;
}

/// A frame names no instance, so a lie is about the liar's own.
#[tokio::test]
async fn an_agent_that_lies_moves_no_other_instance_and_none_that_operators_have_placed() {
    let setting = Setting::new().await;
    let store = setting.agents.inventory.store();
    let placed = Instance {
        id: "i-0fedcba9876543210".parse().unwrap(),
        details: InstanceDetails { private_ip: "10.0.1.9".parse().ok(), ..InstanceDetails::default() },
        ..(*setting.world.inventory.instances[&setting.world.instance]).clone()
    };
    store.create_instance(&placed).await.unwrap();
    setting.enroll("first").await.unwrap();
    let mut socket = setting.open("first").await;
    for (claimed, shown) in [("10.0.1.8", "10.0.1.8"), ("10.0.1.9", "")] {
        host_facts::take(&setting.agents, &setting.urn(1), &facts(claimed)).await.unwrap();
        setting.is_found_at(shown).await;
    }
    let of_placed = Addresses { private_ip: "10.0.1.9".parse().ok(), ..Addresses::default() };
    assert_eq!(setting.found(&placed.id).await, of_placed);

    // Once operators say where the liar is, by whatever address, nothing that it says is heard.
    let details = InstanceDetails { private_ip: "10.0.1.7".parse().ok(), ..InstanceDetails::default() };
    store.put_instance_details(&setting.world.instance, &details).await.unwrap();
    setting.wait(limits::HOST_FACT_REPORTS).await;
    send_and_wait(&mut socket, &frame("8.8.4.4")).await;
    let own = std::slice::from_ref(&setting.world.instance);
    let kept = async {
        while store.host_facts(own).await.unwrap()[&own[0]].facts != facts("8.8.4.4") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, kept).await.unwrap();
    setting.is_found_at("10.0.1.7").await;
}

/// Nobody is sent to a service on their own machine. And a report of a later version costs nobody the link.
#[tokio::test]
async fn what_is_no_report_of_facts_ends_the_link_and_what_is_unknown_does_not() {
    let setting = Setting::new().await;
    setting.enroll("first").await.unwrap();
    let mut socket = setting.open("first").await;
    let unknown = Message::binary(vec![0x17, 1, 2, 3]);
    socket.send(unknown).await.unwrap();
    send_and_wait(&mut socket, &frame("10.0.1.1")).await;
    let mut bytes = frame("10.0.1.1").encode();
    let first_of_four = bytes.len() - 4;
    bytes[first_of_four] = 127;
    socket.send(Message::binary(bytes)).await.unwrap();
    assert_eq!(goodbye(&mut socket).await, GoodbyeCode::ProtocolError);
    setting.is_found_at("10.0.1.1").await;
}
