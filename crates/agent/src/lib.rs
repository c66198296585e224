//! The agent: it keeps one outbound link to the control plane and puts the keys that come over it where the sshd
//! command finds them. `docs/link.md` specifies the link; what a message means and whether a grant is good is decided
//! in `core::link`. Here are the sockets and the files.
//!
//! Nothing here stands between a delivered key and a login: files stay when the agent stops, dies or hangs, and the
//! sshd command checks everything again.

mod accounts;
mod anchors;
mod clock;
mod connect;
mod descriptors;
mod doctor;
mod enroll;
mod files;
mod first_contact;
mod host;
mod host_facts;
mod host_keys;
mod host_reports;
mod identity;
mod install;
mod lines;
mod link;
mod live_keys;
mod metadata;
mod os_users;
mod renewal;
mod root;
mod run;
mod server_url;
mod sshd;
mod state;
mod status;

pub use anchors::{UpdateFailure, update_anchors};
pub use clock::{MachineClock, SystemClock};
pub use doctor::{Diagnosis, doctor};
pub use enroll::{EnrollFailure, Enrolled, Enrollment, enroll};
pub use host::read_boot_id;
pub use install::{Install, InstallFailure, Uninstall, install, uninstall};
pub use instance_connect_notify::NotifySocket;
pub use lines::{LineCommand, LineTerms};
pub use metadata::{AddressFailure, PassedSockets, add_metadata_address, remove_metadata_address};
pub use os_users::OsUserSettings;
pub use run::{RunFailure, RunSettings, SSH_DIRECTORY, run};
pub use server_url::{ServerUrl, ServerUrlError};
pub use state::StateError;
pub use status::Status;

use std::path::PathBuf;

/// Where the agent's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// What the machine is and whom it trusts: root's, the agent only reads it.
    pub etc: PathBuf,
    /// The agent's identity.
    pub state: PathBuf,
    /// Live keys and the socket of the sshd command.
    pub run: PathBuf,
}

impl Default for Directories {
    fn default() -> Self {
        Self {
            etc: "/etc/instance-connect".into(),
            state: "/var/lib/instance-connect-agent".into(),
            run: "/run/instance-connect".into(),
        }
    }
}

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
