//! `whoami`: whose credentials these are, by STS's `GetCallerIdentity`, and where they are from.

use crate::administration::show::json;
use crate::arguments::{ListFormat, ServiceOptions, WhoamiOptions};
use crate::failure::Failure;
use crate::{output, progress, service};
use instance_connect_core::printable::printable;
use serde_json::json;

pub(crate) async fn run(service: &ServiceOptions, options: &WhoamiOptions) -> Result<u8, Failure> {
    let client = service::client(service, service::ready_file(service)?.as_mut())?;
    let caller = progress::step(progress::ANSWER, client.caller_identity()).await?;
    let settings = client.settings();
    let endpoint = settings.endpoint_url();
    // Whoever may not call one of them may have no need to.
    let (ec2, sts) = (settings.ec2_endpoint_url().ok(), settings.sts_endpoint_url().ok());
    let text = match options.output {
        ListFormat::Text => {
            [&caller.account, &caller.arn, &caller.user_id].map(|part| printable(part)).join("\t")
        }
        ListFormat::Json => json(&json!({
            "Account": caller.account,
            "Arn": caller.arn,
            "UserId": caller.user_id,
            "AccessKeyId": settings.access_key_id(),
            "CredentialsSource": settings.credentials_source(),
            "Region": settings.region(),
            "EndpointUrl": endpoint,
            "Ec2EndpointUrl": ec2,
            "StsEndpointUrl": sts,
        }))?,
        ListFormat::Table => {
            let lines = [
                ("ARN", Some(caller.arn.as_str())),
                ("Account", Some(&caller.account)),
                ("User id", Some(&caller.user_id)),
                ("Access key", settings.access_key_id()),
                ("Credentials from", Some(settings.credentials_source())),
                ("Region", Some(settings.region())),
                ("Endpoint", Some(&endpoint)),
                // Usually they are one.
                ("Endpoint of EC2", ec2.as_deref().filter(|url| *url != endpoint)),
                ("Endpoint of STS", sts.as_deref().filter(|url| *url != endpoint)),
            ];
            let lines =
                lines.into_iter().filter_map(|(name, text)| Some(format!("{name}: {}", printable(text?))));
            lines.collect::<Vec<_>>().join("\n")
        }
    };
    output::result(&text)?;
    Ok(0)
}
