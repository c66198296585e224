//! Answers in XML, as a tree. A document type is refused, and with it entities other than XML's own; depth costs no stack.

use crate::error::Said;
use roxmltree::{Document, Node};

/// An element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a>(Node<'a, 'a>);

impl<'a> Element<'a> {
    /// The outermost element.
    pub(crate) fn root(document: &'a Document<'a>) -> Self {
        Self(document.root_element())
    }

    /// Its name, without a namespace.
    pub(crate) fn name(self) -> &'a str {
        self.0.tag_name().name()
    }

    /// The elements in it.
    pub(crate) fn children(self) -> impl Iterator<Item = Self> {
        self.0.children().filter(Node::is_element).map(Self)
    }

    /// The first element of this name in it.
    pub(crate) fn child(self, name: &str) -> Option<Self> {
        self.children().find(|child| child.name() == name)
    }

    /// The text of the element of this name in it; an empty one is none, as EC2 means it.
    pub(crate) fn text(self, name: &str) -> Option<String> {
        let text = self.child(name)?.0.text()?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The members of the list of this name in it: EC2 names each `item`.
    pub(crate) fn list(self, name: &str) -> impl Iterator<Item = Self> {
        self.child(name).into_iter().flat_map(Self::children).filter(|member| member.name() == "item")
    }
}

/// Reads a document.
pub(crate) fn parse(text: &[u8]) -> Result<Document<'_>, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    Document::parse(text).map_err(|error| error.to_string())
}

/// What an error says, if it is one. EC2 writes
/// `<Response><Errors><Error>…</Error></Errors><RequestID>…`, the query protocol `<ErrorResponse><Error>…</Error><RequestId>…`.
pub(crate) fn error(body: &[u8]) -> Option<Said> {
    let document = parse(body).ok()?;
    let root = Element::root(&document);
    let error = match root.name() {
        "Response" => root.child("Errors")?.child("Error")?,
        "ErrorResponse" => root.child("Error")?,
        _ => return None,
    };
    let request_id = root.text("RequestID").or_else(|| root.text("RequestId"));
    Some(Said { code: error.text("Code"), message: error.text("Message").unwrap_or_default(), request_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in "[<>/a-z&;!?\\[\\]DOCTYPE \"']{0,60}") {
            let _ = parse(body.as_bytes()).map(|document| Element::root(&document).children().count());
            let _ = error(body.as_bytes());
        }
    }

    #[test]
    fn what_is_dangerous_is_refused() {
        for body in [
            r#"<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>"#,
            r#"<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>"#,
            "<x>&unknown;</x>",
            "<x>",
            "",
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{}", &body[..body.len().min(60)]);
        }
        assert!(parse(b"<x>\xff</x>").is_err());
        let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        assert!(error(deep.as_bytes()).is_none());
    }
}
