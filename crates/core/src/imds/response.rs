//! What the metadata service answers.

use super::TTL_HEADER;
use super::tree::Found;
use instance_connect_document::Offer;

const TEXT: &str = "text/plain";

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200, 400, 401, 403, 404, 405 or 500.
    pub status: u16,
    /// What kind of text the body is.
    pub content_type: &'static str,
    /// How many bytes the body has, to a `HEAD` that it would have had.
    pub content_length: usize,
    /// With a new token, for how many seconds it is good.
    pub ttl: Option<u32>,
    /// With 405, what is allowed instead.
    pub allow: Option<&'static str>,
    /// The body; to a `HEAD` it is empty.
    pub body: String,
    /// The keys in the body, of which it is to be noted that they were offered.
    pub offers: Vec<Offer>,
}

impl Response {
    /// All headers that say something of the body or the request; not those of the connection.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let always = [
            ("content-type", self.content_type.to_owned()),
            ("content-length", self.content_length.to_string()),
        ];
        let ttl = self.ttl.map(|seconds| (TTL_HEADER, seconds.to_string()));
        let allow = self.allow.map(|methods| ("allow", methods.to_owned()));
        always.into_iter().chain(ttl).chain(allow)
    }

    fn new(status: u16, content_type: &'static str, body: String) -> Self {
        let content_length = body.len();
        Self { status, content_type, content_length, ttl: None, allow: None, body, offers: Vec::new() }
    }

    pub(super) fn found(found: Found) -> Self {
        Self { offers: found.offers, ..Self::new(200, TEXT, found.body) }
    }

    pub(super) fn token(token: String, seconds: u32) -> Self {
        Self { ttl: Some(seconds), ..Self::new(200, TEXT, token) }
    }

    /// 403, which has no page (wire.md 3.2).
    pub(super) fn forbidden() -> Self {
        Self::new(403, TEXT, String::new())
    }

    /// 405, which has no page (wire.md 3.2).
    pub(super) fn not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(405, TEXT, String::new()) }
    }

    /// The page of the other errors, byte for byte (wire.md 3.2).
    pub(super) fn page(status: u16) -> Self {
        let reason = match status {
            400 => "Bad Request",
            401 => "Unauthorized",
            404 => "Not Found",
            _ => "Internal Server Error",
        };
        let page = format!(
            "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
             <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
             \t\t \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
             <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n \
             <head>\n  <title>{status} - {reason}</title>\n </head>\n \
             <body>\n  <h1>{status} - {reason}</h1>\n </body>\n\
             </html>\n"
        );
        Self::new(status, "text/html", page)
    }

    pub(super) fn without_body(self) -> Self {
        Self { body: String::new(), offers: Vec::new(), ..self }
    }
}
