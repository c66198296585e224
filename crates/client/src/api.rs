//! The two operations, their parameters and their result (API version 2018-04-02).

use crate::body::Body;
use crate::endpoint::EndpointName;
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
    /// Whose endpoint it has.
    pub(crate) endpoint: EndpointName,
    /// How it is spoken to.
    pub(crate) protocol: Protocol,
    /// Largest answer read, in bytes.
    pub(crate) largest_answer: usize,
    /// Whether it takes each signature once: then no two attempts may have the same.
    pub(crate) is_for_once: bool,
}

/// A protocol of AWS's.
pub(crate) enum Protocol {
    /// AWS JSON 1.1: the operation stands in a header, its parameters are an object.
    Json {
        /// What its targets begin with.
        target: &'static str,
    },
    /// The query protocol, and EC2's kind of it: the operation and its parameters are a form, answers are XML.
    #[cfg(feature = "ec2")]
    Query,
}

impl Protocol {
    /// What the body of a request is.
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Json { .. } => "application/x-amz-json-1.1",
            #[cfg(feature = "ec2")]
            Self::Query => "application/x-www-form-urlencoded; charset=utf-8",
        }
    }

    /// `X-Amz-Target` of an operation.
    pub(crate) fn target(&self, operation: &str) -> Option<String> {
        match self {
            Self::Json { target } => Some(format!("{target}.{operation}")),
            #[cfg(feature = "ec2")]
            Self::Query => None,
        }
    }
}

/// EC2 Instance Connect. A real answer is under 1 KiB; an error may carry a longer text.
const EC2_INSTANCE_CONNECT: Service = Service {
    name: "ec2-instance-connect",
    endpoint: EndpointName::InstanceConnect,
    protocol: Protocol::Json { target: "AWSEC2InstanceConnectService" },
    largest_answer: 64 * 1024,
    is_for_once: false,
};

/// An operation with its parameters: what is sent, and what its answer is read as.
pub(crate) trait Operation {
    /// What the answer is read as.
    type Output;

    /// Its service.
    const SERVICE: Service;

    /// Its name, as in `X-Amz-Target` and `Action`.
    fn name(&self) -> &'static str;

    /// The body: of JSON, with members in the order of the model.
    fn body(&self) -> String;

    /// Whether it may be made again where nobody knows what came of it.
    fn is_repeatable(&self) -> bool;

    /// Whether the answer holds a secret, and must not be shown.
    fn tells_a_secret(&self) -> bool;

    /// Reads the body of a success, or says why it is none. The request id is that of the head.
    fn output(body: &[u8], request_id: Option<String>) -> Result<Self::Output, String>;
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

    fn output(body: &[u8], request_id: Option<String>) -> Result<Pushed, String> {
        pushed(body, request_id)
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

    fn output(body: &[u8], request_id: Option<String>) -> Result<Pushed, String> {
        pushed(body, request_id)
    }
}

/// The members of an answer in JSON.
pub(crate) fn members(body: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn pushed(body: &[u8], request_id: Option<String>) -> Result<Pushed, String> {
    let members = members(body)?;
    let in_body = members.get("RequestId").and_then(Value::as_str).map(str::to_owned);
    let success = match members.get("Success") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(success)) => *success,
        Some(_) => return Err("Success is neither true nor false".to_owned()),
    };
    Ok(Pushed { request_id: in_body.or(request_id), success })
}
