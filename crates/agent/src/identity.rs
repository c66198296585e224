//! What the agent's certificate says.

use crate::files::{self, SMALL_FILE};
use crate::state::{IDENTITY, certificates};
use crate::status::duration;
use serde::Serialize;
use std::path::Path;
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

/// Who the agent is to the control plane. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Identity {
    /// `urn:instance-connect:…`.
    pub(crate) uri: String,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

/// Reads the certificate in the state directory.
pub(crate) fn read_identity(state: &Path) -> Result<Identity, String> {
    let path = state.join(IDENTITY);
    let failed = |reason: String| format!("{}: {reason}", path.display());
    let pem = files::read(&path, SMALL_FILE).map_err(|error| failed(error.to_string()))?;
    let pem = Zeroizing::new(pem.ok_or_else(|| failed("it is missing".to_owned()))?);
    Identity::parse(&pem).map_err(failed)
}

impl Identity {
    /// Reads the first certificate of a PEM text.
    pub(crate) fn parse(pem: &[u8]) -> Result<Self, String> {
        let chain = certificates(pem)?;
        let own = chain.first().ok_or("there is no certificate in it")?;
        let (_, own) = x509_parser::parse_x509_certificate(own).map_err(|error| error.to_string())?;
        let names = own.subject_alternative_name().map_err(|error| error.to_string())?;
        let uri = names.iter().flat_map(|names| &names.value.general_names).find_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        Ok(Self {
            uri: uri.ok_or("it names no agent")?,
            not_before: own.validity().not_before.timestamp(),
            not_after: own.validity().not_after.timestamp(),
        })
    }

    /// For people.
    pub(crate) fn to_text(&self, now: i64) -> String {
        let Self { uri, not_before, not_after } = self;
        if now < *not_before {
            format!("{uri}, not good for another {}", duration(not_before - now))
        } else if now > *not_after {
            format!("{uri}, expired {} ago", duration(now - not_after))
        } else {
            format!("{uri}, good for {}", duration(not_after - now))
        }
    }
}
