//! A target header and a body: well-formedness, the operation that is asked for, and its parameters.
#![no_main]

use instance_connect_core::api::{
    ApiError, Protocol, SendSerialConsoleSshPublicKey, SendSshPublicKey, route, well_formed,
};
use instance_connect_core::limits;
use instance_connect_core::sigv4::RequestHead;
use instance_connect_core::ssh_key::{KeyTypes, PublicKey, holds_private_key};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|bytes: &[u8]| {
    let (target, body) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (&[][..], bytes),
    };
    if let Ok(head) = RequestHead::read("POST", "/", [("host", &b"localhost"[..]), ("x-amz-target", target)])
        && let Ok(operation) = route(&head)
    {
        assert!(target.ends_with(format!("AWSEC2InstanceConnectService.{}", operation.name()).as_bytes()));
    }

    let value = serde_json::from_slice::<Value>(body).ok();
    if let Some(value) = value.filter(Value::is_object) {
        assert_eq!(well_formed(body), depth(&value) <= limits::JSON_DEPTH);
    }
    if well_formed(body) {
        let types = KeyTypes::all();
        check(SendSshPublicKey::parse(body, &types), |push| {
            key_is_one_line(&push.key, &push.key_text);
            let members = json!({
                "InstanceId": push.instance.as_str(),
                "InstanceOSUser": push.os_user.as_str(),
                "SSHPublicKey": push.key_text,
                "AvailabilityZone": push.availability_zone.as_ref().map(|zone| zone.as_str()),
            });
            assert_eq!(SendSshPublicKey::parse(members.to_string().as_bytes(), &types).as_ref(), Ok(push));
            assert!(!holds_private_key(&push.key_text));
        });
        check(SendSerialConsoleSshPublicKey::parse(body, &types), |push| {
            key_is_one_line(&push.key, &push.key_text);
            assert!(!holds_private_key(&push.key_text));
        });
    }
});

fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// What was accepted keeps to its limits; what was refused is refused in bounded words.
fn check<T>(parsed: Result<T, ApiError>, accepted: impl FnOnce(&T)) {
    match parsed {
        Ok(parameters) => accepted(&parameters),
        Err(error) => {
            let request = "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().expect("a request id");
            let wire = error.to_wire(Protocol::Json, &request);
            assert_eq!(wire.status, 400);
            assert!(wire.message.len() <= 16 * 1024 && !holds_private_key(&wire.message));
            assert!(
                wire.body.bytes().all(|b| b >= b' ') && serde_json::from_str::<Value>(&wire.body).is_ok()
            );
        }
    }
}

fn key_is_one_line(key: &PublicKey, text: &str) {
    assert!((80..=4096).contains(&text.chars().count()));
    assert!(key.line().bytes().all(|b| matches!(b, b' '..=b'~')));
}
