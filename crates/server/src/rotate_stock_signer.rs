//! `instance-connectd rotate-stock-signer`: another key to sign documents for the metadata service with, before its time.

use crate::config::{Settings, Source};
use crate::stock::StockSigners;
use crate::system::SystemClock;
use anyhow::ensure;
use instance_connect_core::administration::timestamp;
use instance_connect_core::document::UnixSeconds;
use instance_connect_core::environment::Clock as _;
use instance_connect_store::Store;
use std::io::Write as _;
use std::time::Duration;

/// How long after its end the stock host scripts still take a staple (wire.md 3.7).
const STAPLES_OVERDUE: Duration = Duration::from_secs(300);

const HELP: &str = "\
A control plane that is running follows at once. Machines that serve the metadata service are told of the next signer, and go on
showing the one before for stock.signer_overlap to who has begun to read: no login fails for it. By itself it happens after
stock.signer_rotation, so this is for what cannot wait:

  instance-connectd rotate-stock-signer             a key that may be known to others soon
  instance-connectd rotate-stock-signer --revoke    a key that is known to others
  instance-connectd rotate-stock-signer status      what there is";

/// Arguments of `rotate-stock-signer`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = HELP)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    order: Order,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say which signer signs, since when, and whether the one before is still in force; change nothing
    Status {
        #[command(flatten)]
        configuration: Source,
    },
}

#[derive(Debug, clap::Args)]
struct Order {
    /// Revoke the one that signs now, whose key is known to somebody else: machines hear that it is revoked, and logins with
    /// keys that were pushed in the last minute fail. Where it has taken over just now, the one before it goes, too
    #[arg(long)]
    revoke: bool,
    /// Also while the last rotation is under way: the signer before that is given up at once, and logins with keys that it
    /// alone has signed fail
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    configuration: Source,
}

/// Rotates, or says what there is. A control plane that is running follows at once.
///
/// # Errors
/// A rotation is under way, or the store does not answer.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let configuration = match &arguments.command {
        Some(Command::Status { configuration }) => configuration,
        None => &arguments.order.configuration,
    };
    let settings = configuration.load()?;
    let store = settings.open_store()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let now = SystemClock.wall();
    let said = runtime.block_on(async {
        match arguments.command {
            Some(Command::Status { .. }) => status(store.as_ref(), &settings, now).await,
            None => rotate(store.as_ref(), &settings, &arguments.order, now).await,
        }
    })?;
    Ok(std::io::stdout().write_all(said.as_bytes())?)
}

async fn rotate(
    store: &dyn Store,
    settings: &Settings,
    order: &Order,
    now: UnixSeconds,
) -> anyhow::Result<String> {
    let stock = &settings.stock;
    let before = store.stock_rotation().await?;
    ensure!(
        !before.overlaps(now, stock.overlap) || order.revoke || order.force,
        "a rotation is under way: signer {} is still in force, until {}. Wait for that; --force gives it up now, and logins \
         with keys that it alone has signed fail; --revoke does the same, and revokes signer {}",
        before.current.saturating_sub(1),
        timestamp(after(before.changed_at, stock.overlap)),
        before.current
    );
    let rotation = StockSigners::rotate(store, &settings.region, stock, order.revoke, now).await?;
    let mut said = format!("signer {} signs from now on\n", rotation.current);
    let previous = rotation.current.saturating_sub(1);
    if rotation.is_revoked {
        said += &format!(
            "signer {previous} is revoked; who has kept a staple of it can show that until {} at the latest\n",
            timestamp(after(now, stock.staple_lifetime.saturating_add(STAPLES_OVERDUE)))
        );
    } else if previous > 0 {
        let until = timestamp(after(now, stock.overlap));
        said += &format!("signer {previous} is in force until {until}\n");
    }
    Ok(said)
}

async fn status(store: &dyn Store, settings: &Settings, now: UnixSeconds) -> anyhow::Result<String> {
    let (rotation, stock) = (store.stock_rotation().await?, &settings.stock);
    if rotation.current == 0 {
        return Ok("there is no signer yet: the first start of the control plane makes it\n".to_owned());
    }
    let since = timestamp(rotation.changed_at);
    let next = timestamp(after(rotation.changed_at, stock.rotation));
    let mut said = format!("signer {} signs since {since}, and until {next}\n", rotation.current);
    if rotation.overlaps(now, stock.overlap) {
        let state = if rotation.is_revoked { "told as revoked" } else { "in force" };
        let (before, until) = (rotation.current.saturating_sub(1), after(rotation.changed_at, stock.overlap));
        said += &format!("signer {before} is {state} until {}\n", timestamp(until));
    }
    Ok(said)
}

const fn after(time: UnixSeconds, duration: Duration) -> UnixSeconds {
    UnixSeconds(time.0.saturating_add_unsigned(duration.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use instance_connect_core::inventory::StockRotation;
    use instance_connect_store::{MasterKey, SqliteStore};
    use instance_connect_testkit::SeededRandom;
    use std::sync::Arc;

    const START: UnixSeconds = UnixSeconds(1_900_000_000);

    #[tokio::test]
    async fn an_operator_rotates_and_revokes() {
        let directory = tempfile::tempdir().unwrap();
        let (key, random) = (MasterKey::from_bytes([1; 32]), Arc::new(SeededRandom::new(1)));
        let store = SqliteStore::open(&directory.path().join("data"), &key, random).unwrap();
        let settings = Source::default().parse("[public]\nnames = [\"a\"]\n").unwrap();
        let at = |seconds| UnixSeconds(START.0 + seconds);
        let rotate = async |revoke, force, seconds| {
            let order = Order { revoke, force, configuration: Source::default() };
            rotate(&store, &settings, &order, at(seconds)).await.map_err(|error| error.to_string())
        };
        let status = async |seconds| status(&store, &settings, at(seconds)).await.unwrap();

        assert!(status(0).await.starts_with("there is no signer yet"));
        assert_eq!(store.stock_rotation().await.unwrap(), StockRotation::NONE);
        assert_eq!(rotate(false, false, 0).await.unwrap(), "signer 1 signs from now on\n");
        let said = rotate(false, false, 1).await.unwrap();
        assert_eq!(said, "signer 2 signs from now on\nsigner 1 is in force until 2030-03-17T17:56:41Z\n");
        let refused = rotate(false, false, 600).await.unwrap_err();
        assert!(refused.contains("signer 1 is still in force, until 2030-03-17T17:56:41Z."), "{refused}");
        assert_eq!(
            status(600).await,
            "signer 2 signs since 2030-03-17T17:46:41Z, and until 2030-04-16T17:46:41Z\n\
             signer 1 is in force until 2030-03-17T17:56:41Z\n"
        );
        assert!(!status(601).await.contains("signer 1"));
        assert!(rotate(false, true, 600).await.unwrap().starts_with("signer 3 signs"));
        let said = rotate(true, false, 601).await.unwrap();
        assert_eq!(
            said,
            "signer 4 signs from now on\n\
             signer 3 is revoked; who has kept a staple of it can show that until 2030-03-18T18:01:41Z at the latest\n"
        );
        assert!(status(602).await.contains("signer 3 is told as revoked until"));
        assert_eq!(store.operator_events().await.unwrap().len(), 4);

        // The key that signs from now on is in the backup that is made now.
        let name = "stock-4.us-east-1.amazonaws.com".parse().unwrap();
        assert!(store.authority(&name).await.unwrap().is_some());
    }

    #[test]
    fn arguments_go_with_a_rotation_and_not_with_the_status() {
        #[derive(Debug, clap::Parser)]
        struct Program {
            #[command(flatten)]
            arguments: Arguments,
        }
        let parse = |words: &[&str]| {
            let words = ["rotate-stock-signer"].iter().chain(words);
            <Program as clap::Parser>::try_parse_from(words).map(|program| program.arguments)
        };
        assert!(parse(&[]).unwrap().command.is_none());
        assert!(parse(&["--revoke", "--config", "c"]).unwrap().order.revoke);
        assert!(matches!(parse(&["status", "--config", "c"]).unwrap().command, Some(Command::Status { .. })));
        parse(&["--revoke", "status"]).unwrap_err();
    }
}
