//! Administration of a self-hosted service: each command is one signed call, or a few, and its answer is shown.

pub(crate) mod arguments;
mod calls;
mod cloud_init;
mod host_facts;
mod host_keys;
pub(crate) mod show;

use crate::arguments::{OutputFormat, ServiceOptions};
use crate::failure::{Exit, Failure};
use crate::inventory::Offline;
use crate::{output, progress, service};
use arguments::{Administration, Format};
use instance_connect_client::{
    Administer, AdministrativeOperation as Operation, Client, Surroundings as _, System,
};
use instance_connect_core::printable::printable;
use serde_json::{Map, Value};

/// Runs a command of administration.
pub(crate) async fn run(service: &ServiceOptions, command: &Administration) -> Result<u8, Failure> {
    use Administration as A;
    if let A::Policy(options) = command
        && let Some(question) = offline(service, &options.command)
    {
        return question.answer();
    }
    let client = service::administration(service)?;
    let (call, Format { output: format }) = match command {
        A::Account(options) => (calls::account(&options.command), options.format),
        A::Settings(options) => (calls::settings(&options.command), options.format),
        A::User(options) => (calls::user(&options.command, &client).await?, options.format),
        A::Group(options) => (calls::group(&options.command), options.format),
        A::Policy(options) => (calls::policy(&options.command, &client).await?, options.format),
        A::AccessKey(options) => (calls::access_key(&options.command), options.format),
        A::Instance(options) => (calls::instance(&options.command, &client).await?, options.format),
        A::Agent(options) => (calls::agent(&options.command), options.format),
        A::Revoke(options) => (calls::revoke(options), options.format),
        A::Signer(options) => (calls::signer(&options.command), options.format),
    };
    let answer = whole(&client, call.request).await?;
    warn(&answer);
    match format {
        OutputFormat::Json => output::result(&show::json(&answer)?)?,
        OutputFormat::Text => {
            output::result(&call.shown.text(&answer))?;
            call.shown.steps().into_iter().for_each(output::steps);
        }
    }
    Ok(call.shown.exit_code(&answer))
}

/// A question that an inventory file is to answer.
fn offline<'a>(service: &'a ServiceOptions, command: &'a arguments::Policy) -> Option<Offline<'a>> {
    let arguments::Policy::Test { user, action, instance, os_user, context, offline: true, file: Some(file) } =
        command
    else {
        return None;
    };
    let (os_user, region) = (os_user.as_ref(), service.region.as_deref());
    let now = System.now();
    Some(Offline { file, user, action, instance, os_user, context, region, now })
}

/// Makes a call, and for a list as many as it takes to have all of it.
pub(crate) async fn whole(client: &Client, request: Administer) -> Result<Map<String, Value>, Failure> {
    let mut all = progress::step(progress::ANSWER, client.administer(&request)).await?;
    while let Some(marker) = all.remove("Marker").filter(Value::is_string) {
        let request = request.clone().with("Marker", marker);
        let next = progress::step(progress::ANSWER, client.administer(&request)).await?;
        for (name, value) in next {
            match (all.get_mut(&name), value) {
                (Some(Value::Array(values)), Value::Array(more)) => values.extend(more),
                (_, value) => {
                    all.insert(name, value);
                }
            }
        }
    }
    all.remove("IsTruncated");
    Ok(all)
}

/// What in a policy means less than its author may think.
fn warn(answer: &Map<String, Value>) {
    let warnings = answer.get("Warnings").and_then(Value::as_array).into_iter().flatten();
    for warning in warnings.filter_map(Value::as_str) {
        output::warning(&printable(warning));
    }
}

/// The ARN of a managed policy: as given, or of the policy that has this name in the caller's account.
async fn policy_arn(client: &Client, policy: &str) -> Result<String, Failure> {
    if policy.starts_with("arn:") {
        return Ok(policy.to_owned());
    }
    let all = whole(client, Administer::new(Operation::ListPolicies)).await?;
    let mut policies = all.get("Policies").and_then(Value::as_array).into_iter().flatten();
    let named = policies.find(|found| found.get("PolicyName").and_then(Value::as_str) == Some(policy));
    let arn = named.and_then(|found| found.get("Arn")).and_then(Value::as_str).map(str::to_owned);
    arn.ok_or_else(|| {
        let message = format!("there is no managed policy {policy:?} in this account");
        Failure::new(Exit::Parameter, message).hint("`instance-connect policy list` shows those there are")
    })
}
