use super::*;
use crate::metadata::fixture::{OWN, TestMachine, get};
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::yield_now;
use tokio::time::timeout;

/// Longer than anything here takes: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where it listens with these settings: for the machine itself at an address.
fn own(address: impl Into<SocketAddr>) -> Place {
    places(&settings(&format!("listen = \"{}\"\n", address.into()))).remove(0)
}

/// For a guest at an address, on an interface that is nowhere.
fn guest(address: SocketAddr) -> Place {
    let text = "[[guest]]\ninstance = \"i-0123456789abcdef0\"\ninterface = \"ic-none0\"\n";
    places(&settings(&format!("guests_listen = \"{address}\"\n{text}"))).remove(0)
}

/// A socket as the service manager opens it for the machine itself, at a port of its own.
fn opened() -> (TcpListener, SocketAddr) {
    let socket = bind(&own((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn settings(text: &str) -> MetadataSettings {
    let machine = TestMachine::new();
    machine.write_settings(text);
    machine.settings().settings
}

#[tokio::test]
async fn a_passed_socket_is_used_for_its_own_name_address_and_interface_alone() {
    let (socket, address) = opened();
    let passed = |name: &str| PassedSockets(vec![(name.to_owned(), socket.try_clone().unwrap())]);
    let is_used = |name: &str, place: &Place| passed(name).of(place).is_some_and(|socket| socket.is_ok());
    let guest = guest(address);
    let other_port = own(SocketAddr::new(address.ip(), address.port() ^ 1));
    let other_address = own((Ipv4Addr::new(127, 0, 0, 2), address.port()));
    assert!(is_used("metadata", &own(address)));
    assert!(PassedSockets::default().of(&own(address)).is_none());
    for (name, place) in [
        ("metadata", &other_port),
        ("metadata", &other_address),
        ("metadata", &guest),
        ("metadata-ic-none0", &own(address)),
        // One that everybody reaches is no guest's, whatever it is called.
        ("metadata-ic-none0", &guest),
    ] {
        assert!(!is_used(name, place), "{name} for {place}");
    }
}

#[tokio::test]
async fn there_is_one_listener_for_the_machine_and_one_for_each_interface() {
    let bridged = |id: &str, source: &str| {
        format!(
            "[[guest]]\ninstance = \"{id}\"\ninterface = \"br0\"\nsource = \"{source}\"\nanti_spoofing = true\n"
        )
    };
    let text = "listen = \"127.0.0.1:8080\"\nguests_listen = \"169.254.169.254:8081\"\n".to_owned()
        + &bridged("i-00000001", "192.0.2.1")
        + &bridged("i-00000002", "192.0.2.2")
        + "[[guest]]\ninstance = \"i-00000003\"\ninterface = \"tap0\"\n";
    let listens: Vec<String> = places(&settings(&text)).iter().map(ToString::to_string).collect();
    assert_eq!(listens, ["127.0.0.1:8080", "169.254.169.254:8081 of br0", "169.254.169.254:8081 of tap0"]);
    let guest_alone = "[[guest]]\ninstance = \"i-00000003\"\ninterface = \"tap0\"\n";
    let listens: Vec<String> = places(&settings(guest_alone)).iter().map(ToString::to_string).collect();
    assert_eq!(listens, ["169.254.169.254:80 of tap0"]);
}

/// What `status` tells of listeners, once there is something.
async fn listeners(metadata: &Metadata) -> Vec<ListenerStatus> {
    let told = async {
        loop {
            let listeners = metadata.status().listeners;
            if !listeners.is_empty() {
                return listeners;
            }
            yield_now().await;
        }
    };
    timeout(PATIENCE, told).await.unwrap()
}

#[tokio::test]
async fn where_it_cannot_listen_it_says_so_and_answers_elsewhere_all_the_same() {
    let (_occupant, occupied) = opened();
    let machine = TestMachine::new();
    machine.write_settings(&format!(
        "listen = \"{occupied}\"\n[[guest]]\ninstance = \"i-00000003\"\ninterface = \"ic-none0\"\n"
    ));
    let metadata = machine.start();
    let told = listeners(&metadata).await;
    let errors: Vec<&str> = told.iter().map(|listener| listener.error.as_deref().unwrap()).collect();
    assert!(errors[0].contains("in use"), "{errors:?}");
    assert_eq!(errors[1..], ["there is no such interface"]);
    assert_eq!(get(&metadata, OWN, "instance-id").0, 200);
}

#[tokio::test]
async fn the_socket_of_the_service_manager_is_answered_on() {
    let (socket, address) = opened();
    let machine = TestMachine::new();
    machine.write_settings(&format!("listen = \"{address}\"\n"));
    let metadata = machine.start();
    let passed = PassedSockets(vec![("metadata".to_owned(), socket)]);
    let mut keeping = JoinSet::new();
    keeping.spawn(keep(Arc::clone(&metadata.metadata), machine.settings(), Arc::new(passed)));
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
}

#[tokio::test]
async fn who_reads_the_log_is_told_what_to_do() {
    let metadata_address = SocketAddr::new(METADATA_ADDRESS.into(), 80);
    let guest = guest(metadata_address);
    let for_tests = own((Ipv4Addr::LOCALHOST, 80));
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    for (place, kind, advice) in [
        (&guest, PermissionDenied, "CAP_NET_BIND_SERVICE"),
        (&guest, AddrNotAvailable, "ip address add"),
        (&own(metadata_address), PermissionDenied, "instance-connect-metadata.socket"),
        (&own(metadata_address), AddrNotAvailable, "instance-connect-metadata.socket"),
    ] {
        let told = explained(place, &kind.into());
        assert!(told.kind() == kind && told.to_string().contains(advice), "{place}: {told}");
    }
    for (place, kind) in [(&for_tests, PermissionDenied), (&guest, AddrInUse)] {
        assert_eq!(explained(place, &kind.into()).to_string(), io::Error::from(kind).to_string());
    }
}
