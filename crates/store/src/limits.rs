//! Every bound of the store, each with its reason.

use std::time::Duration;

/// Groups a user is in: IAM's own bound (wire.md 7.6).
pub const GROUPS_PER_USER: u32 = 10;

/// Managed policies attached to one user or one group: IAM's own bound (wire.md 7.6).
pub const ATTACHED_POLICIES: u32 = 10;

/// Characters of all inline policies of one user, white space not counted: IAM's own bound (wire.md 7.6).
pub const USER_POLICIES: usize = 2048;

/// Characters of all inline policies of one group, white space not counted: IAM's own bound (wire.md 7.6).
pub const GROUP_POLICIES: usize = 5120;

pub use instance_connect_core::limits::{TAG_KEY, TAG_VALUE, TAGS};

/// Calls waiting for the database's one thread. Requests are answered from memory, so only administration and
/// enrolment wait here; a longer queue would only hide a disk that hangs.
pub(crate) const QUEUE: usize = 64;

/// How long one call waits for another process that is writing, such as an administrator's command next to the server.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// How long a lapsed join token is kept, in seconds: whoever comes late is told that it expired, not that it is unknown.
pub(crate) const LAPSED_TOKEN_KEPT: i64 = 24 * 60 * 60;

/// How long an expired signature is still remembered, in seconds: longer than the clock may go back unnoticed
/// ([`CLOCK_STEP_BACK`](instance_connect_core::limits::CLOCK_STEP_BACK)).
pub(crate) const EXPIRED_SIGNATURE_KEPT: i64 = 60;

/// Revocations that are kept of one account. Each push is held against all of them, in memory; that takes some 10 us.
pub const REVOCATIONS: u32 = 1000;

/// How long a revocation is kept, in seconds: longer than any signature is good, which is a week for a presigned request
/// and [`LONGEST_CLOCK_WINDOW`](instance_connect_core::limits::LONGEST_CLOCK_WINDOW) for another.
pub(crate) const REVOCATION_KEPT: i64 = 8 * 24 * 60 * 60;

/// What was done with the daemon's own commands, read at a time. Each is of somebody who has the machine's root.
pub(crate) const OPERATOR_EVENTS: u32 = 256;

/// Access keys of one user: IAM's own bound, enough to replace one by another.
pub const ACCESS_KEYS_PER_USER: u32 = 2;
