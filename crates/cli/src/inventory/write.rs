//! An inventory as the text of its file: the same inventory is the same text.

use super::file::{Documents, Inventory, User};
use super::plan::members;
use instance_connect_core::inventory::{InstanceDetails, Status};
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

/// The file.
pub(super) fn toml(inventory: &Inventory) -> String {
    let mut file = Writer::default();
    let Inventory { account, region, settings, policies, groups, users, instances } = inventory;
    file.comment("The inventory, as `instance-connect export` wrote it, for `instance-connect apply -f`.");
    file.comment("What stands here becomes so; what does not stays, or with --prune goes.");
    file.optional("account", account.as_ref());
    file.optional("region", region.as_ref());
    if let Some(on) = settings.serial_console_access {
        file.table(&["settings"]);
        file.line("serial_console_access", &on.to_string());
    }
    file.documents(&["policies"], policies);
    for (name, group) in groups {
        file.table(&["groups", name.as_str()]);
        file.list("attached", group.attached.iter());
        file.documents(&["groups", name.as_str(), "inline"], &group.inline);
    }
    for (name, User { status, tags, groups, attached, boundary, inline }) in users {
        file.table(&["users", name.as_str()]);
        if *status == Status::Suspended {
            file.text("status", "suspended");
        }
        file.tags(tags);
        file.list("groups", groups.iter());
        file.list("attached", attached.iter());
        file.optional("boundary", boundary.as_ref());
        file.documents(&["users", name.as_str(), "inline"], inline);
    }
    for (id, instance) in instances {
        file.table(&["instances", id.as_str()]);
        file.text("availability_zone", instance.availability_zone.as_str());
        file.text("state", instance.state.as_str());
        file.optional("host", instance.host.as_ref());
        file.tags(&instance.tags);
        file.details(&instance.details);
    }
    file.0
}

#[derive(Default)]
struct Writer(String);

impl Writer {
    fn comment(&mut self, text: &str) {
        let _ = writeln!(self.0, "# {text}");
    }

    fn table(&mut self, path: &[&str]) {
        let path: Vec<String> = path.iter().map(|name| key(name)).collect();
        let _ = writeln!(self.0, "\n[{}]", path.join("."));
    }

    fn line(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.0, "{} = {value}", key(name));
    }

    fn text(&mut self, name: &str, value: &str) {
        self.line(name, &quoted(value));
    }

    fn optional(&mut self, name: &str, value: Option<&impl Display>) {
        if let Some(value) = value {
            self.text(name, &value.to_string());
        }
    }

    fn list(&mut self, name: &str, values: impl Iterator<Item: Display>) {
        let values: Vec<String> = values.map(|value| quoted(&value.to_string())).collect();
        if !values.is_empty() {
            self.line(name, &format!("[{}]", values.join(", ")));
        }
    }

    fn tags(&mut self, tags: &BTreeMap<String, String>) {
        let tags: Vec<String> =
            tags.iter().map(|(name, value)| format!("{} = {}", key(name), quoted(value))).collect();
        if !tags.is_empty() {
            self.line("tags", &format!("{{ {} }}", tags.join(", ")));
        }
    }

    fn details(&mut self, details: &InstanceDetails) {
        let shown: Vec<String> =
            members(details).map(|(name, _, value)| format!("{name} = {}", quoted(&value))).collect();
        if !shown.is_empty() {
            self.line("details", &format!("{{ {} }}", shown.join(", ")));
        }
    }

    fn documents(&mut self, path: &[&str], documents: &Documents) {
        if documents.is_empty() {
            return;
        }
        self.table(path);
        for (name, document) in documents {
            self.line(name.as_str(), &literal(document));
        }
    }
}

/// A key without quotation marks, where it can be.
fn key(name: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// A text as TOML's basic strings have it, which is as JSON's, but for the DEL.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for symbol in text.chars() {
        match symbol {
            '"' | '\\' => quoted.extend(['\\', symbol]),
            symbol if symbol.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(symbol));
            }
            symbol => quoted.push(symbol),
        }
    }
    quoted.push('"');
    quoted
}

/// A document between `'''`, where nothing is escaped, if it can stand there.
fn literal(document: &str) -> String {
    let is_plain = |symbol: char| !symbol.is_control() || matches!(symbol, '\n' | '\t');
    if document.contains("''") || document.ends_with('\'') || !document.chars().all(is_plain) {
        return quoted(document);
    }
    format!("'''\n{document}\n'''")
}
