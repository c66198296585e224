//! The two operations, their parameters and their result (API version 2018-04-02).

use crate::body::Body;

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

/// An operation with its parameters: what is sent, and what goes into `X-Amz-Target`.
pub(crate) trait Operation {
    /// The name after `AWSEC2InstanceConnectService.`.
    const NAME: &'static str;

    /// The JSON body, members in the order of the model.
    fn body(&self) -> String;
}

impl Operation for SendSshPublicKey {
    const NAME: &'static str = "SendSSHPublicKey";

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
}

impl Operation for SendSerialConsoleSshPublicKey {
    const NAME: &'static str = "SendSerialConsoleSSHPublicKey";

    fn body(&self) -> String {
        let body = Body::default().text("InstanceId", &self.instance_id);
        let body = match self.serial_port {
            Some(port) => body.number("SerialPort", port),
            None => body,
        };
        body.text("SSHPublicKey", &self.ssh_public_key).finish()
    }
}
