use super::super::write::toml;
use super::*;
use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;

const WHOLE: &str = r#"
account = "111122223333"
region = "us-east-1"

[settings]
serial_console_access = true

[policies]
push = '''
{
  "Version": "2012-10-17",
  "Statement": { "Effect": "Allow", "Action": "*", "Resource": "*" }
}
'''

[groups.ops]
attached = ["push"]

[groups.ops.inline]
own = '{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}'

[users."alice@example.com"]
status = "suspended"
tags = { team = "web" }
groups = ["ops"]
attached = ["push"]
boundary = "push"

[users.bob]

[instances.i-0123456789abcdef0]
availability_zone = "us-east-1a"
state = "stopped"
tags = { "a b" = "" }
host = "i-0123456789abcdef1"
details = { instance_type = "t3.micro", private_ip = "10.0.1.9", ipv6 = "2001:DB8::9" }

[instances.i-0123456789abcdef1]
availability_zone = "us-east-1a"
"#;

#[test]
fn what_a_file_says() {
    let inventory = Inventory::parse(WHOLE).unwrap();
    let alice = &inventory.users[&"alice@example.com".parse().unwrap()];
    assert_eq!((alice.status, alice.tags["team"].as_str()), (Status::Suspended, "web"));
    assert_eq!(alice.boundary, Some("push".parse().unwrap()));
    assert_eq!(inventory.users[&"bob".parse().unwrap()], User::default());
    let [stopped, running] =
        ["i-0123456789abcdef0", "i-0123456789abcdef1"].map(|id| &inventory.instances[&id.parse().unwrap()]);
    assert_eq!((stopped.state, running.state), (InstanceState::Stopped, InstanceState::Running));
    assert_eq!((&stopped.host, &running.host), (&Some("i-0123456789abcdef1".parse().unwrap()), &None));
    let details = InstanceDetails {
        instance_type: Some("t3.micro".parse().unwrap()),
        private_ip: Some("10.0.1.9".parse().unwrap()),
        ipv6: Some("2001:db8::9".parse().unwrap()),
        ..InstanceDetails::default()
    };
    assert_eq!((&stopped.details, &running.details), (&details, &InstanceDetails::default()));
    assert_eq!(Inventory::parse(&toml(&inventory)), Ok(inventory));
    assert_eq!(Inventory::parse(""), Ok(Inventory::default()));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, line, says) in [
        ("[users.bob]\n\nstatsu = \"active\"", 3, "unknown field `statsu`"),
        (
            "[instances.i-0123456789abcdef0]\navailability_zone = \"us-east-1a\"\ndetails = { private_ip = \"10.0.1\" }",
            3,
            "invalid IPv4 address",
        ),
        (
            "[instances.i-0123456789abcdef0]\navailability_zone = \"us-east-1a\"\ndetails = { private_ips = \"\" }",
            3,
            "unknown field `private_ips`",
        ),
        ("[user.bob]", 1, "unknown field `user`"),
        ("[users.bob]\nboundary = [1]", 2, "invalid type"),
        ("[users.bob]\nstatus = \"gone\"", 2, "a status is \"active\" or \"suspended\""),
        ("\n[users.'a b']", 2, "a user name is 1 to 64"),
        ("[users.bob]\n\ngroups = [\n  \"a\",\n  \"b c\",\n]", 3, "a group name is 1 to 128"),
        ("[instances.i-1]\n", 1, "i-"),
        ("[instances.i-0123456789abcdef0]\nstate = \"running\"", 1, "missing field `availability_zone`"),
        ("[instances.i-0123456789abcdef0]\navailability_zone = \"us-east-1a\"\nhost = \"\"", 3, "i-"),
        ("[policies]\np = '''\n{}\n'''", 2, "policy p: "),
        ("[users.bob.inline]\nq = '{'", 2, "policy q: "),
        ("[users.Bob]\n[users.bob]", 2, "differs from bob in case only"),
        ("[users.bob]\n[users.bob]", 2, "duplicate key"),
        ("a = \u{1b}[2J", 1, ""),
        ("account = 111122223333", 1, "invalid type: integer"),
    ] {
        let (found, why) = Inventory::parse(text).unwrap_err();
        assert!(found == line && why.contains(says), "{text:?}: {found}: {why}");
    }
    // Arrays in arrays in arrays are refused before they take the whole stack.
    assert!(Inventory::parse(&format!("account = {}", "[".repeat(100_000))).is_err());
}

fn documents() -> impl Strategy<Value = Documents> {
    let sid = "[a-z'\\\\\"é]{0,6}";
    let document = sid.prop_map(|tag| {
        let tag = serde_json::to_string(&tag).unwrap();
        format!(r#"{{"Statement":{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{{"StringEquals":{{"aws:PrincipalTag/t":{tag}}}}}}}}}"#)
    });
    btree_map("[a-zA-Z0-9+=,.@_-]{1,8}", document, 0..3).prop_map(|documents| {
        documents.into_iter().map(|(name, text)| (name.parse().unwrap(), text)).collect()
    })
}

fn names<T: FromStr<Err: std::fmt::Debug> + Ord + std::fmt::Debug>() -> impl Strategy<Value = BTreeSet<T>> {
    btree_set("[a-z0-9.@_-]{1,8}", 0..3)
        .prop_map(|names| names.iter().map(|name| name.parse().unwrap()).collect())
}

prop_compose! {
    fn user()(
        tags in btree_map("\\PC{1,4}|[\u{1}\t\n\"'\\\\]", ".{0,4}", 0..3),
        suspended: bool,
        groups in names(),
        attached in names(),
        boundary in proptest::option::of("[a-z]{1,4}"),
        inline in documents(),
    ) -> User {
        let status = if suspended { Status::Suspended } else { Status::Active };
        User { status, tags, groups, attached, boundary: boundary.map(|name| name.parse().unwrap()), inline }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        policies in documents(),
        users in btree_map("[a-z0-9+=,.@_-]{1,8}", user(), 0..3),
        on in proptest::option::of(any::<bool>()),
    ) {
        let users = users.into_iter().map(|(name, user)| (name.parse().unwrap(), user)).collect();
        let settings = Settings { serial_console_access: on };
        let inventory = Inventory { policies, users, settings, ..Inventory::default() };
        let text = toml(&inventory);
        let read: Inventory = toml::from_str(&text).unwrap();
        prop_assert_eq!(read, inventory, "{}", text);
    }

    #[test]
    fn inventory_reader_never_panics(text: String) {
        let _ = Inventory::parse(&text);
    }
}
