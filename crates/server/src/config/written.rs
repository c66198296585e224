//! What is written for the keys: in the file, and on the command line over it.

use super::key::{Definition, Shape};
use super::keys::ALL;
use std::collections::HashMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How different a key may be from one there is to be suggested, from 0 (nothing in common) to 1 (equal).
const ALIKE: f64 = 0.7;

/// Something wrong with what is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(super) place: Place,
    pub(super) message: String,
}

/// Where something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A line of the file, from 1.
    Line(usize),
    /// The command line.
    Flag,
    /// Nowhere: a default, or something missing.
    Nowhere,
}

/// The texts of a value, and where they are.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) texts: Vec<String>,
    pub(super) place: Place,
}

/// What is written for each key, by its path; none where that has another shape than the key's.
pub(super) type WrittenKeys = HashMap<&'static str, Option<Written>>;

/// What is written in flags.
pub(super) type Flags = Vec<(&'static Definition, String)>;

/// Reads a file. Nothing, when it is no TOML.
pub(super) fn read_file(text: &str, problems: &mut Vec<Problem>) -> Option<WrittenKeys> {
    let mut reader = Reader { text, problems, written: WrittenKeys::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        reader.refuse(&error.span().unwrap_or(0..0), error.message().to_owned());
    }
    if !errors.is_empty() {
        return None;
    }
    reader.table(None, table.get_ref());
    Some(reader.written)
}

/// Puts what is written in flags over what is written in the file.
pub(super) fn read_flags(flags: &Flags, written: &mut WrittenKeys, problems: &mut Vec<Problem>) {
    for (definition, value) in flags {
        let texts = definition.texts(value).map_err(|expected| {
            let message = format!("--{}: expected {expected}, not {value:?}", definition.flag());
            problems.push(Problem { place: Place::Flag, message });
        });
        written.insert(definition.path, texts.ok().map(|texts| Written { texts, place: Place::Flag }));
    }
}

struct Reader<'a> {
    text: &'a str,
    problems: &'a mut Vec<Problem>,
    written: WrittenKeys,
}

impl Reader<'_> {
    fn table(&mut self, section: Option<&str>, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = match section {
                Some(section) => format!("{section}.{}", key.get_ref()),
                None => key.get_ref().to_string(),
            };
            let is_section = section.is_none() && sections().any(|known| known == path);
            match (value.get_ref(), ALL.iter().find(|known| known.path == path)) {
                (DeValue::Table(inner), None) if is_section => self.table(Some(&path), inner),
                (_, None) if is_section => {
                    self.refuse(&value.span(), format!("{path} is a section: write [{path}] above its keys"));
                }
                (_, None) => self.refuse(&key.span(), unknown(&path)),
                (_, Some(definition)) => self.value(definition, value),
            }
        }
    }

    fn value(&mut self, definition: &Definition, value: &Spanned<DeValue<'_>>) {
        let place = self.line(&value.span());
        let texts = texts(definition.shape, value.get_ref());
        if texts.is_none() {
            let written = self.text.get(value.span()).unwrap_or_default();
            let shown: String = written.lines().next().unwrap_or_default().chars().take(60).collect();
            let expected = definition.shape.expected();
            self.refuse(&value.span(), format!("{}: expected {expected}, not {shown}", definition.path));
        }
        self.written.insert(definition.path, texts.map(|texts| Written { texts, place }));
    }

    fn refuse(&mut self, span: &Range<usize>, message: String) {
        let place = self.line(span);
        self.problems.push(Problem { place, message });
    }

    fn line(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Place::Line(before.matches('\n').count() + 1)
    }
}

/// The texts of a value of this shape.
fn texts(shape: Shape, value: &DeValue<'_>) -> Option<Vec<String>> {
    match (shape, value) {
        (Shape::Text | Shape::Path, DeValue::String(text)) => Some(vec![text.to_string()]),
        (Shape::Boolean, DeValue::Boolean(value)) => Some(vec![value.to_string()]),
        (Shape::Number(least, most), DeValue::Integer(number)) => {
            let number = u64::from_str_radix(number.as_str(), number.radix()).ok()?;
            (least..=most).contains(&number).then(|| vec![number.to_string()])
        }
        (Shape::List, DeValue::Array(values)) => values
            .iter()
            .map(|value| match value.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// The sections, each as often as it has keys.
fn sections() -> impl Iterator<Item = &'static str> {
    ALL.iter().filter_map(|definition| definition.section_and_name().0)
}

/// Refuses a key that there is none of, and says which one may be meant: one that is spelt alike, or the same in another
/// section.
fn unknown(path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    let likeness = |known: &str| {
        let same_name = known.rsplit('.').next() == Some(name);
        if same_name { 1.0 } else { strsim::jaro_winkler(known, path) }
    };
    let known = ALL.iter().map(|definition| definition.path).chain(sections());
    let nearest = known.map(|known| (known, likeness(known))).max_by(|(_, a), (_, b)| a.total_cmp(b));
    match nearest {
        Some((nearest, likeness)) if likeness >= ALIKE => {
            format!("there is no key {path:?}; did you mean {nearest:?}?")
        }
        Some(_) | None => format!("there is no key {path:?}"),
    }
}
