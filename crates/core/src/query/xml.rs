//! XML as it is written: elements with text or elements in them.

use std::fmt::Write as _;

/// A document that is being written.
#[derive(Debug)]
pub(crate) struct Xml(String);

impl Xml {
    /// A document: its root element, with a namespace where it has one, and what is in it.
    pub(crate) fn document(root: &str, namespace: Option<&str>, inside: impl FnOnce(&mut Self)) -> String {
        let mut xml = Self(String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"));
        xml.0.push('<');
        xml.0.push_str(root);
        if let Some(namespace) = namespace {
            let _ = write!(xml.0, " xmlns=\"{namespace}\"");
        }
        xml.0.push('>');
        inside(&mut xml);
        xml.close(root);
        xml.0
    }

    /// An element with elements in it.
    pub(crate) fn element(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        let _ = write!(self.0, "<{name}>");
        inside(self);
        self.close(name);
    }

    /// An element without anything in it.
    pub(crate) fn empty(&mut self, name: &str) {
        let _ = write!(self.0, "<{name}/>");
    }

    /// An element with a text in it.
    pub(crate) fn text(&mut self, name: &str, text: &str) {
        let _ = write!(self.0, "<{name}>");
        text.chars().for_each(|symbol| self.push(symbol));
        self.close(name);
    }

    /// An element with a text in it, if there is one.
    pub(crate) fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// How long a text is in an element, in bytes.
    pub(crate) fn length(text: &str) -> usize {
        let mut xml = Self(String::new());
        text.chars().for_each(|symbol| xml.push(symbol));
        xml.0.len()
    }

    fn close(&mut self, name: &str) {
        let _ = write!(self.0, "</{name}>");
    }

    /// What XML 1.0 cannot have is replaced; what a parser would take for another character is written by its number.
    fn push(&mut self, symbol: char) {
        match symbol {
            '&' => self.0.push_str("&amp;"),
            '<' => self.0.push_str("&lt;"),
            '>' => self.0.push_str("&gt;"),
            '"' => self.0.push_str("&quot;"),
            '\'' => self.0.push_str("&apos;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(self.0, "&#{};", u32::from(symbol));
            }
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => self.0.push(char::REPLACEMENT_CHARACTER),
            _ => self.0.push(symbol),
        }
    }
}
