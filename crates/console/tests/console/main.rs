//! The program itself and the ssh of OpenSSH, against a control plane's end of the socket.
//!
//! That end is played here, line by line, so that it can also be late, wrong or gone. The real one, with real agents and lines, is in the
//! end-to-end tests.

// `cfg(test)` is always on here; it tells clippy that helpers may panic, as tests may.
#[cfg(test)]
mod authentication;
#[cfg(test)]
mod control_plane;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod odd_answers;
#[cfg(test)]
mod program;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod ssh;
