//! `instance-connectd rotate-anchor`: another anchor in the place of the one that machines trust, and another key to sign
//! documents with.

use crate::config::Source;
use crate::pki::Pki;
use crate::system::{SystemClock, SystemRandom};
use anyhow::bail;
use instance_connect_core::environment::Clock as _;
use instance_connect_core::ids::InstanceId;
use instance_connect_core::inventory::{AgentState, AnchorChange, AnchorRotation, InstanceState, Inventory};
use instance_connect_store::Store;
use std::io::Write;

/// Arguments of `rotate-anchor`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, clap::Subcommand)]
enum Step {
    /// Make the next anchor, and have machines trust it beside the one they have
    Begin {
        #[command(flatten)]
        configuration: Source,
    },
    /// Sign with another key, for which the next anchor alone vouches, and have machines forget the anchor before
    Finish {
        #[command(flatten)]
        configuration: Source,
        /// Also while there are machines that do not trust the next one yet: they refuse every key from then on
        #[arg(long)]
        force: bool,
    },
    /// Say whether a roll-over is under way, and which machines have still to follow
    Status {
        #[command(flatten)]
        configuration: Source,
    },
}

/// Takes a step. A control plane that is running follows at once.
///
/// # Errors
/// It is not the turn of this step, machines have still to follow, or the store does not answer.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (Step::Begin { configuration } | Step::Finish { configuration, .. } | Step::Status { configuration }) =
        &arguments.step;
    let settings = configuration.load()?;
    let store = settings.open_store()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let now = SystemClock.wall();
        let said = step(store.as_ref(), &arguments.step, now).await?;
        // The keys there are to be from now on exist when it is said, and are in every backup that is made then. Of this and
        // a control plane that follows, whoever is first makes them.
        Pki::load(store.as_ref(), &SystemRandom, &settings.region, now).await?;
        Ok(std::io::stdout().write_all(said.as_bytes())?)
    })
}

async fn step(
    store: &dyn Store,
    step: &Step,
    now: instance_connect_core::document::UnixSeconds,
) -> anyhow::Result<String> {
    let inventory = store.inventory().await?.inventory;
    let rotation = store.anchor_rotation().await?;
    let behind = behind(&inventory, rotation);
    Ok(match step {
        Step::Begin { .. } => {
            let begun = store.change_anchors(AnchorChange::Begin, now).await?;
            format!(
                "machines are told to trust the next anchor, too (set {}); when rotate-anchor status names none any more: \
                 rotate-anchor finish\n",
                begun.set()
            )
        }
        Step::Finish { force, .. } if rotation.is_rolling_over && !behind.is_empty() && !force => bail!(
            "machines in use that have not said that they trust the next anchor, and would refuse every key: {}; \
             see that they have a link and run instance-connect-agent update-anchors (where the log says that their anchors are not \
             ours, enrol them anew), or give them up with --force",
            named(&behind)
        ),
        Step::Finish { .. } => {
            let finished = store.change_anchors(AnchorChange::Finish, now).await?;
            format!(
                "documents are signed with another key from now on, for which anchor {} alone vouches (set {}); the anchor and \
                 the signer before are of use to nobody once rotate-anchor status names no machine any more\n",
                finished.current,
                finished.set()
            )
        }
        Step::Status { .. } => {
            let state = if rotation.is_rolling_over {
                "a roll-over is under way"
            } else {
                "no roll-over is under way"
            };
            let (current, set) = (rotation.current, rotation.set());
            format!("anchor {current}, set {set}; {state}\nmachines without this set: {}\n", named(&behind))
        }
    })
}

/// The machines in use that have not said that they trust the current set.
fn behind(inventory: &Inventory, rotation: AnchorRotation) -> Vec<&InstanceId> {
    let agents = inventory.agents.values().filter(|agent| {
        let instance = inventory.instances.get(&agent.instance);
        let is_gone = instance.is_none_or(|instance| instance.state == InstanceState::Terminated);
        !is_gone && agent.state != AgentState::Revoked && agent.anchor_set < rotation.set()
    });
    let mut behind: Vec<&InstanceId> = agents.map(|agent| &agent.instance).collect();
    behind.sort_by_key(|instance| instance.as_str());
    behind
}

/// How many and, where they are few, which.
fn named(instances: &[&InstanceId]) -> String {
    const NAMED: usize = 20;
    let names: Vec<&str> = instances.iter().take(NAMED).map(|instance| instance.as_str()).collect();
    let more = if instances.len() > NAMED { ", …" } else { "" };
    format!("{}{}{}{more}", instances.len(), if names.is_empty() { "" } else { ": " }, names.join(", "))
}
