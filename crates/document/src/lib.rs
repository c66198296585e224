//! What crosses from the control plane to a machine's login: grant documents, their deadlines, and the ids in them.
//!
//! This is its own crate because it is what runs before login, on every machine, in front of root. It may depend on
//! nothing but one signature library and the planted bugs, of which a release has none, and it reads neither clock nor
//! file: instants and bytes are arguments.
//!
//! The way of a grant: the control plane signs [`DocumentTerms`] with a [`SigningKey`] that a [`SignerStatement`]
//! vouches for; the agent brings the deadline over with [`transfer`] and writes the file that [`merge`] makes, where
//! [`live_file`] says; the sshd command reads it as a [`Handover`], asks [`verify`] about each [`Section`] and
//! [`HostVeto`] about the user, and reports an [`Offer`]. What
//! becomes of the login, sshd's PAM stack reports as a [`SessionEvent`].

mod anchor_set;
mod base64;
mod datagram;
mod deadline;
pub mod decimal;
mod document;
mod handover;
mod ids;
mod key_line;
mod offer;
mod session;
mod signing;
mod statement;
mod stock;
mod time;
mod veto;

pub use anchor_set::{ANCHOR_SET_LIMIT, AnchorSet, AnchorSetError, AnchorSetRefusal};
pub use base64::{decode as base64_decode, encode as base64_encode};
pub use deadline::{ClockSample, DeadlineRefusal, LONGEST_LIFETIME, OLDEST_SAMPLE, transfer};
pub use document::{
    Accepted, ClaimedGrant, DOCUMENT_LIMIT, DocumentTerms, EncodeError, Expected, MachineTime, Refusal,
    verify, verify_by,
};
pub use handover::{
    HANDOVER_LIMIT, Handover, HandoverError, SECTIONS_PER_FILE, Section, live_directory, live_file, merge,
    shorten, withdraw,
};
pub use ids::{BOOT_ID_FILE, BootId, Fingerprint, IdError, InstanceId, OsUser, Region, RequestId};
pub use key_line::{KeyLine, KeyLineError};
pub use offer::{OFFER_LIMIT, OFFERS_SOCKET, Offer, OfferError};
pub use session::{
    RemoteHost, SESSION_LIMIT, SESSIONS_SOCKET, SessionChange, SessionError, SessionEvent, SessionId,
};
pub use signing::{KeyError, SigningKey, VerifyingKey};
pub use statement::{ANCHORS_LIMIT, Anchors, AnchorsError, SignerStatement, StatementError, VouchedSigner};
pub use stock::{STOCK_ENTRY_LIMIT, stock_entry, stock_text};
pub use time::{BootInstant, ServerInstant, UnixDay, UnixSeconds};
pub use veto::{HostVeto, HostVetoError, Veto};
