//! How requests name operations, and what is said of parameters that are not right.

use super::*;
use serde_json::{Value, json};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmvQQVTcV1Mc2OBIcHd2WtXEukgRdlPYlgpWLAWlQQp";

const ILLEGAL: &str = "Invalid input parameter received for Illegal argument exception: ";

fn head<'a>(method: &'a str, headers: &'a [(&'a str, &'a str)]) -> RequestHead<'a> {
    let headers = [("host", "localhost")].iter().chain(headers);
    RequestHead::read(method, "/", headers.map(|(name, value)| (*name, value.as_bytes()))).unwrap()
}

#[test]
fn routes() {
    const TYPE: (&str, &str) = ("content-type", CONTENT_TYPE);
    let target = |value| ("x-amz-target", value);
    let send = "AWSEC2InstanceConnectService.SendSSHPublicKey";
    for (method, headers, expected) in [
        ("POST", vec![TYPE, target(send)], Ok(Operation::SendSshPublicKey)),
        (
            "POST",
            vec![("content-type", "Application/X-Amz-JSON-1.1; charset=utf-8"), target(send)],
            Ok(Operation::SendSshPublicKey),
        ),
        (
            "POST",
            vec![
                TYPE,
                target("com.amazon.aws.sshaccessproxyservice.AWSEC2InstanceConnectService.SendSSHPublicKey"),
            ],
            Ok(Operation::SendSshPublicKey),
        ),
        (
            "POST",
            vec![TYPE, target("AWSEC2InstanceConnectService.SendSerialConsoleSSHPublicKey")],
            Ok(Operation::SendSerialConsoleSshPublicKey),
        ),
        ("GET", vec![TYPE, target(send)], Err(ApiError::NotThisProtocol)),
        ("POST", vec![target(send)], Err(ApiError::NotThisProtocol)),
        ("POST", vec![("content-type", "application/json"), target(send)], Err(ApiError::NotThisProtocol)),
        ("POST", vec![TYPE, TYPE, target(send)], Err(ApiError::NotThisProtocol)),
        ("POST", vec![TYPE], Err(ApiError::UnknownOperation)),
        ("POST", vec![TYPE, target("SendSSHPublicKey")], Err(ApiError::UnknownOperation)),
        (
            "POST",
            vec![TYPE, target("AWSEC2InstanceConnectService.sendSSHPublicKey")],
            Err(ApiError::UnknownOperation),
        ),
        (
            "POST",
            vec![TYPE, target("AWSEC2InstanceConnectService.PutEC2HostKeys")],
            Err(ApiError::UnknownOperation),
        ),
        ("POST", vec![TYPE, target("Other.SendSSHPublicKey")], Err(ApiError::UnknownOperation)),
        (
            "POST",
            vec![TYPE, target("InstanceConnect.CreateUser")],
            Ok(Operation::Administer(administration::Operation::CreateUser)),
        ),
        ("POST", vec![TYPE, target("InstanceConnect.SendSSHPublicKey")], Err(ApiError::UnknownOperation)),
        (
            "POST",
            vec![TYPE, target("AWSEC2InstanceConnectService.CreateUser")],
            Err(ApiError::UnknownOperation),
        ),
    ] {
        let head = head(method, &headers);
        assert_eq!(speaks_json(&head).and_then(|()| route(&head)), expected, "{method} {headers:?}");
    }
}

/// The members of a request that is right, with some of them changed.
fn body(change: &Value) -> String {
    let mut body =
        json!({ "InstanceId": "i-0123456789abcdef0", "InstanceOSUser": "ec2-user", "SSHPublicKey": KEY });
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    body.to_string()
}

fn send(change: &Value) -> Result<SendSshPublicKey, ApiError> {
    SendSshPublicKey::parse(body(change).as_bytes(), &KeyTypes::default())
}

fn send_serial(change: &Value) -> Result<SendSerialConsoleSshPublicKey, ApiError> {
    SendSerialConsoleSshPublicKey::parse(body(change).as_bytes(), &KeyTypes::default())
}

/// The message of `InvalidArgsException`.
fn message<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    match result {
        Err(ApiError::InvalidArgs(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// The message about one violation.
fn one(violation: &str) -> String {
    format!("1 validation error detected: {violation}")
}

fn violation(value: &str, member: &str, must: &str) -> String {
    format!("Value {value} at '{member}' failed to satisfy constraint: Member must {must}")
}

#[test]
fn parameters_into_types() {
    let parameters = send(&json!({ "AvailabilityZone": "us-gov-west-1a", "Unknown": [1] })).unwrap();
    assert_eq!(parameters.instance.as_str(), "i-0123456789abcdef0");
    assert_eq!(parameters.os_user.as_str(), "ec2-user");
    assert_eq!(parameters.key.line(), KEY);
    assert_eq!(parameters.key_text, KEY);
    assert_eq!(parameters.availability_zone.unwrap().as_str(), "us-gov-west-1a");
    let commented = format!("{KEY} me\\n@\u{fc}\n");
    assert_eq!(send(&json!({ "SSHPublicKey": commented })).unwrap().key.line(), KEY);
    assert_eq!(send_serial(&json!({ "SSHPublicKey": commented })).unwrap().key_text, commented);
}

const INSTANCE_ID_PATTERN: &str = "satisfy regular expression pattern: ^i-[a-f0-9]+$";
const ZONE_PATTERN: &str = r"satisfy regular expression pattern: ^(\w+-){2,3}\d+\w+$";
/// botocore's; Smithy's has one more pair of parentheses around it and means the same.
const OS_USER_PATTERN: &str = r"satisfy regular expression pattern: (^[A-Za-z_][A-Za-z0-9\@\._-]{0,30}[A-Za-z0-9\$_-]?$)|(^(?=.{2,32}$)[0-9]{1,32}[A-Za-z\@\._-][A-Za-z0-9\@\._-]*[A-Za-z0-9\$_-]?$)";

/// Each member at both of its bounds and one beyond them, and off its pattern.
#[test]
fn constraints_of_the_model() {
    let at_most = |most: usize| format!("have length less than or equal to {most}");
    let at_least = |least: usize| format!("have length greater than or equal to {least}");
    let id = |digits: usize| format!("i-{}", "a".repeat(digits));
    let user = |length: usize| "u".repeat(length);
    let zone = |length: usize| format!("us-east-{}a", "1".repeat(length - 9));
    let key = |length: usize| format!("{KEY} {}", "\u{1f600}".repeat(length - 81));
    let pattern = |pattern: &str| vec![pattern.to_owned()];
    let rows: Vec<(&str, String, Vec<String>)> = vec![
        ("InstanceId", id(7), vec![at_least(10)]),
        ("InstanceId", id(8), vec![]),
        ("InstanceId", id(30), vec![]),
        ("InstanceId", id(31), vec![at_most(32)]),
        ("InstanceId", String::new(), vec![at_least(10), INSTANCE_ID_PATTERN.to_owned()]),
        ("InstanceId", "mi-0123456789abcdef0".to_owned(), pattern(INSTANCE_ID_PATTERN)),
        ("InstanceId", "i-0123456789ABCDEF0".to_owned(), pattern(INSTANCE_ID_PATTERN)),
        ("InstanceId", "i-0123456789abcdef0\n".to_owned(), pattern(INSTANCE_ID_PATTERN)),
        ("InstanceId", " i-0123456789abcdef0".to_owned(), pattern(INSTANCE_ID_PATTERN)),
        ("InstanceId", "i-0123456789\u{661}".to_owned(), pattern(INSTANCE_ID_PATTERN)),
        ("InstanceOSUser", String::new(), vec![at_least(1), OS_USER_PATTERN.to_owned()]),
        ("InstanceOSUser", user(1), vec![]),
        ("InstanceOSUser", user(32), vec![]),
        ("InstanceOSUser", user(33), vec![at_most(32), OS_USER_PATTERN.to_owned()]),
        ("InstanceOSUser", user(31) + "$", vec![]),
        ("InstanceOSUser", user(31) + "@", pattern(OS_USER_PATTERN)),
        ("InstanceOSUser", user(30) + "@", vec![]),
        ("InstanceOSUser", "1".to_owned(), pattern(OS_USER_PATTERN)),
        ("InstanceOSUser", "12345".to_owned(), pattern(OS_USER_PATTERN)),
        ("InstanceOSUser", "1a".to_owned(), vec![]),
        ("InstanceOSUser", "1a$".to_owned(), vec![]),
        ("InstanceOSUser", "1$".to_owned(), pattern(OS_USER_PATTERN)),
        ("InstanceOSUser", "1".repeat(31) + "a", vec![]),
        ("InstanceOSUser", "a b".to_owned(), pattern(OS_USER_PATTERN)),
        ("InstanceOSUser", "-x".to_owned(), pattern(OS_USER_PATTERN)),
        ("InstanceOSUser", "a$b".to_owned(), pattern(OS_USER_PATTERN)),
        ("InstanceOSUser", "../root".to_owned(), pattern(OS_USER_PATTERN)),
        ("InstanceOSUser", "root\n".to_owned(), pattern(OS_USER_PATTERN)),
        ("InstanceOSUser", "root\0".to_owned(), pattern(OS_USER_PATTERN)),
        ("InstanceOSUser", "r\u{f6}\u{f6}t".to_owned(), pattern(OS_USER_PATTERN)),
        ("SSHPublicKey", KEY.to_owned(), vec![]),
        ("SSHPublicKey", key(4096), vec![]),
        ("SSHPublicKey", key(4097), vec![at_most(4096)]),
        ("AvailabilityZone", "a-b-1".to_owned(), vec![at_least(6), ZONE_PATTERN.to_owned()]),
        ("AvailabilityZone", "a-b-1x".to_owned(), vec![]),
        ("AvailabilityZone", zone(32), vec![]),
        ("AvailabilityZone", zone(33), vec![at_most(32)]),
        ("AvailabilityZone", "us-gov-west-1a".to_owned(), vec![]),
        ("AvailabilityZone", "us_east-1_x-11".to_owned(), vec![]),
        ("AvailabilityZone", "us-west-2-lax-1a".to_owned(), pattern(ZONE_PATTERN)),
        ("AvailabilityZone", "us-east-1".to_owned(), pattern(ZONE_PATTERN)),
        ("AvailabilityZone", "us-east-a1".to_owned(), pattern(ZONE_PATTERN)),
        ("AvailabilityZone", "us--east-1a".to_owned(), pattern(ZONE_PATTERN)),
        ("AvailabilityZone", "east-1a".to_owned(), pattern(ZONE_PATTERN)),
        ("AvailabilityZone", "us-east-1a\n".to_owned(), pattern(ZONE_PATTERN)),
        ("AvailabilityZone", "us-east-1\u{e4}".to_owned(), pattern(ZONE_PATTERN)),
    ];
    for (member, value, must) in rows {
        let result = send(&json!({ member: value }));
        if must.is_empty() {
            assert!(result.is_ok(), "{member} {value:?}: {result:?}");
            continue;
        }
        let lowered = member[..1].to_lowercase() + &member[1..];
        let cut: String = value.chars().take(256).collect();
        let shown = if cut == value { value.clone() } else { cut + "..." };
        let violations: Vec<String> =
            must.iter().map(|must| violation(&format!("'{shown}'"), &lowered, must)).collect();
        let errors = if must.len() == 1 { "error" } else { "errors" };
        let expected = format!("{} validation {errors} detected: {}", must.len(), violations.join("; "));
        assert_eq!(message(result), expected);
    }
}

#[test]
fn violations_in_the_framework_s_words() {
    // wire.md 1.7, mludvig/aws-ssm-tools#44.
    assert_eq!(
        message(send(&json!({ "InstanceId": "mi-0123456789abcdef0" }))),
        "1 validation error detected: Value 'mi-0123456789abcdef0' at 'instanceId' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^i-[a-f0-9]+$"
    );
    // All of them at once, in the model's order whatever the request's.
    let everything = format!(
        "4 validation errors detected: {}; {}; {}; {}",
        violation("null", "instanceId", "not be null"),
        violation("'a b'", "instanceOSUser", OS_USER_PATTERN),
        violation("null", "sSHPublicKey", "not be null"),
        violation("'nowhere'", "availabilityZone", ZONE_PATTERN),
    );
    let wrong = r#"{"AvailabilityZone":"nowhere","SSHPublicKey":null,"instanceId":"i-0123456789abcdef0","InstanceOSUser":"a b"}"#;
    assert_eq!(message(SendSshPublicKey::parse(wrong.as_bytes(), &KeyTypes::default())), everything);
    let everything = format!(
        "3 validation errors detected: {}; {}; {}",
        violation("null", "instanceId", "not be null"),
        violation("'1'", "serialPort", "have value less than or equal to 0"),
        violation("null", "sSHPublicKey", "not be null"),
    );
    let wrong = r#"{"SerialPort":1,"InstanceId":null}"#;
    assert_eq!(
        message(SendSerialConsoleSshPublicKey::parse(wrong.as_bytes(), &KeyTypes::default())),
        everything
    );
    // A key that is none as well is said only of members that fit the model.
    let two = message(send(&json!({ "InstanceId": null, "SSHPublicKey": format!("command=\"id\" {KEY}") })));
    assert_eq!(two, one(&violation("null", "instanceId", "not be null")));
}

#[test]
fn members_of_another_type() {
    for member in ["InstanceId", "InstanceOSUser", "SSHPublicKey", "AvailabilityZone"] {
        for value in [json!(7), json!(0.5), json!(true), json!([KEY]), json!({}), json!([])] {
            assert_eq!(
                send(&json!({ member: value })).unwrap_err(),
                ApiError::Serialization,
                "{member}: {value}"
            );
        }
    }
    // A lone surrogate is not text.
    let surrogate = body(&json!({ "InstanceOSUser": "SURROGATE" })).replace("SURROGATE", r"\ud800");
    let refused = SendSshPublicKey::parse(surrogate.as_bytes(), &KeyTypes::default());
    assert_eq!(refused.unwrap_err(), ApiError::Serialization);
    // What is null is missing.
    assert!(send(&json!({ "AvailabilityZone": null })).is_ok());
    assert!(send_serial(&json!({ "SerialPort": null })).is_ok());
}

/// Which of the two would be meant? Members that the model does not know do not matter.
#[test]
fn members_that_stand_twice() {
    let twice = |member: &str| body(&json!({})).replacen('{', &format!("{{{member},"), 1);
    for member in
        [r#""InstanceId":"i-0123456789abcdef0""#, r#""InstanceOSUser":null"#, r#""SSHPublicKey":"x""#]
    {
        let refused = SendSshPublicKey::parse(twice(member).as_bytes(), &KeyTypes::default());
        assert_eq!(refused.unwrap_err(), ApiError::Serialization, "{member}");
    }
    let unknown = twice(r#""a":1,"a":2,"instanceId":3"#);
    assert!(SendSshPublicKey::parse(unknown.as_bytes(), &KeyTypes::default()).is_ok());
}

#[test]
fn the_serial_port() {
    let parse = |number: &str| {
        let body = body(&json!({})).replacen('{', &format!("{{\"SerialPort\":{number},"), 1);
        assert!(crate::api::well_formed(body.as_bytes()), "{number}");
        SendSerialConsoleSshPublicKey::parse(body.as_bytes(), &KeyTypes::default())
    };
    for zero in ["0", "-0", "0.0", "-0.0", "0e0", "0e9", "null"] {
        assert!(parse(zero).is_ok(), "{zero}");
    }
    let least = "have value greater than or equal to 0";
    let most = "have value less than or equal to 0";
    for (number, shown, must) in [
        ("1", "'1'", most),
        ("1e0", "'1'", most),
        ("10e-1", "'1'", most),
        ("2147483647", "'2147483647'", most),
        ("-1", "'-1'", least),
        ("-1.0", "'-1'", least),
        ("-2147483648", "'-2147483648'", least),
    ] {
        assert_eq!(message(parse(number)), one(&violation(shown, "serialPort", must)), "{number}");
    }
    for number in [
        "0.5",
        "-1e-9",
        "2147483648",
        "-2147483649",
        "99999999999",
        "1e300",
        "1e999",
        "\"0\"",
        "true",
        "[0]",
        "{}",
    ] {
        assert_eq!(parse(number).unwrap_err(), ApiError::Serialization, "{number}");
    }
}

#[test]
fn bad_keys_in_aws_s_words_and_ours() {
    let damaged = format!("ssh-ed25519 {}", "A".repeat(80));
    let rsa = |bits: usize| {
        let modulus = [&[0; 1][..], &vec![0xff; bits / 8]].concat();
        let mut blob = b"\0\0\0\x07ssh-rsa\0\0\0\x03\x01\0\x01".to_vec();
        blob.extend(u32::try_from(modulus.len()).unwrap().to_be_bytes());
        blob.extend(modulus);
        format!("ssh-rsa {}", instance_connect_document::base64_encode(&blob))
    };
    for (text, expected) in [
        // To the byte what AWS was seen to say (wire.md 1.7).
        (format!("sk-ssh-ed25519@openssh.com {}", "A".repeat(80)), "SSH Public key is invalid"),
        (format!("ecdsa-sha2-nistp256 {}", "A".repeat(80)), "SSH Public key is invalid"),
        (rsa(4088), "RSA - SSH Public key is invalid"),
        // With our words behind it.
        (
            format!("command=\"id\" {KEY}"),
            "SSH Public key is invalid. It begins with authorized_keys options; send only the key type, the base64 and a comment.",
        ),
        (
            damaged,
            "SSH Public key is invalid. It has base64 that is not a key of its type; send the whole line of the .pub file: key type, base64, and a comment if you like.",
        ),
        (
            rsa(2048).replace("ADAQAB", "ADAQAA"),
            "RSA - SSH Public key is invalid. It is an RSA key with an unsound exponent or modulus; use another one, such as ssh-keygen -t ed25519 makes.",
        ),
    ] {
        for error in [
            send(&json!({ "SSHPublicKey": text })).map(drop),
            send_serial(&json!({ "SSHPublicKey": text })).map(drop),
        ] {
            assert_eq!(message(error), format!("{ILLEGAL}{expected}"), "{text}");
        }
    }
}

/// Where the length is wrong already, the framework's words stay as they are, and ours follow.
#[test]
fn a_file_name_in_place_of_the_key() {
    let short = "have length greater than or equal to 80";
    let named = "SSHPublicKey is the name of a file, not a key; send what is in the .pub file.";
    for name in ["key.pub", "~/.ssh/id_rsa.pub", "file:///home/me/.ssh/id_ed25519.pub", r"C:\Users\me\id.pub"]
    {
        let shown = violation(&format!("'{name}'"), "sSHPublicKey", short);
        assert_eq!(message(send(&json!({ "SSHPublicKey": name }))), format!("{}. {named}", one(&shown)));
        let several = message(send(&json!({ "SSHPublicKey": name, "AvailabilityZone": "nowhere" })));
        let zone = violation("'nowhere'", "availabilityZone", ZONE_PATTERN);
        assert_eq!(several, format!("2 validation errors detected: {shown}; {zone}. {named}"));
    }
    let long = format!("/home/me/{}/id.pub", "folder/".repeat(10));
    assert_eq!(
        message(send(&json!({ "SSHPublicKey": long }))),
        format!("{ILLEGAL}SSH Public key is invalid. {}", named.replace("SSHPublicKey", "It"))
    );
    // Of a type that is not accepted AWS says no more than its own sentence.
    let fido = "sk-ssh-ed25519@openssh.com AAAA";
    let shown = violation(&format!("'{fido}'"), "sSHPublicKey", short);
    assert_eq!(message(send(&json!({ "SSHPublicKey": fido }))), one(&shown));
}

/// What is repeated is bounded, and is nobody's private key, in whichever member it was put.
#[test]
fn values_in_messages() {
    const SECRET: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0";
    const PUTTY: &str = "AAAAIBxJxZ0kqJ5mQ2vT8yWn4Lr7uPfXoDg1hCbEaS3RtKzV";
    const JWK: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    let private_keys = [
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----\n"),
        format!("-----BEGIN ENCRYPTED PRIVATE KEY----- {SECRET}"),
        format!("PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 14\n{SECRET}"),
        format!("Private-Lines: 14\n{SECRET}"),
        // Without its marks: a line of one, and the shortest whole one.
        SECRET.to_owned(),
        SECRET[..43].to_owned(),
        format!("ssh-ed25519 {SECRET}"),
        // PuTTY's line, whose base64 begins with a length as a public key's does; a JWK's `d`; a secret access key of AWS.
        PUTTY.to_owned(),
        format!("ssh-ed25519 {PUTTY}"),
        JWK.to_owned(),
        format!(r#"{{"d":"{JWK}"}}"#),
        SECRET_ACCESS_KEY.to_owned(),
        format!("aws_secret_access_key={SECRET_ACCESS_KEY}"),
    ];
    for private in private_keys {
        for text in [private.clone(), private.repeat(100), format!("{}{private}", "x".repeat(4000))] {
            for member in ["InstanceId", "InstanceOSUser", "SSHPublicKey", "AvailabilityZone"] {
                let Err(ApiError::InvalidArgs(said)) = send(&json!({ member: text })) else {
                    panic!("{text}")
                };
                let begins = [&SECRET[..5], &PUTTY[..12], &JWK[..5], &SECRET_ACCESS_KEY[..5]];
                assert!(!begins.iter().any(|begin| said.contains(begin)), "{said}");
            }
        }
    }
    let pem = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}");
    assert!(message(send(&json!({ "SSHPublicKey": pem }))).starts_with(&format!(
        "{ILLEGAL}SSH Public key is invalid. It is a private key; send the public key"
    )));

    // What can be no secret is repeated in place of a key as AWS does, and nothing else is.
    let base64 = KEY.split(' ').nth(1).unwrap();
    for (text, repeated) in [
        ("key.pub", true),
        ("ssh-ed25519", true),
        ("ssh-ed25519 AAAA", true),
        (&KEY[..79], true),
        ("ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABB", true),
        ("ssh-ed25519 short and secret, but what is it", true),
        (base64, false),
        ("correct horse battery staple", false),
        ("Tr0ub4dor&3", false),
        ("id_ed25519", false),
        ("id_ed25519.pub", true),
        (&format!("ssh-ed25519 {} {}", &SECRET[..20], &SECRET[20..40]), false),
        (&format!("{} {}", &SECRET[..20], &SECRET[20..40]), false),
    ] {
        let said = message(send(&json!({ "SSHPublicKey": text })));
        let value = if repeated { text } else { "***" };
        assert!(said.contains(&format!("Value '{value}' at 'sSHPublicKey'")), "{text}: {said}");
    }

    for long in ["x", "\u{1f600}", "\"", "\0"] {
        let long = long.repeat(60_000 / long.len() / 4);
        let said = message(send(&json!({
            "InstanceId": long, "InstanceOSUser": long, "SSHPublicKey": long, "AvailabilityZone": long
        })));
        assert!(said.len() < 16 * 1024, "{}", said.len());
    }

    // Control characters are the caller's own, and leave as JSON's escapes.
    let request = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap();
    let error = send(&json!({ "InstanceOSUser": "a\0\u{1b}[31m\r\nb\u{7f}" })).unwrap_err();
    let wire = error.to_wire(Protocol::Json, &request);
    assert!(wire.message.contains("Value 'a\0\u{1b}[31m\r\nb\u{7f}' at"));
    assert!(wire.body.contains(r"Value 'a\u0000\u001b[31m\r\nb"), "{}", wire.body);
    assert!(wire.body.bytes().all(|b| b >= b' '));
}
