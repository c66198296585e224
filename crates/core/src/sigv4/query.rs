//! The query of a request target.

use super::canonical::push_encoded;
use super::head::MalformedHead;
use crate::percent;
use instance_connect_planted::parser_entered;
use std::collections::BTreeSet;

/// A query, decoded: names and values in the order of arrival, with their percent escapes resolved. A name that begins
/// with `X-Amz-`, in whatever case and however escaped, stands in it once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of a request target behind its question mark.
    ///
    /// # Errors
    /// A percent escape that is none, or that decodes to something else than UTF-8; a parameter of a signature that
    /// stands twice.
    pub fn read(raw: &str) -> Result<Self, MalformedHead> {
        parser_entered(raw.as_bytes());
        // Not each name compared with each: there may be thousands, and nobody is authenticated yet.
        let (mut pairs, mut of_signatures) = (Vec::new(), BTreeSet::new());
        for piece in raw.split('&').filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let decode = |text| percent::decode(text).ok_or(MalformedHead::Query);
            let (name, value) = (decode(name)?, decode(value)?);
            let lower_case = name.to_ascii_lowercase();
            if lower_case.starts_with("x-amz-") && !of_signatures.insert(lower_case) {
                return Err(MalformedHead::RepeatedParameter(name));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The value of the first parameter with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Names and values in the order of arrival.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The canonical query: each name and value encoded and the pairs sorted, without the parameter `left_out`.
    pub fn canonical(&self, left_out: Option<&str>) -> String {
        let signed = self.0.iter().filter(|(name, _)| Some(name.as_str()) != left_out);
        let mut pairs: Vec<(String, String)> =
            signed.map(|(name, value)| (encoded(name), encoded(value))).collect();
        pairs.sort();
        let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    push_encoded(&mut encoded, text.as_bytes());
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn queries_and_their_canonical_form() {
        for (raw, canonical) in [
            ("", ""),
            ("&&", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1&A=3", "A=3&a=1&a=2"),
            ("a", "a="),
            ("a=b=c", "a=b%3Dc"),
            ("a=%2f%2F/", "a=%2F%2F%2F"),
            ("a=b+c%20d", "a=b%2Bc%20d"),
            ("%61=~-._", "a=~-._"),
            ("ü=%C3%BC", "%C3%BC=%C3%BC"),
            ("X-Amz-Signature=1&X-Amz-Date=2", "X-Amz-Date=2"),
        ] {
            assert_eq!(Query::read(raw).unwrap().canonical(Some("X-Amz-Signature")), canonical, "{raw}");
        }
        let query = Query::read("a=1&a=2&X-Amz-Signature=3").unwrap();
        assert_eq!((query.get("a"), query.get("X-Amz-Signature")), (Some("1"), Some("3")));
        assert_eq!(query.get("x-amz-signature"), None);
        assert_eq!(query.canonical(None), "X-Amz-Signature=3&a=1&a=2");
    }

    #[test]
    fn queries_that_are_none() {
        for raw in ["%", "a=%", "a=%2", "%zz=1", "a=%+1", "a=%ff", "a=%C3"] {
            assert_eq!(Query::read(raw), Err(MalformedHead::Query), "{raw}");
        }
        for raw in ["X-Amz-Date=1&X-Amz-Date=1", "X-Amz-Date=1&a=1&x-amz-date=2", "X-Amz-Any&X%2DAmz-%41ny"] {
            assert!(matches!(Query::read(raw), Err(MalformedHead::RepeatedParameter(_))), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn query_parser_never_panics(raw: String) {
            let _ = Query::read(&raw);
        }

        #[test]
        fn a_canonical_query_is_its_own(raw in "[aXx%&=+0-9A-F-]{0,40}") {
            if let Ok(query) = Query::read(&raw) {
                let canonical = query.canonical(None);
                prop_assert_eq!(Query::read(&canonical).unwrap().canonical(None), canonical);
            }
        }
    }
}
