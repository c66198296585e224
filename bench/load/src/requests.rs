//! Requests as an AWS SDK sends them, signed.

use anyhow::Context as _;
use aws_lc_rs::rand;
use instance_connect_core::document::{UnixSeconds, base64_encode};
use instance_connect_core::sigv4::{Credentials, SigningScope, sign_headers};

/// What is pushed to whom.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) host: &'a str,
    pub(crate) region: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) os_user: &'a str,
}

/// One request, head and body, for a key that nobody has pushed before.
pub(crate) fn signed(
    target: &Target<'_>,
    credentials: &Credentials,
    now: UnixSeconds,
) -> anyhow::Result<Vec<u8>> {
    let Target { host, region, instance, os_user } = target;
    let key = fresh_key()?;
    let body = format!(
        r#"{{"InstanceId": "{instance}", "InstanceOSUser": "{os_user}", "SSHPublicKey": "ssh-ed25519 {key}"}}"#
    );
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("host", host),
        ("x-amz-target", "AWSEC2InstanceConnectService.SendSSHPublicKey"),
    ];
    post(&headers, &body, credentials, SigningScope { region, service: "ec2-instance-connect" }, now)
}

/// One request of EC2's query API.
pub(crate) fn query(
    host: &str,
    region: &str,
    form: &str,
    credentials: &Credentials,
    now: UnixSeconds,
) -> anyhow::Result<Vec<u8>> {
    let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8"), ("host", host)];
    post(&headers, form, credentials, SigningScope { region, service: "ec2" }, now)
}

fn post(
    headers: &[(&str, &str)],
    body: &str,
    credentials: &Credentials,
    scope: SigningScope<'_>,
    now: UnixSeconds,
) -> anyhow::Result<Vec<u8>> {
    let signed = sign_headers("POST", "/", headers, body.as_bytes(), credentials, scope, now);
    let signed = signed.context("the request cannot be signed")?;
    let mut request = "POST / HTTP/1.1\r\nUser-Agent: instance-connect-bench-load\r\n".to_owned();
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let (date, authorization, length) = (&signed.amz_date, &signed.authorization, body.len());
    request += &format!(
        "X-Amz-Date: {date}\r\nAuthorization: {authorization}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    Ok(request.into_bytes())
}

/// An ED25519 public key in SSH's form. The point is random: a server cannot tell, and nobody logs in with it.
fn fresh_key() -> anyhow::Result<String> {
    let mut blob = [0; 51];
    let (name, point) = blob.split_at_mut(19);
    name.copy_from_slice(b"\0\0\0\x0bssh-ed25519\0\0\0\x20");
    rand::fill(point).ok().context("no randomness")?;
    Ok(base64_encode(&blob))
}
