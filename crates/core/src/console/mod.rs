//! The serial console: who may write to a machine's line and for how long, and what the bytes mean that pass between a
//! person and that line.

mod address;
pub mod door;
mod escape_filter;
mod history;
mod in_band;
pub mod limits;
mod recording;
mod sessions;
mod settings;
mod telnet;

pub use address::{ConsoleAddress, ConsoleAddressError};
pub use escape_filter::{Charset, EscapeFilter};
pub use history::{History, Passage};
pub use in_band::{InBand, InBandAction};
pub use recording::{Recorded, Recording, RecordingHeader};
pub use sessions::{
    Attached, ConsolePush, ConsoleSessions, ConsoleSettings, Mode, NotAttached, Occupancy, Occupant,
    ReserveError, Reserved, Selection, SessionId, Withdrawn,
};
pub use settings::{FlowControl, LineSettings, LineSettingsError, Parity};
pub use telnet::{BreakForm, LineParameter, Telnet, TelnetError, TelnetEvent};
