//! The ready file: what scripts need to use a `dev` that is up. Its names and shapes are a contract.

use super::control_plane;
use super::directory::{Directory, READY_FILE, write_private};
use super::gateway::Gateway;
use super::inventory::{Created, Principal};
use super::machine::Machine;
use super::os_user::OsAccount;
use super::{AUDIT_LOG, Arguments, CA_FILE};
use crate::control_plane::Listening;
use crate::faults;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// The file's content. Parts that do not exist yet are absent.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    schema: u32,
    endpoint_url: String,
    region: String,
    account_id: String,
    admin: Credentials,
    limited: Credentials,
    metrics_url: String,
    /// Before `/faults` and `/calls`.
    control_url: String,
    audit_log: PathBuf,
    ca_file: PathBuf,
    serial_console: SerialConsole,
    instances: Vec<ReadyInstance>,
}

/// A principal's access key. The file is readable by its owner only.
#[derive(Serialize)]
struct Credentials {
    access_key_id: String,
    secret_access_key: String,
    arn: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.access_key_id)
    }
}

/// Where people connect to serial consoles.
#[derive(Debug, Serialize)]
struct SerialConsole {
    host: IpAddr,
    port: u16,
    host_key: String,
}

#[derive(Debug, Serialize)]
struct ReadyInstance {
    instance_id: String,
    availability_zone: String,
    os_user: String,
    private_ip: Ipv4Addr,
    ssh_host: Ipv4Addr,
    ssh_port: u16,
    metadata_url: String,
    host_key: String,
    known_hosts: PathBuf,
}

impl Ready {
    pub(super) fn new(
        arguments: &Arguments,
        account: &OsAccount,
        created: &Created,
        listening: Listening,
        directory: &Directory,
        machines: &[Machine],
        gateway: &Gateway,
    ) -> Self {
        let instances = created.instances.iter().zip(machines).map(|(instance, machine)| ReadyInstance {
            instance_id: instance.id.to_string(),
            availability_zone: instance.availability_zone.to_string(),
            os_user: account.name.to_string(),
            private_ip: *machine.address.ip(),
            ssh_host: *machine.address.ip(),
            ssh_port: machine.address.port(),
            metadata_url: format!("http://{}", machine.metadata),
            host_key: machine.host_key.clone(),
            known_hosts: machine.known_hosts.clone(),
        });
        Self {
            schema: 1,
            endpoint_url: format!("{}://{}", if arguments.tls { "https" } else { "http" }, listening.public),
            region: arguments.region.to_string(),
            account_id: created.account.id.to_string(),
            admin: Credentials::of(&created.admin),
            limited: Credentials::of(&created.limited),
            metrics_url: format!("http://{}/metrics", listening.admin),
            control_url: format!("http://{}{}", listening.admin, faults::PATH),
            audit_log: directory.path().join(AUDIT_LOG),
            ca_file: directory.path().join(CA_FILE),
            serial_console: SerialConsole {
                host: gateway.listening.address.ip(),
                port: gateway.listening.address.port(),
                host_key: gateway.host_key().to_owned(),
            },
            instances: instances.collect(),
        }
    }

    /// Writes `ready.json` and a file for shells, and the ready file asked for.
    pub(super) fn write(&self, directory: &Directory, ready_file: Option<&Path>) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        let own = directory.path().join(READY_FILE);
        let (ca_file, is_tls) = (self.ca_file.to_string_lossy(), self.endpoint_url.starts_with("https:"));
        let variables = [
            ("AWS_ENDPOINT_URL", self.endpoint_url.as_str()),
            ("AWS_REGION", &self.region),
            ("AWS_DEFAULT_REGION", &self.region),
            ("AWS_ACCESS_KEY_ID", &self.admin.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &self.admin.secret_access_key),
            ("INSTANCE_CONNECT_READY_FILE", &own.to_string_lossy()),
            ("INSTANCE_CONNECT_CONTROL_URL", &self.control_url),
        ];
        let trust = is_tls.then_some(("AWS_CA_BUNDLE", &*ca_file));
        let exports: String = variables
            .iter()
            .chain(&trust)
            .map(|(name, value)| format!("export {name}='{value}'\n"))
            .collect();
        write_private(&directory.path().join("env"), &(exports + "unset AWS_SESSION_TOKEN AWS_PROFILE\n"))?;
        write_private(&own, &text)?;
        ready_file.map_or(Ok(()), |path| write_private(path, &text))
    }

    /// Says on standard output what to do next. Secrets stay in the files.
    #[expect(clippy::print_stdout, reason = "this is what the command is run to see")]
    pub(super) fn explain(&self, directory: &Directory) {
        let path = directory.path().display();
        let Some(first) = self.instances.first() else { return };
        let ReadyInstance { instance_id, os_user, ssh_host, ssh_port, known_hosts, .. } = first;
        let known_hosts = known_hosts.display();
        println!(
            "Instance Connect is up: {}, region {}, account {}",
            self.endpoint_url, self.region, self.account_id
        );
        for instance in &self.instances {
            println!(
                "  {}  {}:{}  user {}",
                instance.instance_id, instance.ssh_host, instance.ssh_port, instance.os_user
            );
        }
        println!("\nIn another shell:\n");
        println!("  . {path}/env        # endpoint and credentials, for every AWS SDK and CLI");
        println!("  {} ssh {instance_id}", command_line());
        println!("\nor with the tools you have:\n");
        println!("  ssh-keygen -q -t ed25519 -N '' -f key");
        println!("  aws ec2-instance-connect send-ssh-public-key --instance-id {instance_id} \\");
        println!("      --instance-os-user {os_user} --ssh-public-key file://key.pub");
        println!(
            "  ssh -i key -o IdentitiesOnly=yes -o UserKnownHostsFile={known_hosts} -p {ssh_port} {os_user}@{ssh_host}"
        );
        println!("\nAudit log {path}/audit.log, logins {path}/instances/*/auth.log,");
        println!("control plane {path}/{}, agents {path}/instances/*/agent.log.", control_plane::LOG);
        println!("Ctrl-C ends it and removes everything.");
    }
}

/// Our command line as a shell finds it: by its path where it lies beside this program.
fn command_line() -> String {
    let beside = std::env::current_exe().map(|program| program.with_file_name("instance-connect"));
    let beside = beside.ok().filter(|path| path.is_file());
    beside.map_or_else(|| "instance-connect".to_owned(), |path| path.display().to_string())
}

impl Credentials {
    fn of(principal: &Principal) -> Self {
        let secret = String::from_utf8_lossy(principal.access_key.secret.expose()).into_owned();
        let access_key_id = principal.access_key.id.to_string();
        Self { access_key_id, secret_access_key: secret, arn: principal.arn.clone() }
    }
}
