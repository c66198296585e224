//! `console`: an instance's serial line, by way of the gateway that ssh connects to. A key made for this one time is pushed for the line, as
//! for a login; what goes over the line is between ssh and the gateway.

pub(crate) mod arguments;
mod calls;
mod gateway;

use crate::arguments::{OutputFormat, ServiceOptions};
use crate::failure::{Exit, Failure};
use crate::ssh::{Ended, Program, Route, SSH_FAILED, SshArguments, dry_run, log_in};
use crate::{machine, output, send_key, service};
use arguments::{ConsoleCommand, ConsoleOptions};
use instance_connect_client::{
    Administer, AdministrativeOperation, Client, Error, SendSerialConsoleSshPublicKey,
};
use instance_connect_core::console::ConsoleAddress;
use instance_connect_core::ids::InstanceId;

pub(crate) async fn run(service: &ServiceOptions, options: &ConsoleOptions) -> Result<u8, Failure> {
    let format = options.format.output;
    if let Some(ConsoleCommand::Fingerprint) = &options.command {
        if options.says_more_than_a_command() {
            let message = "fingerprint is about the gateways, and takes no instance and nothing else";
            return Err(Failure::new(Exit::Parameter, message)
                .hint("a machine of this name is called fingerprint.ec2"));
        }
        let client = service::client(service, service::ready_file(service)?.as_mut())?;
        return calls::fingerprint(&client, format).await;
    }
    let Some(host) = &options.instance else {
        return Err(Failure::new(Exit::Parameter, "no instance is named"));
    };
    let call = calls::Call::of(&options.act);
    if call.is_none() && format == OutputFormat::Json {
        let message = "a session at a console is no JSON";
        return Err(Failure::new(Exit::Parameter, message)
            .hint("--output json goes with --who, --break, --terminate and `console fingerprint`"));
    }
    // Words for ssh are looked at before anybody is asked anything.
    let ssh = SshArguments::split(Program::Console, &options.attach.rest)?;
    let mut ready = service::ready_file(service)?;
    let client = service::client(service, ready.as_mut())?;
    if options.watch || call.is_some() {
        service::not_aws(&client)?;
    }
    let instance = machine::instance(host, &client).await?;
    if let Some(call) = call {
        return call.make(&instance, &client, format).await;
    }
    let line = ConsoleAddress::of(instance.clone());
    let route = gateway::route(&line, &options.attach, ready.as_ref(), service, &client).await?;
    if options.attach.dry_run {
        return dry_run(Program::Console, &route, &ssh);
    }
    let Ended { code, has_met } = log_in(Program::Console, service, &route, &ssh, async |key| {
        if options.watch { watch(&client, &instance, key).await } else { push(&client, &instance, key).await }
    })
    .await?;
    // A connection that is cut later is none of the address, nor of the host key.
    if code == SSH_FAILED && !has_met {
        output::hint(&where_ssh_failed(&route));
    }
    Ok(code)
}

/// Reserves the line's one place of a writer for whoever has this key.
async fn push(client: &Client, instance: &InstanceId, key: String) -> Result<(), Failure> {
    let push = SendSerialConsoleSshPublicKey::new(instance.as_str(), key);
    let answer = client.send_serial_console_ssh_public_key(&push).await.map_err(refused)?;
    if answer.success { Ok(()) } else { Err(send_key::not_in_place(answer.request_id.as_deref())) }
}

/// Lets whoever has this key look on.
async fn watch(client: &Client, instance: &InstanceId, key: String) -> Result<(), Failure> {
    let request = Administer::new(AdministrativeOperation::WatchSerialConsole)
        .with("InstanceId", instance.as_str())
        .with("SSHPublicKey", key);
    client.administer(&request).await.map(drop).map_err(refused)
}

/// A refusal, with what is to be done at a serial line.
fn refused(error: Error) -> Failure {
    let is_throttled = matches!(error, Error::Throttling(_));
    let failure = Failure::from(error);
    if !is_throttled {
        return failure;
    }
    failure.hint(
        "wait a moment and try again; whoever has pushed three keys for a line within ten minutes, and come with none of them, waits \
         until those minutes are over",
    )
}

/// What ssh's own words do not say.
fn where_ssh_failed(route: &Route) -> String {
    let (host, port) = (&route.host, route.port);
    let keys = match route.known_hosts {
        Some(_) => "`instance-connect console fingerprint` shows the host keys that the service knows",
        None => {
            "nobody has told its host keys, so your own known hosts count: --known-hosts names another file"
        }
    };
    format!(
        "the gateway is {host} port {port}; where it is reached at another address, give --gateway HOST:PORT; {keys}"
    )
}
