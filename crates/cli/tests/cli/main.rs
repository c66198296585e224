//! The program itself: started as people start it, against a server on loopback that checks every signature.
//!
//! A real login is not here but in the end-to-end tests. What ssh is told is seen by a script named `ssh`, which is the
//! only way to look at a command line from outside; what it is told to use, the agent, is spoken to by OpenSSH's own
//! `ssh-add` and `ssh-keygen`.

// `cfg(test)` is always on here; it tells clippy that helpers may panic, as tests may.
#[cfg(test)]
mod administration;
#[cfg(test)]
mod console;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod instances;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod run;
#[cfg(test)]
mod send_key;
#[cfg(test)]
mod server;
#[cfg(test)]
mod ssh;
#[cfg(test)]
mod ssh_config;
#[cfg(test)]
mod whoami;
