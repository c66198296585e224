//! Where spans go: what the configuration and OpenTelemetry's own environment variables say of it.

use anyhow::{Context as _, bail};
use hyper::Uri;
use hyper::header::HeaderName;
use std::fmt;
use std::net::IpAddr;
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
    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Whether what is sent there does not leave this machine.
    fn is_loopback(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
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
    /// A variable that asks for what there is not, or that the SDK would leave out without a word. No value is shown.
    pub(crate) fn find(
        endpoint: Option<&Endpoint>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        // An empty one counts as none (OpenTelemetry's specification).
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        // Its name and its value: those for traces alone count more than those for everything.
        let of_traces = |name: &str| {
            let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
            names.into_iter().find_map(|name| variable(&name).map(|value| (name, value)))
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
        if let Some((name, protocol)) = of_traces("PROTOCOL")
            && protocol != "http/protobuf"
        {
            bail!("{name}: only \"http/protobuf\" is spoken (collectors' port 4318)");
        }
        if let Some((name, compression)) = of_traces("COMPRESSION")
            && compression != "none"
        {
            bail!("{name}: nothing is compressed");
        }
        if let Some((name, headers)) = of_traces("HEADERS") {
            if !headers.split_terminator(',').all(is_header) {
                bail!("{name}: expected NAME=VALUE,NAME=VALUE, with values percent-encoded");
            }
            if !url.is_tls() && !url.is_loopback() {
                bail!("{name}: these are secret, and go to https:// or to this machine only");
            }
        }
        if let Some(sampler) = variable("OTEL_TRACES_SAMPLER") {
            if !SAMPLERS.contains(&sampler.as_str()) {
                bail!("OTEL_TRACES_SAMPLER: there are {}", SAMPLERS.join(", "));
            }
            let share = variable("OTEL_TRACES_SAMPLER_ARG").filter(|_| sampler.ends_with("traceidratio"));
            if share.is_some_and(|share| !is_share(&share)) {
                bail!("OTEL_TRACES_SAMPLER_ARG: expected a share from 0 to 1, such as 0.01");
            }
        }
        let timeout = match of_traces("TIMEOUT") {
            None => 10_000,
            Some((name, timeout)) => {
                let timeout = timeout.parse().ok().filter(|timeout| TIMEOUTS.contains(timeout));
                timeout.with_context(|| format!("{name}: expected 1 to 60000 milliseconds"))?
            }
        };
        let certificate = of_traces("CERTIFICATE").map(|(_, file)| file);
        Ok(Some(Self { url, certificate, timeout }))
    }
}

/// Whether this is `NAME=VALUE`, in ASCII. The SDK says nothing of a header that it does not understand, and leaves it out.
fn is_header(header: &str) -> bool {
    let is_printable = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    // What comes after a percent sign begins with the two digits of a character.
    let is_escaped = |text: &str| {
        let character = text.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        character.is_some_and(|character| matches!(character, b' '..=b'~'))
    };
    header.split_once('=').is_some_and(|(name, value)| {
        let value = value.trim();
        HeaderName::from_str(name.trim()).is_ok()
            && !value.is_empty()
            && is_printable(value)
            && value.split('%').skip(1).all(is_escaped)
    })
}

/// Whether this is a number from 0 to 1. The SDK says nothing of what is no number, and traces everything.
fn is_share(text: &str) -> bool {
    text.parse().is_ok_and(|share: f64| (0.0..=1.0).contains(&share))
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
    fn what_is_left_to_the_sdk_is_understood() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x%2c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", " a = Basic eA== , b=c,"),
            ("OTEL_TRACES_SAMPLER_ARG", "0"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
            ("OTEL_TRACES_SAMPLER_ARG", "1"),
        ] {
            let found = find("https://a:1", &[(name, value), ("OTEL_TRACES_SAMPLER", "traceidratio")]);
            assert!(matches!(found, Ok(Some(_))), "{name}={value}: {found:?}");
        }
    }

    /// Whoever is on the way would read them, and could send traces in our name.
    #[test]
    fn headers_do_not_travel_in_the_clear() {
        for (endpoint, are_sent) in [
            ("https://collector:4318", true),
            ("http://localhost:4318", true),
            ("http://127.0.0.1:4318", true),
            ("http://[::1]:4318", true),
            ("http://collector:4318", false),
            ("http://192.0.2.1:4318", false),
            ("http://[2001:db8::1]:4318", false),
            ("http://localhost.example:4318", false),
            ("http://127.0.0.1.example", false),
        ] {
            for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
                let found = find(endpoint, &[(name, "authorization=hunter2")]);
                assert_eq!(found.is_ok(), are_sent, "{endpoint}: {found:?}");
                if let Err(error) = found {
                    assert!(error.starts_with(&format!("{name}: ")) && !error.contains("hunter2"), "{error}");
                }
            }
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
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization="),
            ("OTEL_EXPORTER_OTLP_HEADERS", "=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "my key=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,,c=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2,and more"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2%0aevil:"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2%2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2é"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization: hunter2"),
            ("OTEL_TRACES_SAMPLER", "traceidratoi"),
            ("OTEL_TRACES_SAMPLER_ARG", "1%"),
            ("OTEL_TRACES_SAMPLER_ARG", "0,01"),
            ("OTEL_TRACES_SAMPLER_ARG", "7"),
            ("OTEL_TRACES_SAMPLER_ARG", "-0.1"),
            ("OTEL_TRACES_SAMPLER_ARG", "NaN"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "60001"),
        ] {
            let with_share = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
            let error = find("https://a:1", &[(name, value), with_share]).unwrap_err();
            let is_named = error.starts_with(&format!("{name}: "));
            assert!(is_named && !error.contains("hunter2"), "{name}={value}: {error}");
        }
    }
}
