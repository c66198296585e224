//! In which form requests and answers are written.

use super::error::ApiError;
use super::operation::{CONTENT_TYPE, speaks_json};
use crate::query::{self, Service};
use crate::sigv4::RequestHead;

/// A protocol of the listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// AWS JSON 1.1: Instance Connect's own operations, and administration. Whoever speaks none is answered in it.
    #[default]
    Json,
    /// EC2's query protocol, or STS's, which differ in their answers.
    Query(Service),
}

impl Protocol {
    /// Every protocol there is.
    pub const ALL: [Self; 3] = [Self::Json, Self::Query(Service::Ec2), Self::Query(Service::Sts)];

    /// Which one a request speaks: rule 1 of wire.md 1.10.
    ///
    /// # Errors
    /// [`ApiError::NotThisProtocol`].
    pub fn of(head: &RequestHead<'_>) -> Result<Self, ApiError> {
        match query::spoken_to(head) {
            Some(service) => Ok(Self::Query(service)),
            None => speaks_json(head).map(|()| Self::Json),
        }
    }

    /// The content type of its answers.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => CONTENT_TYPE,
            Self::Query(service) => service.content_type(),
        }
    }
}
