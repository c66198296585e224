//! Administration of a self-hosted service: one signed call for all of its operations. AWS has no such thing.

use crate::api::{Operation, Protocol, Service, members};
use crate::endpoint::EndpointName;
use instance_connect_core::administration::{self, SERVICE, TARGET};
use serde_json::{Map, Value};
use std::fmt;

/// An administrative operation with its parameters, as the service's own documentation has them.
#[derive(Clone, PartialEq, Eq)]
pub struct Administer {
    operation: administration::Operation,
    parameters: Map<String, Value>,
}

/// Largest answer: a hundred policies, each as long as a request can make it.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

impl Administer {
    /// The operation, without parameters.
    pub fn new(operation: administration::Operation) -> Self {
        Self { operation, parameters: Map::new() }
    }

    /// With a parameter; a `null` is left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if !value.is_null() {
            self.parameters.insert(name.to_owned(), value);
        }
        self
    }

    /// The operation.
    pub fn operation(&self) -> administration::Operation {
        self.operation
    }
}

impl Operation for Administer {
    /// The members of the answer.
    type Output = Map<String, Value>;

    const SERVICE: Service = Service {
        name: SERVICE,
        endpoint: EndpointName::InstanceConnect,
        protocol: Protocol::Json { target: TARGET },
        largest_answer: LARGEST_ANSWER,
        is_for_once: true,
    };

    fn name(&self) -> &'static str {
        self.operation.name()
    }

    fn body(&self) -> String {
        Value::Object(self.parameters.clone()).to_string()
    }

    fn is_repeatable(&self) -> bool {
        self.operation.is_read_only()
    }

    fn tells_a_secret(&self) -> bool {
        self.operation.tells_a_secret()
    }

    fn output(body: &[u8], _request_id: Option<String>) -> Result<Map<String, Value>, String> {
        members(body)
    }
}

impl fmt::Debug for Administer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.operation.name(), self.parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::signed_request;
    use crate::{Client, Environment};
    use instance_connect_core::document::UnixSeconds;

    /// The service takes each signature once, so the same call within one second has to be another request.
    #[test]
    fn no_two_requests_have_one_signature() {
        let variables =
            [("AWS_REGION", "xx-test-1"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        let settings = Client::builder().resolve(&Environment::new(variables, None)).unwrap();
        let credentials = instance_connect_core::sigv4::Credentials {
            access_key_id: "a".to_owned(),
            secret_access_key: crate::Secret::new(b"b".to_vec()),
            session_token: None,
        };
        let call = Administer::new(administration::Operation::CreateUser)
            .with("UserName", "bob")
            .with("Tags", Value::Null);
        let request = || signed_request(&call, &settings, &credentials, UnixSeconds(1_928_541_906)).unwrap();
        let (one, other) = (request(), request());
        let authorization = one.headers()["authorization"].to_str().unwrap();
        assert!(
            authorization.contains("/20310211/xx-test-1/instance-connect/aws4_request, "),
            "{authorization}"
        );
        assert!(
            authorization
                .contains("SignedHeaders=amz-sdk-invocation-id;content-type;host;x-amz-date;x-amz-target,")
        );
        assert_ne!(authorization, other.headers()["authorization"]);
        assert_eq!(one.headers()["x-amz-target"], "InstanceConnect.CreateUser");
        assert_eq!(call.body(), r#"{"UserName":"bob"}"#);
    }

    #[test]
    fn a_change_is_not_made_twice_unawares() {
        for operation in administration::Operation::ALL {
            assert_eq!(Administer::new(*operation).is_repeatable(), operation.is_read_only());
        }
    }
}
