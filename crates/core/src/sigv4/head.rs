//! The head of a request, read in the one way that every proxy before us and every rule behind us reads it.

use super::query::Query;
use instance_connect_planted::planted;

/// A request head that can be understood in one way only: an origin-form target, one `Host`, `Authorization` and each
/// `X-Amz-*` at most once, a length that is not in doubt.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    method: &'a str,
    path: &'a str,
    query: Query,
    headers: Vec<(&'a str, &'a str)>,
}

/// Why a request head is refused before anything else is looked at: others may have understood it differently, and with
/// it where this request ends and the next one begins. The connection ends with the answer (wire.md 1.12).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedHead {
    /// Absolute or authority form, which say a second time whom the request is for, or `*`, which says nothing.
    #[error("The request target must be a path.")]
    Target,
    /// A percent escape that is none, or text that is not UTF-8.
    #[error("The query string contains a syntax error.")]
    Query,
    /// A header that is not UTF-8.
    #[error("A header is not text.")]
    NotText,
    /// No `Host`.
    #[error("The request must have a 'host' header.")]
    NoHost,
    /// A header that must stand once, and which one it is.
    #[error("The request must not have more than one '{0}' header.")]
    RepeatedHeader(String),
    /// A query parameter that must stand once, and which one it is.
    #[error("The query string must not have more than one '{0}' parameter.")]
    RepeatedParameter(String),
    /// A `Transfer-Encoding`, with or without a `Content-Length` that contradicts it.
    #[error(
        "The 'transfer-encoding' header is not supported. Send the body as it is, with its length in 'content-length'."
    )]
    TransferEncoding,
}

impl<'a> RequestHead<'a> {
    /// Reads a head: the request target as received, and the headers with lower-case names in the order of arrival.
    ///
    /// # Errors
    /// The first way in which it is ambiguous.
    pub fn read(
        method: &'a str,
        target: &'a str,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, MalformedHead> {
        if !target.starts_with('/') {
            return Err(MalformedHead::Target);
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = Query::read(query)?;
        let mut known: Vec<(&str, &str)> = Vec::new();
        for (name, value) in headers {
            let value = std::str::from_utf8(value).map_err(|_| MalformedHead::NotText)?;
            if name == "transfer-encoding" {
                return Err(MalformedHead::TransferEncoding);
            }
            let is_repeated = stands_once(name) && known.iter().any(|(earlier, _)| *earlier == name);
            if is_repeated && !planted("repeated-headers-pass") {
                return Err(MalformedHead::RepeatedHeader(name.to_owned()));
            }
            known.push((name, value));
        }
        let head = Self { method, path, query, headers: known };
        if head.has("host") { Ok(head) } else { Err(MalformedHead::NoHost) }
    }

    /// The method.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The path of the request target.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The query of the request target.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// The headers, with lower-case names, in the order of arrival.
    pub fn headers(&self) -> &[(&'a str, &'a str)] {
        &self.headers
    }

    /// The value of a header that stands exactly once.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut values = self.headers.iter().filter(|(known, _)| *known == name).map(|(_, value)| *value);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| *known == name)
    }
}

/// Whether somebody may go by the first header of this name, and somebody else by the last.
fn stands_once(name: &str) -> bool {
    matches!(name, "host" | "authorization") || name.starts_with("x-amz-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(target: &str, headers: &[(&str, &str)]) -> Result<(), MalformedHead> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        RequestHead::read("POST", target, headers).map(|_| ())
    }

    #[test]
    fn heads_that_are_plain() {
        let host = ("host", "a");
        for (target, headers) in [
            ("/", vec![host]),
            ("/?", vec![host]),
            (
                "/a/%zz?b=c%20d&b=c",
                vec![host, ("x-amz-date", "1"), ("x-amz-target", "2"), ("authorization", "3")],
            ),
            // Not ours to judge: who does not sign them does not care, and who reads them asks for exactly one.
            (
                "/",
                vec![
                    ("accept", "a"),
                    ("accept", "b"),
                    host,
                    ("x-amzn-trace-id", "1"),
                    ("x-amzn-trace-id", "2"),
                ],
            ),
        ] {
            assert_eq!(read(target, &headers), Ok(()), "{target} {headers:?}");
        }
    }

    #[test]
    fn heads_that_could_mean_two_things() {
        use MalformedHead::*;
        let host = ("host", "a");
        let repeated = |name: &str| RepeatedHeader(name.to_owned());
        for (target, headers, error) in [
            ("http://a/", vec![host], Target),
            ("a:80", vec![host], Target),
            ("*", vec![host], Target),
            ("", vec![host], Target),
            ("?a=b", vec![host], Target),
            ("/?a=%", vec![host], Query),
            ("/?X-Amz-Date=1&X-Amz-Dat%65=1", vec![host], RepeatedParameter("X-Amz-Date".into())),
            ("/", vec![], NoHost),
            ("/", vec![("x-amz-host", "a")], NoHost),
            ("/", vec![host, host], repeated("host")),
            ("/", vec![("authorization", "1"), host, ("authorization", "2")], repeated("authorization")),
            ("/", vec![host, ("x-amz-date", "1"), ("x-amz-date", "1")], repeated("x-amz-date")),
            ("/", vec![host, ("x-amz-of-my-own", "1"), ("x-amz-of-my-own", "")], repeated("x-amz-of-my-own")),
            ("/", vec![host, ("transfer-encoding", "chunked")], TransferEncoding),
            ("/", vec![host, ("content-length", "1"), ("transfer-encoding", "identity")], TransferEncoding),
        ] {
            assert_eq!(read(target, &headers), Err(error), "{target} {headers:?}");
        }
        let not_text = [("host", b"a".as_slice()), ("user-agent", b"\xff")];
        assert_eq!(RequestHead::read("POST", "/", not_text).map(|_| ()), Err(NotText));
    }
}
