//! `apply`: what differs is shown, asked about, and changed, step by step.

use super::arguments::ApplyOptions;
use super::current;
use super::file::Inventory;
use super::plan::{Plan, Step};
use crate::confirm::confirm;
use crate::failure::{Exit, Failure};
use crate::{output, progress};
use instance_connect_client::{Client, Error};
use std::cmp::Ordering;
use std::time::Duration;

/// The exit code of a dry run that would change something.
const WOULD_CHANGE: u8 = 2;

/// How long to wait where the service takes no more requests for now, and how often. It takes 20 a second.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSES: u32 = 20;

pub(super) async fn run(client: &Client, options: &ApplyOptions) -> Result<u8, Failure> {
    let mut wanted = Inventory::read(&options.file)?;
    let current = current::read(client).await?;
    if options.prune
        && let Some(caller) = current::caller(client).await
        && wanted.keep_user(&caller, &current)
    {
        let warning = format!("the user {caller} is your own, and stays though the file does not name it");
        output::warning(&warning);
    }
    let plan = Plan::new(&current, &wanted, options.prune)?;
    if plan.steps.is_empty() {
        output::result("Everything is as the file says.")?;
        return Ok(0);
    }
    output::result(&plan.text())?;
    if options.dry_run {
        return Ok(WOULD_CHANGE);
    }
    if !confirm("Shall this be changed?", options.yes)? {
        return Err(Failure::new(Exit::General, "nothing is changed"));
    }
    carry_out(client, &plan.steps).await
}

/// One step after the other. Where one fails the rest is not tried: it may depend on it.
async fn carry_out(client: &Client, steps: &[Step]) -> Result<u8, Failure> {
    for (done, step) in steps.iter().enumerate() {
        if let Err(error) = progress::step(progress::ANSWER, make(client, step)).await {
            let mut failure = Failure::from(error);
            failure.message = format!("{}: {}", step.sentence, failure.message);
            let outcomes = steps.iter().enumerate().map(|(position, step)| {
                let outcome = match position.cmp(&done) {
                    Ordering::Less => "done",
                    Ordering::Equal => "failed",
                    Ordering::Greater => "not done",
                };
                format!("{outcome}: {}", step.sentence)
            });
            // What the service has said is worth more than that this could not be written.
            if let Err(lost) = output::result(&outcomes.collect::<Vec<_>>().join("\n")) {
                output::failure(&lost);
            }
            let advice =
                format!("{done} of {} changes were made; run it again to make the others", steps.len());
            return Err(match failure.hint.take() {
                Some(hint) => failure.hint(format!("{hint}; {advice}")),
                None => failure.hint(advice),
            });
        }
    }
    output::result(&format!("{} changes made.", steps.len()))?;
    Ok(0)
}

async fn make(client: &Client, step: &Step) -> Result<(), Error> {
    for _ in 0..PAUSES {
        match client.administer(&step.request).await {
            Err(Error::Throttling(_)) => tokio::time::sleep(PAUSE).await,
            made => return made.map(drop),
        }
    }
    client.administer(&step.request).await.map(drop)
}
