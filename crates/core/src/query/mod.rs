//! EC2's query API and STS's on the control API's listener (wire.md 9.3 to 9.6): a form in, XML out. What is asked for is
//! kept in the inventory, and what comes of it is what EC2's clients look up there: instances with their addresses and tags.
//!
//! | file | what is in it |
//! |---|---|
//! | `operation` | the one table: name, service, action, what its resource is, and whether it only reads |
//! | `parameters` | the form: names and values, lists, filters, and nothing left over |
//! | `request` | an operation with its parameters, and how its record shows them |
//! | `filter`, `page`, `describe` | which instances, types and tags are meant, and which part of them |
//! | `answer`, `xml` | the answers |

mod answer;
mod describe;
mod filter;
mod operation;
mod page;
mod parameters;
mod request;
#[cfg(test)]
mod tests;
mod xml;

pub use answer::{
    caller_identity, done, instance_types, instances, regions, serial_console_access, state_changes, tags,
};
pub(crate) use describe::find;
pub use describe::{
    DescribeInstanceTypes, DescribeInstances, DescribeRegions, DescribeTags, DescribedRegion, TaggedResource,
};
pub use operation::{Operation, Service};
pub use page::Page;
pub use parameters::Parameters;
pub use request::{Change, DeletedTags, Read, Request, StateChange, Task};
pub(crate) use xml::Xml;

use crate::api::{ApiError, QueryErrorCode};
use crate::sigv4::{RequestHead, claimed_service};

/// The content type of requests by POST.
pub const FORM: &str = "application/x-www-form-urlencoded";

/// Which service a request of the query protocol is for: its credential scope says so (wire.md 9.3). Whoever names none,
/// or another one, hears of it from EC2. `None` for a request that does not speak this protocol.
pub fn spoken_to(head: &RequestHead<'_>) -> Option<Service> {
    let media_type =
        head.header("content-type").map(|value| value.split(';').next().unwrap_or_default().trim());
    let speaks = match head.method() {
        "POST" => media_type.is_some_and(|value| value.eq_ignore_ascii_case(FORM)),
        "GET" => head.query().get("Action").is_some(),
        _ => false,
    };
    let of_claim = |claimed: &str| Service::ALL.into_iter().find(|service| service.signing_name() == claimed);
    speaks.then(|| claimed_service(head).and_then(of_claim).unwrap_or(Service::Ec2))
}

fn refused(code: QueryErrorCode, message: impl Into<String>) -> ApiError {
    ApiError::Query { code, message: message.into() }
}
