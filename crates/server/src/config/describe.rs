//! What the keys are, told to people and programs: help, the example file, the JSON schema.

use super::key::{Definition, Shape};
use super::keys::ALL;
use super::written::Flags;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

impl Definition {
    /// What it has when nothing is written.
    pub(super) fn default_texts(&self) -> Vec<String> {
        let written = self.default.unwrap_or_default();
        // Lists and quotation marks of TOML as they are in JSON; a test reads them as TOML.
        match serde_json::from_str(written) {
            Ok(Value::String(text)) => vec![text],
            Ok(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Ok(_) | Err(_) => vec![written.to_owned()],
        }
    }
}

/// The help of its flag.
pub(super) fn help(definition: &Definition) -> String {
    match definition.default {
        Some(_) => format!("{} [default: {}]", definition.about, definition.default_texts().join(",")),
        None => definition.about.to_owned(),
    }
}

/// A configuration file with everything in it, commented out but what is written in `flags`.
pub(super) fn example(flags: &Flags) -> String {
    let mut text = "# The configuration of instance-connectd. Lines that are commented out show the defaults, or for a key that\n\
                    # has none, an example. `instance-connectd config check` says what is wrong with it.\n"
        .to_owned();
    let mut section = None;
    for definition in ALL {
        let (in_section, name) = definition.section_and_name();
        if in_section != section {
            section = in_section;
            let _ = write!(text, "\n[{}]\n", in_section.unwrap_or_default());
        }
        let value = flags.iter().find(|(flag, _)| flag.path == definition.path);
        let about = definition.about;
        let _ = match value {
            Some((_, value)) => write!(text, "\n# {about}\n{name} = {}\n", as_toml(definition, value)),
            None => {
                let shown = definition.default.or(definition.example).unwrap_or_default();
                write!(text, "\n# {about}\n#{name} = {shown}\n")
            }
        };
    }
    text
}

/// A value of a command line, as it is written in the file. JSON's texts and lists are also TOML's.
fn as_toml(definition: &Definition, value: &str) -> String {
    match definition.shape {
        Shape::Text => json!(value).to_string(),
        // In the file it would be relative to the file's directory.
        Shape::Path => json!(std::path::absolute(value).unwrap_or_else(|_| value.into())).to_string(),
        Shape::Number(..) | Shape::Boolean => value.to_owned(),
        Shape::List => json!(definition.texts(value).unwrap_or_default()).to_string(),
    }
}

/// The JSON schema of the file.
pub(super) fn schema() -> Value {
    let (mut top, mut sections) = (Map::new(), Map::<String, Value>::new());
    for definition in ALL {
        let (section, name) = definition.section_and_name();
        let properties = match section {
            Some(section) => {
                let schema = sections.entry(section).or_insert_with(
                    || json!({ "type": "object", "additionalProperties": false, "properties": {} }),
                );
                schema.get_mut("properties").and_then(Value::as_object_mut)
            }
            None => Some(&mut top),
        };
        if let Some(properties) = properties {
            properties.insert(name.to_owned(), schema_of(definition));
        }
    }
    top.append(&mut sections);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "instance-connectd.toml",
        "description": "The configuration of instance-connectd",
        "type": "object",
        "additionalProperties": false,
        "properties": top,
    })
}

fn schema_of(definition: &Definition) -> Value {
    let mut schema = match definition.shape {
        Shape::Text | Shape::Path => json!({ "type": "string" }),
        Shape::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::List => json!({ "type": "array", "items": { "type": "string" } }),
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), definition.about.into());
        if let Some(default) = definition.default.and_then(|written| serde_json::from_str(written).ok()) {
            schema.insert("default".to_owned(), default);
        }
    }
    schema
}
