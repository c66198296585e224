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

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const OPERATION: &str = "AWSEC2InstanceConnectService.SendSSHPublicKey";

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
    let headers = [("content-type", CONTENT_TYPE), ("host", host), ("x-amz-target", OPERATION)];
    let scope = SigningScope { region, service: "ec2-instance-connect" };
    let signed = sign_headers("POST", "/", &headers, body.as_bytes(), credentials, scope, now);
    let signed = signed.context("the request cannot be signed")?;
    let request = format!(
        "POST / HTTP/1.1\r\n\
         Host: {host}\r\n\
         Content-Type: {CONTENT_TYPE}\r\n\
         X-Amz-Target: {OPERATION}\r\n\
         User-Agent: instance-connect-bench-load\r\n\
         X-Amz-Date: {}\r\n\
         Authorization: {}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        signed.amz_date,
        signed.authorization,
        body.len(),
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
