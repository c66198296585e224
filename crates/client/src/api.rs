//! The two operations, their parameters and their result (API version 2018-04-02).

use crate::body::Body;
use serde_json::{Map, Value};

/// Parameters of `SendSSHPublicKey`: a key for logging in over the network.
///
/// Values are sent as they are; what is valid is the service's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendSshPublicKey {
    /// The instance, such as `i-0123456789abcdef0`.
    pub instance_id: String,
    /// The user on the machine for whom the key is good.
    pub instance_os_user: String,
    /// The public key, as one line of OpenSSH or as an SSH2 block.
    pub ssh_public_key: String,
    /// The availability zone, for older services that want it.
    pub availability_zone: Option<String>,
}

impl SendSshPublicKey {
    /// A push of `ssh_public_key` to `instance_os_user` on `instance_id`.
    pub fn new(
        instance_id: impl Into<String>,
        instance_os_user: impl Into<String>,
        ssh_public_key: impl Into<String>,
    ) -> Self {
        Self {
            instance_id: instance_id.into(),
            instance_os_user: instance_os_user.into(),
            ssh_public_key: ssh_public_key.into(),
            availability_zone: None,
        }
    }

    /// With the instance's availability zone.
    #[must_use]
    pub fn availability_zone(mut self, zone: impl Into<String>) -> Self {
        self.availability_zone = Some(zone.into());
        self
    }
}

/// Parameters of `SendSerialConsoleSSHPublicKey`: a key for one serial console session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendSerialConsoleSshPublicKey {
    /// The instance, such as `i-0123456789abcdef0`.
    pub instance_id: String,
    /// The serial port; the service takes 0 when it is not named, and knows no other.
    pub serial_port: Option<u32>,
    /// The public key, as one line of OpenSSH or as an SSH2 block.
    pub ssh_public_key: String,
}

impl SendSerialConsoleSshPublicKey {
    /// A push of `ssh_public_key` for the serial console of `instance_id`.
    pub fn new(instance_id: impl Into<String>, ssh_public_key: impl Into<String>) -> Self {
        Self { instance_id: instance_id.into(), serial_port: None, ssh_public_key: ssh_public_key.into() }
    }

    /// With the number of the serial port.
    #[must_use]
    pub fn serial_port(mut self, port: u32) -> Self {
        self.serial_port = Some(port);
        self
    }
}

/// What both operations answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The service's id of the request; it ties the push to the login in audit records.
    pub request_id: Option<String>,
    /// Whether the key is in place; `false` when the answer does not say.
    pub success: bool,
}

/// The service that an operation is one of.
pub(crate) struct Service {
    /// Its signing name.
    pub(crate) name: &'static str,
    /// What its targets begin with.
    pub(crate) target: &'static str,
    /// Largest answer read, in bytes.
    pub(crate) largest_answer: usize,
    /// Whether it takes each signature once: then no two attempts may have the same.
    pub(crate) is_for_once: bool,
}

/// EC2 Instance Connect. A real answer is under 1 KiB; an error may carry a longer text.
const EC2_INSTANCE_CONNECT: Service = Service {
    name: "ec2-instance-connect",
    target: "AWSEC2InstanceConnectService",
    largest_answer: 64 * 1024,
    is_for_once: false,
};

/// An operation with its parameters: what is sent, and what its answer is read as.
pub(crate) trait Operation {
    /// What the answer is read as.
    type Output;

    /// Its service.
    const SERVICE: Service;

    /// The name in `X-Amz-Target`.
    fn name(&self) -> &'static str;

    /// The JSON body, members in the order of the model.
    fn body(&self) -> String;

    /// Whether it may be made again where nobody knows what came of it.
    fn is_repeatable(&self) -> bool;

    /// Whether the answer holds a secret, and must not be shown.
    fn tells_a_secret(&self) -> bool;

    /// Reads a success, or says why it is none. The request id is that of the head.
    fn output(members: Map<String, Value>, request_id: Option<String>) -> Result<Self::Output, &'static str>;
}

impl Operation for SendSshPublicKey {
    type Output = Pushed;

    const SERVICE: Service = EC2_INSTANCE_CONNECT;

    fn name(&self) -> &'static str {
        "SendSSHPublicKey"
    }

    fn body(&self) -> String {
        let body = Body::default()
            .text("InstanceId", &self.instance_id)
            .text("InstanceOSUser", &self.instance_os_user)
            .text("SSHPublicKey", &self.ssh_public_key);
        match &self.availability_zone {
            Some(zone) => body.text("AvailabilityZone", zone).finish(),
            None => body.finish(),
        }
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn tells_a_secret(&self) -> bool {
        false
    }

    fn output(members: Map<String, Value>, request_id: Option<String>) -> Result<Pushed, &'static str> {
        pushed(&members, request_id)
    }
}

impl Operation for SendSerialConsoleSshPublicKey {
    type Output = Pushed;

    const SERVICE: Service = EC2_INSTANCE_CONNECT;

    fn name(&self) -> &'static str {
        "SendSerialConsoleSSHPublicKey"
    }

    fn body(&self) -> String {
        let body = Body::default().text("InstanceId", &self.instance_id);
        let body = match self.serial_port {
            Some(port) => body.number("SerialPort", port),
            None => body,
        };
        body.text("SSHPublicKey", &self.ssh_public_key).finish()
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn tells_a_secret(&self) -> bool {
        false
    }

    fn output(members: Map<String, Value>, request_id: Option<String>) -> Result<Pushed, &'static str> {
        pushed(&members, request_id)
    }
}

fn pushed(members: &Map<String, Value>, request_id: Option<String>) -> Result<Pushed, &'static str> {
    let in_body = members.get("RequestId").and_then(Value::as_str).map(str::to_owned);
    let success = match members.get("Success") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(success)) => *success,
        Some(_) => return Err("Success is neither true nor false"),
    };
    Ok(Pushed { request_id: in_body.or(request_id), success })
}
