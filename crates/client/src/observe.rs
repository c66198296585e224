//! What a client tells somebody who watches it, such as a `--debug` option. Never a secret.

use crate::error::Error;
use instance_connect_core::document::UnixSeconds;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One step of a call.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request is about to be sent.
    Sending {
        /// The endpoint's URL.
        url: &'a str,
        /// Its headers in order; the values of `Authorization` and `X-Amz-Security-Token` are replaced.
        headers: Vec<(&'a str, &'a str)>,
        /// Its body.
        body: &'a str,
    },
    /// A connection was opened for it.
    Connected {
        /// The address connected to.
        peer: std::net::SocketAddr,
        /// The version of TLS, `None` on a plain connection.
        tls: Option<&'a str>,
    },
    /// An answer has come.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The service's id of the request.
        request_id: Option<&'a str>,
        /// The answer's body as text.
        body: &'a str,
    },
    /// An attempt failed, and another follows.
    Retrying {
        /// Why it failed.
        failure: &'a Error,
        /// The pause before the other.
        pause: Duration,
    },
    /// This machine's clock is wrong, which cost an attempt. From now on the service's time is signed.
    ClockCorrected {
        /// How many seconds the service's clock is ahead; negative when it is behind.
        seconds: i64,
    },
    /// A program is asked for credentials: a `credential_process`, or the AWS CLI.
    CredentialsAsked {
        /// What it is, for people.
        of: &'a str,
    },
    /// It gave them.
    CredentialsIssued {
        /// The id of their access key.
        access_key_id: &'a str,
        /// When they expire, if ever.
        expires: Option<UnixSeconds>,
    },
}

/// Somebody who watches.
#[derive(Clone)]
pub(crate) struct Observer(pub(crate) Arc<dyn Fn(&Event<'_>) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer(…)")
    }
}
