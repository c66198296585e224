//! Where spans go: what the configuration and OpenTelemetry's own environment variables say of it.

use anyhow::{Context as _, bail};
use hyper::Uri;
use std::fmt;
use std::str::FromStr;

/// The address of a collector: an http or https URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(Uri);

/// Not the address of a collector. The text is left out: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected http://HOST:PORT or https://HOST:PORT, without a user name and a query")]
pub(crate) struct EndpointError;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError)?;
        let is_address = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.query().is_none();
        if is_address { Ok(Self(uri)) } else { Err(EndpointError) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Endpoint {
    /// Whether it is spoken to in TLS.
    #[cfg(feature = "otel")]
    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Where traces go at a collector whose address this is.
    fn for_traces(&self) -> Result<Self, EndpointError> {
        format!("{}/v1/traces", self.0.to_string().trim_end_matches('/')).parse()
    }
}

/// Where spans go. What else is told to the SDK (headers, sampler, attributes of the service) it reads itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The whole URL.
    pub(super) url: Endpoint,
    /// The file of those who vouch for the collector, if they are not the system's.
    pub(super) certificate: Option<String>,
    /// How long it may take to answer, in milliseconds.
    pub(super) timeout: u64,
}

impl Destination {
    /// What the environment says counts more than the configuration's `endpoint`. Nothing where neither names a collector.
    ///
    /// # Errors
    /// A variable that asks for what there is not.
    pub(crate) fn find(
        endpoint: Option<&Endpoint>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        // An empty one counts as none (OpenTelemetry's specification).
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        // Those for traces alone count more than those for everything.
        let of_traces = |name: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
            variable(&own).or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match variable("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(_) => bail!("OTEL_TRACES_EXPORTER: there is \"otlp\" and \"none\""),
        }
        let parse = |name: &'static str| {
            variable(name).map(|value| value.parse::<Endpoint>().context(name)).transpose()
        };
        let url = match (parse("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")?, parse("OTEL_EXPORTER_OTLP_ENDPOINT")?)
        {
            (Some(whole), _) => whole,
            (None, Some(base)) => base.for_traces()?,
            (None, None) => match endpoint {
                Some(base) => base.for_traces()?,
                None => return Ok(None),
            },
        };
        if of_traces("PROTOCOL").is_some_and(|protocol| protocol != "http/protobuf") {
            bail!("OTEL_EXPORTER_OTLP_PROTOCOL: only \"http/protobuf\" is spoken (collectors' port 4318)");
        }
        if of_traces("COMPRESSION").is_some_and(|compression| compression != "none") {
            bail!("OTEL_EXPORTER_OTLP_COMPRESSION: nothing is compressed");
        }
        let sampler = variable("OTEL_TRACES_SAMPLER");
        if sampler.is_some_and(|sampler| !SAMPLERS.contains(&sampler.as_str())) {
            bail!("OTEL_TRACES_SAMPLER: there are {}", SAMPLERS.join(", "));
        }
        let timeout =
            of_traces("TIMEOUT").map(|text| text.parse().ok().filter(|time| TIMEOUTS.contains(time)));
        let timeout =
            timeout.unwrap_or(Some(10_000)).context("OTEL_EXPORTER_OTLP_TIMEOUT: expected milliseconds")?;
        Ok(Some(Self { url, certificate: of_traces("CERTIFICATE"), timeout }))
    }
}

/// Those that the SDK has. Of another name it would make one that traces everything, and say nothing.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Milliseconds that a collector may be waited for.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 1..=60_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn find(endpoint: &str, environment: &[(&str, &str)]) -> Result<Option<Destination>, String> {
        let endpoint = (!endpoint.is_empty()).then(|| endpoint.parse().unwrap());
        let variable = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Destination::find(endpoint.as_ref(), variable).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn where_spans_go() {
        const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const WHOLE: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        for (endpoint, environment, expected) in [
            ("", &[][..], None),
            ("http://a:4318", &[], Some("http://a:4318/v1/traces")),
            ("https://a/otlp/", &[], Some("https://a/otlp/v1/traces")),
            ("", &[(BASE, "http://b:1")], Some("http://b:1/v1/traces")),
            ("http://a:1", &[(BASE, "http://b:1")], Some("http://b:1/v1/traces")),
            ("http://a:1", &[(BASE, "")], Some("http://a:1/v1/traces")),
            ("", &[(BASE, "http://b:1"), (WHOLE, "http://c:1/x")], Some("http://c:1/x")),
            ("http://a:1", &[("OTEL_SDK_DISABLED", "TRUE")], None),
            ("http://a:1", &[("OTEL_TRACES_EXPORTER", "none")], None),
        ] {
            let found = find(endpoint, environment).unwrap().map(|found| found.url.to_string());
            assert_eq!(found.as_deref(), expected, "{endpoint} {environment:?}");
        }
    }

    #[test]
    fn what_there_is_not_is_refused_and_no_password_is_shown() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@b:1"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "b:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:1/?key=hunter2"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "unix:///hunter2"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_TRACES_SAMPLER", "traceidratoi"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ] {
            let error = find("http://a:1", &[(name, value)]).unwrap_err();
            assert!(error.starts_with(name) && !error.contains("hunter2"), "{name}={value}: {error}");
        }
    }
}
