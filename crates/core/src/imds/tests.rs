use super::*;
use crate::stock::fixture::{INSTANCE, NOW, OTHER_INSTANCE, document, key_line, seconds, signer, twin};
use proptest::prelude::*;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Another nonce each time.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        bytes.iter_mut().zip(count.into_iter().cycle()).for_each(|(byte, random)| *byte = random);
    }
}

static RANDOM: LazyLock<Counting> = LazyLock::new(Counting::default);
static TOKENS: LazyLock<TokenKey> = LazyLock::new(|| TokenKey::new([7; 32]));

static FACTS: LazyLock<InstanceFacts> = LazyLock::new(|| InstanceFacts {
    instance: INSTANCE.parse().unwrap(),
    account: "111122223333".parse().unwrap(),
    region: "us-east-1".parse().unwrap(),
    availability_zone: "us-east-1a".parse().unwrap(),
    domain: "amazonaws.com".parse().unwrap(),
    tags: [("Name", "web 1"), ("a+b=c@d", "é\nü"), ("empty", "")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into(),
});

/// Keys of `alice` (one ends after 30 s, one after 60 s) and `svc$`, under one signer.
static KEYS: LazyLock<StockKeys> = LazyLock::new(|| {
    let mut keys = StockKeys::new(INSTANCE.parse().unwrap());
    keys.set_signers(vec![signer(3, 0, false)]);
    for (number, user, lives) in [(1, "alice", 30), (2, "alice", 60), (3, "svc$", 60)] {
        let document = document(INSTANCE, user, number, &key_line("ssh-ed25519", number));
        let entry = keys.admit(&document, &[twin(3, 0, &document)], NOW).unwrap();
        keys.install(entry, NOW.after(seconds(lives)));
    }
    keys
});

static INSTANCE_ID: LazyLock<InstanceId> = LazyLock::new(|| INSTANCE.parse().unwrap());
static OTHER_ID: LazyLock<InstanceId> = LazyLock::new(|| OTHER_INSTANCE.parse().unwrap());
static NO_KEYS: LazyLock<StockKeys> = LazyLock::new(|| StockKeys::new(INSTANCE_ID.clone()));

fn view() -> View<'static> {
    View {
        instance: &INSTANCE_ID,
        facts: Some(&FACTS),
        local_ipv4: Some(Ipv4Addr::new(10, 0, 0, 7)),
        hostname: Some("ip-10-0-0-7"),
        shows_tags: true,
        stock: &KEYS,
    }
}

const NEITHER: Request<'_> =
    Request { method: "GET", target: "/", token: Header::Absent, ttl: Header::Absent, is_forwarded: false };

fn put(target: &str, ttl: Header<'_>) -> Response {
    respond(&Request { method: "PUT", target, ttl, ..NEITHER }, &view(), &TOKENS, NOW, &*RANDOM)
}

fn token_of(view: &View<'_>, ttl: &str) -> String {
    let request = Request { method: "PUT", target: TOKEN_PATH, ttl: Header::Once(ttl.as_bytes()), ..NEITHER };
    let response = respond(&request, view, &TOKENS, NOW, &*RANDOM);
    assert_eq!((response.status, response.ttl), (200, ttl.parse().ok()), "{ttl}");
    response.body
}

fn ask(method: &str, target: &str, token: Header<'_>, view: &View<'_>, now: BootInstant) -> Response {
    respond(&Request { method, target, token, ..NEITHER }, view, &TOKENS, now, &*RANDOM)
}

/// The status and the body with a token that was made for this view.
fn get(target: &str, view: &View<'_>) -> (u16, String) {
    let token = token_of(view, "60");
    let response = ask("GET", target, Header::Once(token.as_bytes()), view, NOW);
    (response.status, response.body)
}

fn page(title: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
{TABS} "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>{title}</title>
 </head>
 <body>
  <h1>{title}</h1>
 </body>
</html>
"#,
        TABS = "\t\t",
    )
}

const IDENTITY: &str = r#"{
  "accountId" : "111122223333",
  "architecture" : null,
  "availabilityZone" : "us-east-1a",
  "billingProducts" : null,
  "devpayProductCodes" : null,
  "marketplaceProductCodes" : null,
  "imageId" : null,
  "instanceId" : "i-0123456789abcdef0",
  "instanceType" : null,
  "kernelId" : null,
  "pendingTime" : null,
  "privateIp" : "10.0.0.7",
  "ramdiskId" : null,
  "region" : "us-east-1",
  "version" : "2017-09-30"
}"#;

const META_DATA: &str = "/latest/meta-data";
const STAPLE: &str = "A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0";
const SECOND_STAPLE: &str = "A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1A1";

/// Every path there is, and what a reader gets who may.
fn paths() -> Vec<(String, String)> {
    let document = |user: &str| KEYS.document(&user.parse().unwrap(), 3, NOW).unwrap().text;
    let meta_data =
        "instance-id\nlocal-hostname\nlocal-ipv4\nmanaged-ssh-keys/\nplacement/\nservices/\ntags/";
    let keys = format!("{META_DATA}/managed-ssh-keys");
    let below = |path: &str, body: &str| (format!("{META_DATA}/{path}"), body.to_owned());
    vec![
        ("/latest".to_owned(), "dynamic\nmeta-data".to_owned()),
        ("/latest/dynamic".to_owned(), "instance-identity/".to_owned()),
        ("/latest/dynamic/instance-identity".to_owned(), "document".to_owned()),
        ("/latest/dynamic/instance-identity/document".to_owned(), IDENTITY.to_owned()),
        (META_DATA.to_owned(), meta_data.to_owned()),
        below("instance-id", INSTANCE),
        below("local-hostname", "ip-10-0-0-7"),
        below("local-ipv4", "10.0.0.7"),
        below("placement", "availability-zone\nregion"),
        below("placement/availability-zone", "us-east-1a"),
        below("placement/region", "us-east-1"),
        below("services", "domain\npartition"),
        below("services/domain", "amazonaws.com"),
        below("services/partition", "aws"),
        below("tags", "instance/"),
        below("tags/instance", "Name\na+b=c@d\nempty"),
        below("tags/instance/Name", "web 1"),
        below("tags/instance/a+b=c@d", "é\nü"),
        below("tags/instance/empty", ""),
        (keys.clone(), "active-keys/\nsigner-cert\nsigner-ocsp/".to_owned()),
        (format!("{keys}/active-keys"), "alice\nsvc$".to_owned()),
        (format!("{keys}/active-keys/alice"), document("alice")),
        (format!("{keys}/active-keys/svc$"), document("svc$")),
        (format!("{keys}/signer-cert"), "leaf of key 0\nintermediate\nroot".to_owned()),
        (format!("{keys}/signer-ocsp"), format!("{STAPLE}\n{SECOND_STAPLE}")),
        (format!("{keys}/signer-ocsp/{STAPLE}"), "AAA=".to_owned()),
        (format!("{keys}/signer-ocsp/{SECOND_STAPLE}"), "AQA=".to_owned()),
    ]
}

#[test]
fn every_path_by_every_method_with_every_token() {
    let old = token_of(&view(), "5");
    let foreign = token_of(&View { instance: &OTHER_ID, ..view() }, "60");
    let good = token_of(&view(), "60");
    let sealed_otherwise =
        TokenKey::new([8; 32]).seal(&view(), NOW.after(seconds(60)), NOW, &*RANDOM).unwrap();
    let cut = &good[..good.len() - 4];
    let (mut bent, longer) = (good.clone().into_bytes(), format!("{good}AAAA"));
    bent[30] ^= 1;
    // None of these opens anything, and the first that is wrong decides.
    let refused = [
        (Header::Absent, 401),
        (Header::Repeated, 400),
        (Header::Once(b""), 401),
        (Header::Once(b"\xff"), 401),
        (Header::Once(b"AQAAAEWydq6w3EXgiYC-OJ-UYtcWWdY7sDSIgFmpNHYSTFdRl_rzJg=="), 401),
        (Header::Once(old.as_bytes()), 401),
        (Header::Once(foreign.as_bytes()), 401),
        (Header::Once(sealed_otherwise.as_bytes()), 401),
        (Header::Once(cut.as_bytes()), 401),
        (Header::Once(longer.as_bytes()), 401),
        (Header::Once(&bent), 401),
    ];
    let later = NOW.after(seconds(5));
    let mut paths = paths();
    paths.push(("/".to_owned(), "latest".to_owned()));
    let missing = [
        "/2009-04-04/meta-data",
        "/latest/user-data",
        "/latest/meta-data/none",
        "/none",
        "//",
        "/latest/api",
    ];
    let expected = |body: &String| (200, "text/plain", body.clone());
    let not_found = (404, "text/html", page("404 - Not Found"));
    assert_eq!(not_found.2.len(), 339, "as long as EC2's");
    let paths = paths.iter().map(|(path, body)| (path.as_str(), expected(body)));
    for (path, (status, content_type, body)) in paths.chain(missing.map(|path| (path, not_found.clone()))) {
        let slashed = format!("{path}/");
        let forms = if path == "/" { vec![path] } else { vec![path, &slashed] };
        for target in forms {
            for (token, status) in refused {
                let response = ask("GET", target, token, &view(), later);
                let title = if status == 400 { "400 - Bad Request" } else { "401 - Unauthorized" };
                assert_eq!((response.status, response.body), (status, page(title)), "{target} {token:?}");
                assert_eq!(ask("HEAD", target, token, &view(), later).status, status, "{target} {token:?}");
            }
            let token = Header::Once(good.as_bytes());
            let response = ask("GET", target, token, &view(), NOW);
            let got = (response.status, response.content_type, response.body.clone());
            assert_eq!(got, (status, content_type, body.clone()), "{target}");
            assert_eq!(response.content_length, body.len(), "{target}");
            assert_eq!(ask("HEAD", target, token, &view(), NOW), response.without_body(), "{target}");
            for method in ["POST", "DELETE", "OPTIONS", "get", ""] {
                for token in [Header::Absent, token] {
                    let response = ask(method, target, token, &view(), NOW);
                    let got =
                        (response.status, response.allow, response.body.as_str(), response.content_type);
                    assert_eq!(got, (405, Some("GET, HEAD"), "", "text/plain"), "{method} {target}");
                }
            }
            let response = put(target, Header::Once(b"60"));
            assert_eq!(
                (response.status, response.body.as_str(), response.content_type),
                (403, "", "text/plain")
            );
        }
    }
}

#[test]
fn listings_lead_to_every_path_and_to_nothing_else() {
    let mut found = Vec::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        let (status, listing) = get(&format!("{directory}/"), &view());
        assert_eq!(status, 200, "{directory}");
        for name in listing.lines() {
            let path = format!("{directory}/{}", name.trim_end_matches('/'));
            // At the top the slash is missing, as in EC2's listings.
            if name.ends_with('/') || ["/latest", "/latest/dynamic", META_DATA].contains(&path.as_str()) {
                directories.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    let mut expected: Vec<String> = paths().into_iter().map(|(path, _)| path).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn tokens_are_made_for_whoever_asks_right() {
    let rows: [(Header<'_>, u16); 13] = [
        (Header::Once(b"1"), 200),
        (Header::Once(b"5"), 200),
        (Header::Once(b"21600"), 200),
        (Header::Once(b"21601"), 400),
        (Header::Once(b"0"), 400),
        (Header::Once(b""), 400),
        (Header::Once(b"-1"), 400),
        (Header::Once(b"05"), 400),
        (Header::Once(b" 5"), 400),
        (Header::Once(b"5s"), 400),
        (Header::Once(b"99999999999999999999"), 400),
        (Header::Absent, 400),
        (Header::Repeated, 400),
    ];
    for (ttl, status) in rows {
        let response = put(TOKEN_PATH, ttl);
        assert_eq!(response.status, status, "{ttl:?}");
        assert_eq!(response.body == page("400 - Bad Request"), status == 400, "{ttl:?}");
    }
    let forwarded =
        Request { method: "PUT", target: TOKEN_PATH, ttl: Header::Once(b"5"), is_forwarded: true, ..NEITHER };
    let response = respond(&forwarded, &view(), &TOKENS, NOW, &*RANDOM);
    assert_eq!((response.status, response.body.as_str(), response.ttl), (403, "", None));
    for target in [
        "/latest/api/token/",
        "/2021-03-23/api/token",
        "/latest/api",
        "/latest//api/token",
        "/latest/api/%74oken",
    ] {
        assert_eq!(put(target, Header::Once(b"5")).status, 403, "{target}");
    }
    for method in ["GET", "HEAD", "POST"] {
        let response = ask(method, TOKEN_PATH, Header::Absent, &view(), NOW);
        assert_eq!(
            (response.status, response.allow, response.content_length),
            (405, Some("PUT"), 0),
            "{method}"
        );
    }
    // Two are never the same, and each ends with its time.
    let (one, other) = (token_of(&view(), "5"), token_of(&view(), "5"));
    assert_ne!(one, other);
    let headers: Vec<_> = put(TOKEN_PATH, Header::Once(b"5")).headers().collect();
    let expected = [("content-type", "text/plain"), ("content-length", "68"), (TTL_HEADER, "5")];
    assert_eq!(headers, expected.map(|(name, value)| (name, value.to_owned())));
    let status = |now| ask("GET", "/latest", Header::Once(one.as_bytes()), &view(), now).status;
    let end = NOW.after(seconds(5));
    assert_eq!((status(end.before(Duration::from_nanos(1))), status(end)), (200, 401));
}

#[test]
fn malformed_targets_are_refused_with_or_without_a_token() {
    let long = format!("/{}", "a".repeat(LONGEST_TARGET));
    let token = token_of(&view(), "60");
    for target in [
        "",
        "latest",
        "*",
        "http://169.254.169.254/latest",
        "/a b",
        "/\u{e9}",
        "/\0",
        "/%",
        "/%4",
        "/%zz",
        "/%+1",
        "/%ff",
        &long,
    ] {
        for method in ["GET", "HEAD", "PUT", "POST"] {
            for token in [Header::Absent, Header::Once(token.as_bytes())] {
                assert_eq!(ask(method, target, token, &view(), NOW).status, 400, "{method} {target:?}");
            }
        }
    }
}

#[test]
fn a_query_is_not_looked_at_and_names_may_be_escaped() {
    let keys = "/latest/meta-data/managed-ssh-keys/active-keys";
    for (target, status) in [
        ("/latest/meta-data/instance-id?", 200),
        ("/latest/meta-data/instance-id/?recursive=true", 200),
        ("/latest/meta%2Ddata/instance-id", 200),
        ("/latest/meta-data%2finstance-id", 404),
        ("/latest/./meta-data", 404),
        ("/latest/dynamic/../meta-data", 404),
        ("/latest//meta-data", 404),
        ("//latest", 404),
        ("/latest/meta-data/tags/instance/a%2Bb%3dc%40d", 200),
        (&format!("{keys}/svc%24"), 200),
        (&format!("{keys}/%61lice/"), 200),
        (&format!("{keys}/Alice"), 404),
        (&format!("{keys}/bob"), 404),
        (&format!("{keys}/alice%00"), 404),
        (&format!("{keys}/alice%0a"), 404),
        (&format!("{keys}/..%2falice"), 404),
        (&format!("{keys}/alice/x"), 404),
        (&format!("/latest/meta-data/managed-ssh-keys/signer-ocsp/{}", STAPLE.to_lowercase()), 404),
    ] {
        assert_eq!(get(target, &view()).0, status, "{target}");
    }
}

#[test]
fn what_is_not_known_is_not_there() {
    let bare = View { facts: None, local_ipv4: None, hostname: None, stock: &NO_KEYS, ..view() };
    assert_eq!(get("/latest", &bare), (200, "meta-data".to_owned()));
    assert_eq!(get(META_DATA, &bare), (200, "instance-id".to_owned()));
    // What was said of another instance is nothing that was said of this one.
    let foreign = InstanceFacts { instance: OTHER_ID.clone(), ..FACTS.clone() };
    for view in [bare, View { facts: Some(&foreign), ..bare }] {
        for (path, _) in paths() {
            let is_there = ["/latest", META_DATA, "/latest/meta-data/instance-id"].contains(&path.as_str());
            assert_eq!(get(&path, &view).0, if is_there { 200 } else { 404 }, "{path}");
        }
    }
    let without_tags = View { shows_tags: false, ..view() };
    assert!(!get(META_DATA, &without_tags).1.contains("tags"));
    for path in ["tags", "tags/instance", "tags/instance/Name"] {
        assert_eq!(get(&format!("{META_DATA}/{path}"), &without_tags).0, 404, "{path}");
    }
    let no_tags = InstanceFacts { tags: [].into(), ..FACTS.clone() };
    assert_eq!(get("/latest/meta-data/tags", &View { facts: Some(&no_tags), ..view() }).0, 404);
    let no_address = View { local_ipv4: None, ..view() };
    let identity = get("/latest/dynamic/instance-identity/document", &no_address).1;
    assert!(
        identity.contains("\n  \"privateIp\" : null,\n")
            && serde_json::from_str::<serde_json::Value>(&identity).is_ok()
    );
}

#[test]
fn partitions() {
    for (region, partition) in [
        ("us-east-1", "aws"),
        ("lab", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("us-isof-south-1", "aws-iso-f"),
        ("eusc-de-east-1", "aws-eusc"),
    ] {
        let facts = InstanceFacts { region: region.parse().unwrap(), ..FACTS.clone() };
        let body = get("/latest/meta-data/services/partition", &View { facts: Some(&facts), ..view() }).1;
        assert_eq!(body, partition, "{region}");
    }
}

#[test]
fn keys_are_there_while_they_are_live() {
    let token = token_of(&view(), "300");
    let status = |path: &str, now| {
        let target = format!("{META_DATA}/managed-ssh-keys{path}");
        let response = ask("GET", &target, Header::Once(token.as_bytes()), &view(), now);
        (response.status, response.body)
    };
    let later = NOW.after(seconds(60));
    assert_eq!(status("/active-keys", later).0, 404);
    assert_eq!(status("/active-keys/alice", later).0, 404);
    assert_eq!(status("", later), (200, "signer-cert\nsigner-ocsp/".to_owned()));
    assert_eq!(status("/active-keys/alice", NOW.after(seconds(30))).1.matches("ssh-ed25519 ").count(), 1);
}

#[test]
fn only_who_gets_a_key_was_offered_it() {
    let token = token_of(&view(), "60");
    let offers = |method, path: &str| {
        let target = format!("{META_DATA}/managed-ssh-keys/active-keys{path}");
        let response = ask(method, &target, Header::Once(token.as_bytes()), &view(), NOW);
        response
            .offers
            .into_iter()
            .map(|offer| (offer.user.to_string(), offer.requests, offer.at))
            .collect::<Vec<_>>()
    };
    let alices = |number| ("alice".to_owned(), vec![crate::stock::fixture::request(number)], NOW);
    let mut offered = offers("GET", "/alice/");
    offered.sort();
    assert_eq!(offered, [alices(1), alices(2)]);
    assert_eq!(offers("HEAD", "/alice/"), []);
    assert_eq!(offers("GET", ""), []);
    assert_eq!(offers("GET", "/bob"), []);
}

/// A reader goes on with the generation that it began with, and with none that is no more.
#[test]
fn a_token_names_its_generation() {
    let document = document(INSTANCE, "alice", 1, &key_line("ssh-rsa", 1));
    let mut keys = StockKeys::new(INSTANCE_ID.clone());
    let chain = |keys: &StockKeys, token: &str| {
        let target = "/latest/meta-data/managed-ssh-keys/signer-cert";
        let response =
            ask("GET", target, Header::Once(token.as_bytes()), &View { stock: keys, ..view() }, NOW);
        (response.status, response.body.lines().next().unwrap_or_default().to_owned())
    };
    let begin = |keys: &StockKeys| token_of(&View { stock: keys, ..view() }, "60");
    let (ok, unauthorized, not_found) = (
        |key: usize| (200, format!("leaf of key {key}")),
        (401, "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>".to_owned()),
        (404, "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>".to_owned()),
    );
    let before = begin(&keys);
    keys.set_signers(vec![signer(1, 0, false)]);
    assert_eq!(chain(&keys, &before), not_found, "it began before there was a signer");
    assert_eq!(get("/latest/meta-data/instance-id", &View { stock: &NO_KEYS, ..view() }).0, 200);
    let first = begin(&keys);
    let entry = keys.admit(&document, &[twin(1, 0, &document)], NOW).unwrap();
    keys.install(entry, NOW.after(seconds(60)));
    keys.set_signers(vec![signer(1, 0, false), signer(2, 1, false)]);
    let second = begin(&keys);
    assert_eq!(
        (chain(&keys, &first), chain(&keys, &second)),
        (ok(0), ok(0)),
        "the key is under the first alone"
    );
    keys.withdraw(&crate::stock::fixture::request(1));
    let third = begin(&keys);
    assert_eq!((chain(&keys, &first), chain(&keys, &third)), (ok(0), ok(1)));
    keys.set_signers(vec![signer(2, 1, false)]);
    assert_eq!((chain(&keys, &first), chain(&keys, &third)), (unauthorized.clone(), ok(1)));
    keys.set_signers(vec![signer(2, 2, false)]);
    assert_eq!(chain(&keys, &third), unauthorized, "the number came back with another key");
}

#[test]
fn no_secret_is_printed() {
    assert_eq!(format!("{:?}", TokenKey::new([7; 32])), "TokenKey(…)");
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![8 => prop::sample::select(vec!["GET", "HEAD", "PUT", "POST"]).prop_map(str::to_owned), 1 => "\\PC{0,8}"]
}

fn target() -> impl Strategy<Value = String> {
    let known = prop::sample::select(paths()).prop_map(|(path, _)| path);
    let near = "(/|latest|meta-data|managed-ssh-keys|active-keys|signer-ocsp|alice|svc%24|%2e|\\.|%|\\?|[a-z]){0,12}";
    prop_oneof![4 => known, 1 => Just(TOKEN_PATH.to_owned()), 2 => near.prop_map(|path| format!("/{path}")), 1 => "\\PC{0,40}"]
}

proptest! {
    /// Nothing panics or grows, `HEAD` is `GET` without a body, and what is shown is shown to a good token alone.
    #[test]
    fn metadata_never_panics_and_shows_nothing_without_a_token(
        method in method(),
        target in target(),
        given in prop_oneof![Just(None), prop::collection::vec(any::<u8>(), 0..80).prop_map(Some), "[A-Za-z0-9+/]{68}".prop_map(|text| Some(text.into_bytes()))],
        ttl in prop::option::of("[0-9]{0,6}"),
        is_forwarded: bool,
    ) {
        let good = token_of(&view(), "60");
        let ttl: Header<'_> = ttl.iter().map(String::as_bytes).collect();
        for token in [given.iter().map(Vec::as_slice).collect(), Header::Once(good.as_bytes())] {
            let request = Request { method: &method, target: &target, token, ttl, is_forwarded };
            let response = respond(&request, &view(), &TOKENS, NOW, &*RANDOM);
            prop_assert!(response.body.len() <= LONGEST_BODY);
            prop_assert!([200, 400, 401, 403, 404, 405].contains(&response.status));
            let is_good = token == Header::Once(good.as_bytes());
            let is_token = response.ttl.is_some();
            prop_assert!(response.status != 200 || is_good || is_token);
            prop_assert!(!is_token || (method == "PUT" && target.split('?').next() == Some(TOKEN_PATH) && !is_forwarded));
            if method == "HEAD" {
                let get = respond(&Request { method: "GET", ..request }, &view(), &TOKENS, NOW, &*RANDOM);
                prop_assert_eq!(&response.body, "");
                prop_assert_eq!(response, get.without_body());
            }
        }
    }

    /// One byte changed, and a token opens nothing.
    #[test]
    fn changed_tokens_open_nothing(at in 0..68_usize, to: u8) {
        let mut token = token_of(&view(), "60").into_bytes();
        prop_assume!(token[at] != to);
        token[at] = to;
        prop_assert_eq!(ask("GET", "/", Header::Once(&token), &view(), NOW).status, 401);
    }
}
