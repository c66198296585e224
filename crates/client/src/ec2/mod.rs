//! The part of EC2's API by which instances are found, and STS's by which one learns who one is (wire.md 9.3).

mod instance;
pub(crate) mod xml;

pub use instance::{Ec2Instance, InstancesPage};

use crate::api::{Operation, Protocol, Service};
use crate::endpoint::EndpointName;
use instance_connect_core::sigv4::push_encoded;
use xml::Element;

/// Largest answer of EC2: a page of a thousand instances takes some megabytes.
const LARGEST_PAGE: usize = 32 * 1024 * 1024;

/// The version of EC2's API that is spoken.
const EC2_VERSION: &str = "2016-11-15";

/// That of STS.
const STS_VERSION: &str = "2011-06-15";

/// Parameters of `DescribeInstances`: which instances. Without any, all that the caller may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DescribeInstances {
    /// These instances, such as `i-0123456789abcdef0`; one that does not exist is an error.
    pub instance_ids: Vec<String>,
    /// Those that each of these filters lets through: a name such as `tag:Name`, and values, of which one must fit. In a value
    /// `*` and `?` stand for any text and any character, behind a backslash for themselves.
    pub filters: Vec<(String, Vec<String>)>,
    /// How many on a page, 5 to 1000; not together with ids.
    pub max_results: Option<u32>,
    /// The page that follows the one that had this.
    pub next_token: Option<String>,
}

impl DescribeInstances {
    /// Of all instances.
    pub fn new() -> Self {
        Self::default()
    }

    /// With an instance's id.
    #[must_use]
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.instance_ids.push(id.into());
        self
    }

    /// With a filter.
    #[must_use]
    pub fn filter<Value: Into<String>>(
        mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = Value>,
    ) -> Self {
        self.filters.push((name.into(), values.into_iter().map(Into::into).collect()));
        self
    }

    /// With at most so many on a page.
    #[must_use]
    pub fn max_results(mut self, most: u32) -> Self {
        self.max_results = Some(most);
        self
    }

    /// With the page that follows.
    #[must_use]
    pub fn next_token(mut self, token: impl Into<String>) -> Self {
        self.next_token = Some(token.into());
        self
    }
}

impl Operation for DescribeInstances {
    type Output = InstancesPage;

    const SERVICE: Service = Service {
        name: "ec2",
        endpoint: EndpointName::Ec2,
        protocol: Protocol::Query,
        largest_answer: LARGEST_PAGE,
        is_for_once: false,
    };

    fn name(&self) -> &'static str {
        "DescribeInstances"
    }

    fn body(&self) -> String {
        let mut form = Form::new(self.name(), EC2_VERSION);
        for (number, id) in (1_usize..).zip(&self.instance_ids) {
            form.push(&format!("InstanceId.{number}"), id);
        }
        for (number, (name, values)) in (1_usize..).zip(&self.filters) {
            form.push(&format!("Filter.{number}.Name"), name);
            for (index, value) in (1_usize..).zip(values) {
                form.push(&format!("Filter.{number}.Value.{index}"), value);
            }
        }
        if let Some(most) = self.max_results {
            form.push("MaxResults", &most.to_string());
        }
        if let Some(token) = &self.next_token {
            form.push("NextToken", token);
        }
        form.0
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn tells_a_secret(&self) -> bool {
        false
    }

    fn output(body: &[u8], request_id: Option<String>) -> Result<InstancesPage, String> {
        let document = xml::parse(body)?;
        let root = Element::root(&document);
        if root.name() != "DescribeInstancesResponse" {
            return Err(format!("it is a {:?}", root.name()));
        }
        InstancesPage::read(root, request_id)
    }
}

/// `GetCallerIdentity`: who signs. It takes no parameters, and needs no permission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GetCallerIdentity;

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallerIdentity {
    /// The account, 12 digits.
    pub account: String,
    /// Such as `arn:aws:iam::111122223333:user/alice`.
    pub arn: String,
    /// The unique id, such as `AIDA…`.
    pub user_id: String,
}

impl Operation for GetCallerIdentity {
    type Output = CallerIdentity;

    const SERVICE: Service = Service {
        name: "sts",
        endpoint: EndpointName::Sts,
        protocol: Protocol::Query,
        largest_answer: 64 * 1024,
        is_for_once: false,
    };

    fn name(&self) -> &'static str {
        "GetCallerIdentity"
    }

    fn body(&self) -> String {
        Form::new(self.name(), STS_VERSION).0
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn tells_a_secret(&self) -> bool {
        false
    }

    fn output(body: &[u8], _request_id: Option<String>) -> Result<CallerIdentity, String> {
        let document = xml::parse(body)?;
        let result = Element::root(&document).child("GetCallerIdentityResult");
        let text = |name: &str| {
            result.and_then(|result| result.text(name)).ok_or_else(|| format!("it has no {name}"))
        };
        Ok(CallerIdentity { account: text("Account")?, arn: text("Arn")?, user_id: text("UserId")? })
    }
}

/// A form, encoded as botocore does, which is as for a signature.
struct Form(String);

impl Form {
    fn new(action: &str, version: &str) -> Self {
        Self(format!("Action={action}&Version={version}"))
    }

    fn push(&mut self, name: &str, value: &str) {
        self.0.push('&');
        push_encoded(&mut self.0, name.as_bytes());
        self.0.push('=');
        push_encoded(&mut self.0, value.as_bytes());
    }
}

#[cfg(test)]
mod tests;
