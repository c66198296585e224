//! The address of an agents listener.

use http::Uri;
use rustls::pki_types::ServerName;
use std::fmt;
use std::str::FromStr;

/// `https://host:port`, without anything after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

/// The text is not the address of an agents listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is given as https://HOST:PORT, the address of its agents listener, and nothing after it")]
pub struct ServerUrlError;

impl ServerUrl {
    /// The host to connect to: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What the server's certificate must be for.
    pub const fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let uri: Uri = text.parse().map_err(|_| ServerUrlError)?;
        let authority = uri.authority().ok_or(ServerUrlError)?;
        let nothing_after = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
        if uri.scheme_str() != Some("https") || !nothing_after {
            return Err(ServerUrlError);
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ServerUrlError)?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 443,
            _ => authority.port_u16().filter(|port| *port != 0).ok_or(ServerUrlError)?,
        };
        Ok(Self { host: host.to_owned(), port, name })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::ServerUrl;

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("https://ic.example.com:8444", "ic.example.com", 8444),
            ("https://ic.example.com", "ic.example.com", 443),
            ("https://127.0.0.1:8444/", "127.0.0.1", 8444),
            ("https://[::1]:8444", "::1", 8444),
            ("https://[::1]", "::1", 443),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
            assert_eq!(url.to_string().parse::<ServerUrl>(), Ok(url), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "ic.example.com:8444",
            "http://ic.example.com:8444",
            "https://",
            "https://:8444",
            "https://ic.example.com:",
            "https://ic.example.com:0",
            "https://ic.example.com:65536",
            "https://ic.example.com:8444/link",
            "https://ic.example.com:8444/?a=b",
            "https://alice@ic.example.com:8444",
            "https://ic example.com:8444",
            "https://ic_.example.com/x",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text:?}");
        }
    }
}
