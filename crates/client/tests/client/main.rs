//! The client against real servers on loopback.

// `cfg(test)` is always on here; it tells clippy that helpers may panic, as tests may.
#[cfg(test)]
mod calls;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod server;
