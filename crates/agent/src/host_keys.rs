//! The machine's SSH host keys, which the control plane tells its clients.

use crate::files;
use instance_connect_core::host_key::HostKey;
use instance_connect_core::link::limits;
use std::fs;
use std::path::Path;

/// Largest file of a public key that is looked at: its line, and a comment.
const LARGEST_FILE: u64 = 4 * 1024;

/// The public keys in sshd's directory (`ssh_host_*_key.pub`), without their comments, in the order of their names. What is
/// no host key, or cannot be read, is left out.
pub(crate) fn read(directory: &Path) -> Vec<HostKey> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("ssh_host_") && name.ends_with("_key.pub")).collect();
    names.sort();
    let keys = names.iter().filter_map(|name| {
        let bytes = files::read(&directory.join(name), LARGEST_FILE).ok()??;
        String::from_utf8(bytes).ok()?.parse().ok()
    });
    keys.take(limits::HOST_KEYS).collect()
}
