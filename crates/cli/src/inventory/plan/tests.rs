use super::*;
use instance_connect_core::ids::UserName;

const ALLOW: &str = r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
const DENY: &str = r#"{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;

fn inventory(text: &str) -> Inventory {
    let text = text.replace("ALLOW", &format!("'{ALLOW}'")).replace("DENY", &format!("'{DENY}'"));
    toml::from_str(&text).unwrap()
}

/// Of account 111122223333.
fn current(text: &str) -> Inventory {
    Inventory { account: Some("111122223333".parse().unwrap()), ..inventory(text) }
}

fn plan(now: &str, wanted: &str, prune: bool) -> Plan {
    Plan::new(&current(now), &inventory(wanted), prune).unwrap()
}

fn sentences(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.sentence.as_str()).collect()
}

const EVERYTHING: &str = "
[policies]
push = ALLOW
[groups.ops]
attached = [\"push\"]
[groups.ops.inline]
own = DENY
[users.bob]
tags = { team = \"web\" }
groups = [\"ops\"]
attached = [\"push\"]
boundary = \"push\"
[users.bob.inline]
own = DENY
[instances.i-0123456789abcdef0]
availability_zone = \"us-east-1a\"
state = \"stopped\"
";

/// With its instance gone for good.
fn terminated(text: &str) -> String {
    text.replace("stopped", "terminated")
}

#[test]
fn what_others_refer_to_is_there_before_them() {
    assert_eq!(
        sentences(&plan("", EVERYTHING, false)),
        [
            "policy push: its document",
            "group ops: made",
            "user bob: made",
            "user bob: ~ boundary = push",
            "user bob: tags set",
            "group ops: + inline policy own",
            "group ops: + attached policy push",
            "user bob: + in group ops",
            "user bob: + inline policy own",
            "user bob: + attached policy push",
            "instance i-0123456789abcdef0: + availability_zone = us-east-1a",
            "instance i-0123456789abcdef0: + state = stopped",
        ]
    );
}

/// At no moment does anybody have both what is to be taken and what a change gives.
#[test]
fn nothing_is_widened_before_what_is_to_go_is_taken() {
    let now = "
[policies]
push = DENY
small = DENY
[users.bob]
tags = { team = \"web\", old = \"1\" }
attached = [\"push\"]
boundary = \"small\"
[users.bob.inline]
own = DENY
gone = ALLOW
[users.eve]
[instances.i-0123456789abcdef0]
availability_zone = \"us-east-1a\"
tags = { team = \"db\" }
";
    let wanted = "
[policies]
large = ALLOW
push = ALLOW
small = DENY
[users.bob]
tags = { team = \"db\" }
boundary = \"large\"
[users.bob.inline]
own = ALLOW
[users.eve]
attached = [\"push\"]
boundary = \"small\"
[instances.i-0123456789abcdef0]
availability_zone = \"us-east-1a\"
tags = { team = \"web\" }
";
    assert_eq!(
        sentences(&plan(now, wanted, false)),
        [
            "policy large: its document",
            "user eve: ~ boundary = small",
            "user bob: tags taken",
            "user bob: - inline policy gone",
            "user bob: - attached policy push",
            "policy push: its document",
            "user bob: ~ boundary = large",
            "user bob: tags set",
            "user bob: ~ inline policy own",
            "instance i-0123456789abcdef0: tags set",
            "user eve: + attached policy push",
        ]
    );
}

#[test]
fn what_is_pruned_is_used_by_nobody_when_it_goes() {
    assert_eq!(
        sentences(&plan(EVERYTHING, "", true)),
        [
            "user bob: ~ status = suspended",
            "group ops: - inline policy own",
            "group ops: - attached policy push",
            "user bob: tags taken",
            "user bob: - in group ops",
            "user bob: - inline policy own",
            "user bob: - attached policy push",
            "instance i-0123456789abcdef0: ~ state = terminated",
            "user bob: - boundary",
            "group ops: deleted",
            "policy push: deleted",
        ]
    );
    assert!(plan(EVERYTHING, "", false).steps.is_empty(), "what is not named stays");
    let stripped = "[users.bob]\nstatus = \"suspended\"";
    assert!(plan(stripped, "", true).steps.is_empty(), "who is suspended and has nothing");
    assert!(
        plan(&terminated(EVERYTHING), "", true).steps.iter().all(|step| !step.sentence.contains("instance"))
    );
}

/// With all that it needs: nothing fails for being in use by it.
#[test]
fn whoever_prunes_is_spared() {
    let (now, mut wanted) = (current(EVERYTHING), inventory("[policies]\nother = ALLOW"));
    let bob: UserName = "bob".parse().unwrap();
    assert!(wanted.keep_user(&bob, &now));
    let plan = Plan::new(&now, &wanted, true).unwrap();
    assert_eq!(
        sentences(&plan),
        ["policy other: its document", "instance i-0123456789abcdef0: ~ state = terminated"]
    );
    // What the file says of it counts.
    assert!(!wanted.keep_user(&bob, &now) && !wanted.keep_user(&"eve".parse().unwrap(), &now));
}

#[test]
fn what_is_so_already_is_not_changed() {
    assert!(plan(EVERYTHING, EVERYTHING, true).steps.is_empty());
    let laid_out = EVERYTHING
        .replace("push = ALLOW", &format!("push = '''\n{}\n'''", super::super::document::laid_out(ALLOW)));
    assert!(plan(EVERYTHING, &laid_out, false).steps.is_empty());
    let terminated = terminated(EVERYTHING);
    let once = plan(EVERYTHING, &terminated, false);
    assert_eq!(sentences(&once), ["instance i-0123456789abcdef0: ~ state = terminated"]);
    assert!(plan(&terminated, &terminated, false).steps.is_empty());
}

/// Instances `a`, `b` and so on, each with its host where it has one.
fn machines(hosts: &[(&str, &str)]) -> String {
    let id = |name: &str| format!("i-0000000000000000{name}");
    let table = |(name, host): &(&str, &str)| {
        let host = if host.is_empty() { String::new() } else { format!("host = \"{}\"\n", id(host)) };
        format!("[instances.{}]\navailability_zone = \"us-east-1a\"\n{host}", id(name))
    };
    hosts.iter().map(table).collect()
}

/// The same, with the last of them gone for good.
fn terminated_last(hosts: &[(&str, &str)]) -> String {
    machines(hosts) + "state = \"terminated\"\n"
}

/// As the service sees it: each step in its turn, refused where it has somebody be a host and a guest at a time.
fn hosts_after(now: &str, plan: &Plan) -> BTreeMap<String, String> {
    let made = current(now).instances.into_iter();
    let mut hosts: BTreeMap<String, String> =
        made.filter_map(|(id, instance)| Some((id.to_string(), instance.host?.to_string()))).collect();
    for step in &plan.steps {
        let (id, change) = step.sentence.strip_prefix("instance ").unwrap().split_once(": ").unwrap();
        match change.split_once("host = ") {
            Some((_, host)) => drop(hosts.insert(id.to_owned(), host.to_owned())),
            None if change == "- host" => drop(hosts.remove(id)),
            None => {}
        }
        assert!(hosts.values().all(|host| !hosts.contains_key(host)), "{}: {hosts:?}", step.sentence);
    }
    hosts
}

#[test]
fn nobody_is_asked_to_be_host_and_guest_at_a_time() {
    let none: &[(&str, &str)] = &[];
    for (now, wanted) in [
        (none, &[("a", "b"), ("b", "")][..]),
        // The other way round.
        (&[("a", "b"), ("b", "")], &[("a", ""), ("b", "a")]),
        // The guests move to where their host is to be a guest, and are named before and after it.
        (&[("a", "b"), ("b", ""), ("c", "b"), ("d", "")], &[("a", "d"), ("b", "d"), ("c", "d"), ("d", "")]),
        // One of the guests takes over from their host.
        (&[("a", "c"), ("b", "c"), ("c", "")], &[("a", ""), ("b", "a"), ("c", "a")]),
        (&[("a", "b"), ("b", "")], none),
    ] {
        let (now, wanted) = (machines(now), machines(wanted));
        let plan = plan(&now, &wanted, true);
        let expected = current(&wanted).instances.into_iter();
        let expected =
            expected.filter_map(|(id, instance)| Some((id.to_string(), instance.host?.to_string())));
        assert_eq!(hosts_after(&now, &plan), expected.collect(), "{now}\n{wanted}");
        assert!(self::plan(&wanted, &wanted, true).steps.is_empty());
    }
}

#[test]
fn hosts_in_their_order() {
    let host = "i-0000000000000000b";
    let guest = "instance i-0000000000000000a";
    let alone = machines(&[("a", ""), ("b", "")]);
    let hosted = machines(&[("a", "b"), ("b", "")]);
    let new = plan("", &hosted, false);
    assert_eq!(
        sentences(&new),
        [
            format!("{guest}: + availability_zone = us-east-1a"),
            format!("instance {host}: + availability_zone = us-east-1a"),
            format!("{guest}: + host = {host}"),
        ]
    );
    assert_eq!(sentences(&plan(&hosted, &alone, false)), [format!("{guest}: - host")]);
    assert!(plan(&hosted, "", false).steps.is_empty(), "what is not named stays");
    assert_eq!(
        sentences(&plan(&hosted, "", true)),
        [
            format!("{guest}: - host"),
            format!("{guest}: ~ state = terminated"),
            format!("instance {host}: ~ state = terminated"),
        ]
    );
    // A host that is gone for good is in no export, and no reason to change anything.
    let gone = terminated_last(&[("a", "b"), ("b", "")]);
    assert!(plan(&gone, &machines(&[("a", "b")]), true).steps.is_empty());
}

#[test]
fn changes_are_shown_part_by_part() {
    let wanted = EVERYTHING
        .replace("team = \"web\"", "team = \"ops\", \"x\\u001b\" = \"1\"")
        .replace("push = ALLOW", "push = DENY")
        .replace("boundary = \"push\"", "status = \"suspended\"");
    let text = plan(EVERYTHING, &wanted, false).text();
    for line in [
        "~ policy push",
        "      -     \"Effect\": \"Allow\",",
        "      +     \"Effect\": \"Deny\",",
        "~ user bob",
        "    ~ status = suspended",
        "    - boundary",
        "    ~ tag team = ops",
        r"    + tag x\u{1b} = 1",
        "0 new, 2 changed, 0 gone.",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
    assert!(!text.contains("Action") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn what_cannot_become_so_is_refused_before_anything_is_changed() {
    let account = "account = \"444455556666\"";
    let zone = "[instances.i-0123456789abcdef0]\navailability_zone = \"us-east-1b\"";
    for (now, wanted, prune, says) in [
        ("", account, false, "is the inventory of account 444455556666"),
        (EVERYTHING, zone, false, "an instance stays in its zone"),
        (&terminated(EVERYTHING), EVERYTHING, false, "is terminated, and stays so"),
        ("", "[users.bob]\nattached = [\"p\"]", false, "user bob refers to policy p"),
        ("", "[users.bob]\nboundary = \"p\"", false, "user bob refers to policy p"),
        ("", "[users.bob]\ngroups = [\"g\"]", false, "user bob refers to group g"),
        ("", "[groups.g]\nattached = [\"p\"]", false, "group g refers to policy p"),
        // It is there, but is to go.
        (EVERYTHING, "[users.bob]\ngroups = [\"ops\"]", true, "user bob refers to group ops"),
    ] {
        let refused = Plan::new(&current(now), &inventory(wanted), prune).unwrap_err();
        assert!(refused.message.contains(says), "{wanted}: {}", refused.message);
    }
    let (alone, hosted) = (machines(&[("a", ""), ("b", "")]), machines(&[("a", "b"), ("b", "")]));
    let gone = terminated_last(&[("b", "")]);
    for (now, wanted, prune, says) in [
        ("", &[("a", "a")][..], false, "which is itself"),
        ("", &[("a", "b")], false, "i-0000000000000000b, which is neither in the file nor to stay"),
        (&alone, &[("a", "b")], true, "which is neither in the file nor to stay"),
        (&gone, &[("a", "b")], false, "which is terminated"),
        (&gone, &[("a", "b")], true, "which is terminated"),
        ("", &[("a", "b"), ("b", "c"), ("c", "")], false, "which is a guest too"),
        // It is a guest already, and stays so; or has one.
        (&hosted, &[("c", "a")], false, "which is a guest too"),
        (&hosted, &[("b", "c"), ("c", "")], false, "which is a guest too"),
    ] {
        let refused = Plan::new(&current(now), &inventory(&machines(wanted)), prune).unwrap_err();
        assert!(refused.message.contains(says), "{wanted:?}: {}", refused.message);
    }
    assert!(
        !plan(EVERYTHING, "[users.eve]\ngroups = [\"ops\"]\nattached = [\"push\"]", false).steps.is_empty()
    );
}

/// All of what is said of an instance is said at a time.
#[test]
fn details_that_differ() {
    let machine = |details: &str| {
        format!(
            "[instances.i-0123456789abcdef0]\navailability_zone = \"us-east-1a\"\ndetails = {{ {details} }}"
        )
    };
    let (now, wanted) = (
        machine(r#"private_ip = "10.0.1.9", image_id = "ami-01234567""#),
        machine(r#"private_ip = "10.0.1.7", instance_type = "t3.micro""#),
    );
    let plan_of = |now: &str, wanted: &str| plan(now, wanted, false);
    let changed = plan_of(&now, &wanted);
    assert_eq!(sentences(&changed), ["instance i-0123456789abcdef0: described anew"]);
    assert_eq!(
        changed.shown,
        [
            "~ instance i-0123456789abcdef0",
            "    + instance_type = t3.micro",
            "    ~ private_ip = 10.0.1.7",
            "    - image_id",
        ]
    );
    let request = Administer::new(O::SetInstanceDetails)
        .with("InstanceId", "i-0123456789abcdef0")
        .with("InstanceType", "t3.micro")
        .with("PrivateIpAddress", "10.0.1.7");
    assert_eq!(changed.steps[0].request, request);
    assert!(plan_of(&now, &now).steps.is_empty());
    let made = Administer::new(O::CreateInstance)
        .with("InstanceId", "i-0123456789abcdef0")
        .with("AvailabilityZone", "us-east-1a")
        .with("InstanceType", "t3.micro")
        .with("PrivateIpAddress", "10.0.1.7");
    assert_eq!(plan_of("", &wanted).steps[0].request, made);
}
