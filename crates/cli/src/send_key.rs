//! `send-key`: pushes an existing public key.

use crate::arguments::{OutputFormat, SendKeyOptions, ServiceOptions};
use crate::failure::{Exit, FIND_THE_REQUEST, Failure};
use crate::ready_file::Entry;
use crate::{output, progress, public_key, service};
use instance_connect_client::{Pushed, SendSshPublicKey};

pub(crate) async fn run(service: &ServiceOptions, options: &SendKeyOptions) -> Result<u8, Failure> {
    let key = public_key::read(&options.ssh_public_key)?;
    let mut ready = service::ready_file(service)?;
    let instance = &options.target.instance;
    let in_file = ready.as_ref().and_then(|file| file.instance(instance)).and_then(Entry::user);
    let user = options.target.user(options.os_user.as_ref(), in_file)?;
    let client = service::client(service, ready.as_mut())?;

    let mut push = SendSshPublicKey::new(instance.as_str(), user.as_str(), key);
    push.availability_zone.clone_from(&options.availability_zone);
    let answer = progress::step("the key to be put in place", client.send_ssh_public_key(&push)).await?;

    let Pushed { request_id, success, .. } = &answer;
    let id = request_id.as_deref().unwrap_or("none").escape_debug();
    match options.output {
        OutputFormat::Json => output::result(&json(request_id.as_deref(), *success))?,
        OutputFormat::Text if *success => output::result(&format!(
            "{user} on {instance} can log in with this key for 60 seconds (request id {id})"
        ))?,
        OutputFormat::Text => {}
    }
    if *success { Ok(0) } else { Err(not_in_place(request_id.as_deref())) }
}

/// An answer that says neither error nor success.
pub(crate) fn not_in_place(request_id: Option<&str>) -> Failure {
    let id = request_id.unwrap_or("none").escape_debug();
    Failure::new(Exit::Service, format!("the service did not put the key in place (request id {id})"))
        .hint(FIND_THE_REQUEST)
}

/// As the AWS CLI prints it.
fn json(request_id: Option<&str>, success: bool) -> String {
    let id = request_id.map_or(serde_json::Value::Null, Into::into);
    format!("{{\n    \"RequestId\": {id},\n    \"Success\": {success}\n}}")
}
