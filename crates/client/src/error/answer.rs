//! How an error answer is read, wherever services put its parts (wire.md 1.8, 1.9).

use super::{Error, Fault};
use crate::clock::{in_header, in_words};
use crate::exchange::Answer;
use http::HeaderMap;
use instance_connect_core::document::UnixSeconds;
use serde_json::{Map, Value};
use std::time::Duration;

/// The longest part of a body without a code that becomes the message.
const MESSAGE_OF_FOREIGN_BODY: usize = 200;

/// Reads an error answer as the SDKs do, EC2's and STS's in XML too: the code from the header, else from the body's `__type` or `code`; the message
/// from `message`, `Message` or `errorMessage`. `now` is this machine's time when the answer came.
pub(crate) fn from_answer(answer: &Answer, now: UnixSeconds) -> Error {
    let Said { code: body_code, message, request_id } = Said::read(&answer.body);
    let status = answer.status.as_u16();
    let codes = [answer.header("x-amzn-errortype"), body_code.as_deref()];
    let code = codes.into_iter().flatten().map(bare_code).find(|code| !code.is_empty());
    let time = match answer.header("date") {
        Some(date) => in_header(date),
        None => in_words(&message).filter(|_| is_about_time(&message)),
    };
    let clock_skew = time.and_then(|time| time.0.checked_sub(now.0));
    classify(Fault {
        code: code.map_or_else(|| status.to_string(), str::to_owned),
        message,
        request_id: answer.request_id().map(str::to_owned).or(request_id),
        status,
        retry_after: retry_after(&answer.headers),
        clock_skew,
    })
}

/// What the body of an error says.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    /// Where it is not in a header alone.
    pub(crate) request_id: Option<String>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        if let Ok(members) = serde_json::from_slice::<Map<String, Value>>(body) {
            let code = text_member(&members, &["__type", "code"]);
            // Services spell it either way: modelled errors with a capital, those of the framework without.
            let message = text_member(&members, &["message", "Message", "errorMessage"]).unwrap_or_default();
            return Self { code, message, request_id: None };
        }
        #[cfg(feature = "ec2")]
        if let Some(said) = crate::ec2::xml::error(body) {
            return said;
        }
        Self { message: foreign_message(body), ..Self::default() }
    }
}

/// The first of `names` that is a text.
fn text_member(members: &Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| members.get(*name)?.as_str()).map(str::to_owned)
}

/// `com.amazon.coral.service#Name:http://…` is `Name`: cut at the first colon, then keep what follows the last `#`.
fn bare_code(code: &str) -> &str {
    let code = code.split(':').next().unwrap_or_default();
    code.rsplit('#').next().unwrap_or_default().trim()
}

/// A proxy's page or the like: its beginning, on one line.
fn foreign_message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(MESSAGE_OF_FOREIGN_BODY).collect()
}

/// AWS's own header counts milliseconds, that of HTTP seconds. HTTP's other form, a date, is left alone: whoever sends it
/// means longer than a call would wait.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name| headers.get(name)?.to_str().ok()?.trim().parse::<u32>().ok().map(u64::from);
    number("x-amz-retry-after")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
}

fn classify(fault: Fault) -> Error {
    let variant: fn(Box<Fault>) -> Error = match fault.code.as_str() {
        "AuthException" => Error::Auth,
        "EC2InstanceNotFoundException" | "InvalidInstanceID.NotFound" => Error::Ec2InstanceNotFound,
        "EC2InstanceStateInvalidException" => Error::Ec2InstanceStateInvalid,
        "EC2InstanceTypeInvalidException" => Error::Ec2InstanceTypeInvalid,
        "EC2InstanceUnavailableException" => Error::Ec2InstanceUnavailable,
        "InvalidArgsException" | "InvalidInstanceID.Malformed" => Error::InvalidArgs,
        "SerialConsoleAccessDisabledException" => Error::SerialConsoleAccessDisabled,
        "SerialConsoleSessionLimitExceededException" => Error::SerialConsoleSessionLimitExceeded,
        "SerialConsoleSessionUnavailableException" => Error::SerialConsoleSessionUnavailable,
        "SerialConsoleSessionUnsupportedException" => Error::SerialConsoleSessionUnsupported,
        "ServiceException" => Error::ServiceFailure,
        // Every code that the SDKs know for it (wire.md 1.13).
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "LimitExceededException"
        | "BandwidthLimitExceeded"
        | "ProvisionedThroughputExceededException"
        | "TransactionInProgressException"
        | "PriorRequestNotComplete"
        | "EC2ThrottledException"
        | "SlowDown" => Error::Throttling,
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" | "UnauthorizedOperation" => {
            Error::AccessDenied
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidAccessKeyId" | "AuthFailure" => {
            Error::UnrecognizedClient
        }
        "ExpiredTokenException" | "ExpiredToken" => Error::ExpiredToken,
        "InvalidSignatureException" | "SignatureDoesNotMatch" if is_about_time(&fault.message) => {
            Error::ClockSkew
        }
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => Error::ClockSkew,
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken" => Error::InvalidSignature,
        "UnknownOperationException" | "UnknownOperation" | "InvalidAction" => Error::UnknownOperation,
        _ if fault.status == 429 => Error::Throttling,
        _ => Error::Service,
    };
    variant(Box::new(fault))
}

/// wire.md 1.10, row 8.
fn is_about_time(message: &str) -> bool {
    message.starts_with("Signature expired: ") || message.starts_with("Signature not yet current: ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use http::header::{DATE, HeaderValue, RETRY_AFTER};
    use proptest::prelude::*;

    proptest! {
        /// Whoever answers: there is an error with a code, and nothing in it moves a cursor.
        #[test]
        fn any_answer_is_an_error(
            status in 300_u16..1000,
            body in "[{}\"_typecodmsag:,#\u{1b}\u{202e}]{0,40}|\\{\"(__type|code|message)\":\"[^\"]{0,20}\"\\}",
            header in proptest::collection::vec(0x20_u8..0x7f, 0..30),
        ) {
            let value = HeaderValue::from_bytes(&header).unwrap();
            let names = [HeaderName::from_static("x-amzn-errortype"), DATE, RETRY_AFTER];
            let headers = names.into_iter().map(|name| (name, value.clone())).collect();
            let answer = Answer { status: status.try_into().unwrap(), headers, body: body.into() };
            let error = from_answer(&answer, UnixSeconds(0));
            prop_assert!(!error.fault().unwrap().code.is_empty());
            let moves = |c: char| c.is_control() || c == '\u{202e}';
            prop_assert!(!error.to_string().contains(moves), "{error:?}");
        }
    }

    fn fault(status: u16, header: Option<&str>, body: &str) -> Fault {
        let headers = header.map(|code| (HeaderName::from_static("x-amzn-errortype"), code.parse().unwrap()));
        let answer = Answer {
            status: status.try_into().unwrap(),
            headers: headers.into_iter().collect(),
            body: body.to_owned().into(),
        };
        from_answer(&answer, UnixSeconds(0)).fault().unwrap().clone()
    }

    #[test]
    fn code_and_message_are_found_where_sdks_find_them() {
        let cases: &[(Option<&str>, &str, &str, &str)] = &[
            (None, r#"{"__type":"A","Message":"m"}"#, "A", "m"),
            (None, r#"{"__type":"com.amazon.coral.service#A","message":"m"}"#, "A", "m"),
            (None, r#"{"__type":"x#A:http://internal/","message":"m","Message":"n"}"#, "A", "m"),
            (None, r#"{"code":"A"}"#, "A", ""),
            (Some("A"), r#"{"__type":"A"}"#, "A", ""),
            (Some("ns#A:http://internal.amazon.com/coral/"), "{}", "A", ""),
            (None, r#"{"__type":"A","errorMessage":"m"}"#, "A", "m"),
            // The header counts; one without a code does not.
            (Some("A"), r#"{"__type":"B"}"#, "A", ""),
            (Some(""), r#"{"__type":"B"}"#, "B", ""),
            (Some(""), r#"{"Message":"m"}"#, "400", "m"),
            (None, r##"{"__type":"#:","Message":"m"}"##, "400", "m"),
            (None, "", "400", ""),
            (None, "<html>\n  <b>no\u{1}</b>", "400", "<html> <b>no\u{1}</b>"),
            (None, r#"{"__type":5,"message":"m"}"#, "400", "m"),
            (None, "[]", "400", "[]"),
        ];
        for (header, body, code, message) in cases {
            let fault = fault(400, *header, body);
            assert_eq!((fault.code.as_str(), fault.message.as_str()), (*code, *message), "{header:?} {body}");
        }
    }

    /// Where a proxy has taken the date away.
    #[test]
    fn the_words_of_a_refusal_have_the_services_time() {
        let skew = |message: &str| {
            fault(400, None, &format!(r#"{{"__type":"A","message":"{message}"}}"#)).clock_skew
        };
        assert_eq!(skew("Signature expired: x (19700101T001000Z - 5 min.)"), Some(600));
        assert_eq!(skew("Something else: x (19700101T001000Z - 5 min.)"), None);
    }

    #[test]
    fn foreign_bodies_are_cut() {
        assert_eq!(fault(502, None, &"x".repeat(70_000)).message.len(), MESSAGE_OF_FOREIGN_BODY);
    }

    #[test]
    fn control_characters_are_not_shown() {
        let fault = fault(400, None, r#"{"__type":"A\u001b[2J","Message":"m\u0007\u009b\nerror: none"}"#);
        assert_eq!(fault.to_string(), r"A\u{1b}[2J: m\u{7}\u{9b}\nerror: none");
    }
}
