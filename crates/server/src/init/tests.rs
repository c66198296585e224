//! What a first run leaves, and what later ones do about it.

use super::*;
use clap::Parser as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use tempfile::TempDir;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// Where it is initialised.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn configuration(&self) -> PathBuf {
        self.path("etc/instance-connectd.toml")
    }

    fn arguments(&self, more: &[&str]) -> Arguments {
        let config = format!("--config={}", self.configuration().display());
        let mut line = vec!["init".to_owned(), config];
        line.extend(more.iter().map(|word| (*word).to_owned()));
        Line::parse_from(line).arguments
    }

    fn first(&self) -> Arguments {
        let data_dir = format!("--data-dir={}", self.path("data").display());
        self.arguments(&["--public-names=a.example", &data_dir])
    }

    fn settings(&self) -> Settings {
        Source::of_file(Some(self.configuration())).load().unwrap()
    }

    fn inventory(&self) -> Inventory {
        let store = self.settings().open_store().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.inventory()).unwrap().inventory
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }
}

/// Gives what it says.
fn run(arguments: &Arguments) -> anyhow::Result<String> {
    let mut said = Vec::new();
    run_for(None, arguments, &mut said).map(|()| String::from_utf8(said).unwrap())
}

#[test]
fn a_first_run_leaves_all_that_serving_needs() {
    let place = Place::new();
    let said = run(&place.first()).unwrap();
    assert_eq!(place.mode("etc/instance-connectd.toml"), 0o640);
    assert_eq!(place.mode("etc/master.key"), 0o600);
    assert_eq!(place.mode("etc/ca.pem"), 0o644);
    assert_eq!(place.mode("data"), 0o700);
    let inventory = place.inventory();
    assert_eq!((inventory.accounts.len(), inventory.users.len(), inventory.access_keys.len()), (1, 1, 1));
    let user = inventory.users.values().next().unwrap();
    assert_eq!((user.name.as_str(), user.policies.len()), ("admin", 1));
    let key = inventory.access_keys.values().next().unwrap();
    assert_eq!((&key.user, key.status), (&user.id, Status::Active));
    let secret = std::str::from_utf8(key.secret.expose()).unwrap();
    assert!(
        said.contains(&format!("AWS_ACCESS_KEY_ID='{}'", key.id)) && said.contains(&format!("='{secret}'"))
    );
    // In clear the secret is in none of the files.
    for file in [place.path("etc"), place.path("data")].iter().flat_map(|path| fs::read_dir(path).unwrap()) {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(key.secret.expose().len()).any(|part| part == key.secret.expose()));
    }
    let leftovers = fs::read_dir(place.path("etc")).unwrap().count();
    assert_eq!(leftovers, 3);
}

#[test]
fn a_second_run_changes_nothing() {
    let place = Place::new();
    run(&place.first()).unwrap();
    let (key, sequence) = (fs::read(place.path("etc/master.key")).unwrap(), place.inventory().sequence);
    let error = run(&place.arguments(&[])).unwrap_err().to_string();
    assert!(error.contains("is initialised already (account "), "{error}");
    let error = run(&place.first()).unwrap_err().to_string();
    assert!(error.contains("is there already: change settings in it"), "{error}");
    assert_eq!(
        (fs::read(place.path("etc/master.key")).unwrap(), place.inventory().sequence),
        (key, sequence)
    );
}

#[test]
fn what_was_left_half_done_is_finished() {
    // However far the first run has come.
    for steps in 0..5 {
        let place = Place::new();
        let first = place.first();
        let settings = configuration(&first.configuration, None).unwrap();
        if steps > 0 {
            master_key(&settings).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            if steps < 2 {
                return;
            }
            let store = settings.open_store().unwrap();
            let nothing = Inventory::default();
            if steps > 2 {
                let id = management_account(store.as_ref(), &nothing, None).await.unwrap();
                if steps > 3 {
                    administrator(store.as_ref(), &nothing, &id, &"admin".parse().unwrap()).await.unwrap();
                }
            }
        });
        let key = fs::read(place.path("etc/master.key")).ok();
        run(&place.arguments(&[])).unwrap();
        let inventory = place.inventory();
        assert_eq!((inventory.accounts.len(), inventory.users.len(), inventory.access_keys.len()), (1, 1, 1));
        assert!(key.is_none_or(|key| key == fs::read(place.path("etc/master.key")).unwrap()), "{steps}");
    }
}

#[test]
fn a_lost_master_key_is_not_replaced() {
    let place = Place::new();
    run(&place.first()).unwrap();
    fs::remove_file(place.path("etc/master.key")).unwrap();
    let error = run(&place.arguments(&[])).unwrap_err().to_string();
    assert!(error.contains("put that back from where it is kept"), "{error}");
    assert!(!place.path("etc/master.key").exists());
}

#[test]
fn a_wrong_configuration_is_not_written() {
    let place = Place::new();
    let error = run(&place.arguments(&["--public-listen=here"])).unwrap_err().to_string();
    assert!(error.contains("--public-listen: "), "{error}");
    assert!(!place.path("etc").exists());
}

/// A key that nobody was told of would be lost, and nobody could sign with another.
#[test]
fn an_access_key_that_cannot_be_shown_is_not_made() {
    let place = Place::new();
    let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = run_for(None, &place.first(), &mut full).unwrap_err().to_string();
    assert!(error.contains("run init again"), "{error}");
    assert!(place.inventory().access_keys.is_empty());
    run(&place.arguments(&[])).unwrap();
}

#[test]
fn the_account_can_be_chosen_once() {
    let place = Place::new();
    let settings = configuration(&place.first().configuration, None).unwrap();
    master_key(&settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let id = "123456789012".parse().unwrap();
    let made = runtime.block_on(management_account(
        settings.open_store().unwrap().as_ref(),
        &Inventory::default(),
        Some(&id),
    ));
    assert_eq!(made.unwrap(), id);
    let error = run(&place.arguments(&["--account-id=210987654321"])).unwrap_err().to_string();
    assert!(error.contains("an earlier run has made account 123456789012"), "{error}");
    run(&place.arguments(&["--account-id=123456789012"])).unwrap();
}
