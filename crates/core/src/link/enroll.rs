//! What `POST /enroll` carries, and how the agents listener says no: JSON in both directions, parsed into types at once.

use super::limits;
use super::text::VersionText;
use super::token::JoinTokenText;
use crate::ids::{AccountId, BootId, InstanceId, Region};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use zeroize::{Zeroize as _, Zeroizing};

/// The path of an enrolment.
pub const ENROLL_PATH: &str = "/enroll";

/// The path that is upgraded to a link.
pub const LINK_PATH: &str = "/link";

/// An agent asks for an identity.
#[derive(Clone, Debug)]
pub struct EnrollRequest {
    /// The join token.
    pub token: JoinTokenText,
    /// The certificate request, PEM. Only its key counts.
    pub csr: String,
    /// The boot the agent runs in.
    pub boot_id: BootId,
    /// The agent's program version.
    pub agent_version: VersionText,
    /// Whether an earlier identity of the instance may be replaced.
    pub replace: bool,
    /// The machine's SSH host keys, as it claims: lines of at most [`limits::HOST_KEY_LINE`], at most [`limits::HOST_KEYS`].
    pub ssh_host_keys: Vec<String>,
}

/// An agent's new identity, and whom it may trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollAnswer {
    /// The instance it speaks for.
    pub instance_id: InstanceId,
    /// Its region.
    pub region: Region,
    /// The account that owns it.
    pub account_id: AccountId,
    /// The agent's certificate and the intermediate that issued it, PEM.
    pub certificate_chain: String,
    /// The nodes intermediate and the root, PEM.
    pub server_ca: String,
    /// The anchors file.
    pub anchors: String,
}

/// A refusal of the agents listener.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct EnrollError {
    /// Why.
    pub code: EnrollErrorCode,
    /// The same for a person, saying what to do.
    pub message: String,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $status:literal, $name:literal;)*) => {
        /// Why the agents listener refuses a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EnrollErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl EnrollErrorCode {
            /// The `error` on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                }
            }
        }

        impl FromStr for EnrollErrorCode {
            type Err = UnknownErrorCode;

            fn from_str(name: &str) -> Result<Self, UnknownErrorCode> {
                match name {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(UnknownErrorCode),
                }
            }
        }

        #[cfg(test)]
        const ALL_CODES: &[EnrollErrorCode] = &[$(EnrollErrorCode::$variant),*];
    };
}

error_codes! {
    /// Not a request as `docs/link.md` has it.
    BadRequest = 400, "bad_request";
    /// The token is not one by its form.
    TokenMalformed = 400, "token_malformed";
    /// The certificate request is malformed, badly signed, or of another key type.
    CsrRefused = 400, "csr_refused";
    /// The link needs a client certificate.
    CertificateRequired = 401, "certificate_required";
    /// No such token.
    TokenUnknown = 403, "token_unknown";
    /// The token has lapsed.
    TokenExpired = 403, "token_expired";
    /// The token has been used.
    TokenUsed = 403, "token_used";
    /// The identity is revoked or was replaced by another enrolment, or the instance is gone.
    IdentityRevoked = 403, "identity_revoked";
    /// Two machines seem to hold the identity.
    IdentitySuspended = 403, "identity_suspended";
    /// No stream is waited for with this ticket.
    TicketRefused = 403, "ticket_refused";
    /// No such path.
    NotFound = 404, "not_found";
    /// The instance has an identity and `replace` was not set.
    AlreadyEnrolled = 409, "already_enrolled";
    /// The body is too large.
    TooLarge = 413, "too_large";
    /// Too many enrolments from here had no good token.
    Throttled = 429, "throttled";
    /// Not now: draining, too many links, or the store is not there.
    Unavailable = 503, "unavailable";
}

/// A code this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an unknown error code")]
pub struct UnknownErrorCode;

impl std::fmt::Display for EnrollErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an answer of the agents listener cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not one of an agents listener: {0}")]
pub struct AnswerError(&'static str);

impl EnrollRequest {
    /// The request's body. It holds the token.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let mut wire = WireRequest {
            token: self.token.expose().to_string(),
            csr: self.csr.clone(),
            boot_id: self.boot_id.to_string(),
            agent_version: self.agent_version.to_string(),
            replace: self.replace,
            ssh_host_keys: self.ssh_host_keys.clone(),
        };
        let body = json(&wire);
        wire.token.zeroize();
        Zeroizing::new(body)
    }

    /// Reads a request's body.
    ///
    /// # Errors
    /// What to answer. Whether the token exists and the certificate request is any good is not judged here.
    pub fn from_json(body: &[u8]) -> Result<Self, EnrollError> {
        let refuse = |code, message: &str| EnrollError { code, message: message.to_owned() };
        let bad = |message: &str| refuse(EnrollErrorCode::BadRequest, message);
        if body.len() > limits::ENROLL_BODY {
            return Err(refuse(EnrollErrorCode::TooLarge, "an enrolment request has at most 65536 bytes"));
        }
        // serde's own message is left out: it may quote the token.
        let wire: WireRequest =
            serde_json::from_slice(body).map_err(|_| bad("the body is not an enrolment request in JSON"))?;
        let token = Zeroizing::new(wire.token);
        let token = token.parse().map_err(|error: super::TokenError| {
            refuse(EnrollErrorCode::TokenMalformed, &error.to_string())
        })?;
        let host_keys_fit = wire.ssh_host_keys.len() <= limits::HOST_KEYS
            && wire.ssh_host_keys.iter().all(|line| line.len() <= limits::HOST_KEY_LINE);
        if !host_keys_fit {
            return Err(bad("at most 8 SSH host keys of at most 1024 bytes each"));
        }
        Ok(Self {
            token,
            csr: wire.csr,
            boot_id: wire.boot_id.parse().map_err(|_| bad("boot_id is not a lower-case hyphenated UUID"))?,
            agent_version: VersionText::lossy(&wire.agent_version),
            replace: wire.replace,
            ssh_host_keys: wire.ssh_host_keys,
        })
    }
}

impl EnrollAnswer {
    /// The answer's body.
    pub fn to_json(&self) -> Vec<u8> {
        json(&WireAnswer {
            instance_id: self.instance_id.to_string(),
            region: self.region.to_string(),
            account_id: self.account_id.to_string(),
            certificate_chain: self.certificate_chain.clone(),
            server_ca: self.server_ca.clone(),
            anchors: self.anchors.clone(),
        })
    }

    /// Reads an answer's body.
    ///
    /// # Errors
    /// The body is not an answer, or an id in it is malformed.
    pub fn from_json(body: &[u8]) -> Result<Self, AnswerError> {
        let wire: WireAnswer = serde_json::from_slice(body).map_err(|_| AnswerError("not its JSON"))?;
        Ok(Self {
            instance_id: wire.instance_id.parse().map_err(|_| AnswerError("a malformed instance id"))?,
            region: wire.region.parse().map_err(|_| AnswerError("a malformed region"))?,
            account_id: wire.account_id.parse().map_err(|_| AnswerError("a malformed account id"))?,
            certificate_chain: wire.certificate_chain,
            server_ca: wire.server_ca,
            anchors: wire.anchors,
        })
    }
}

impl EnrollError {
    /// The refusal's body.
    pub fn to_json(&self) -> Vec<u8> {
        json(&WireError { error: self.code.name().to_owned(), message: self.message.clone() })
    }

    /// Reads a refusal's body.
    ///
    /// # Errors
    /// The body is not a refusal, or of an unknown kind.
    pub fn from_json(body: &[u8]) -> Result<Self, AnswerError> {
        let wire: WireError = serde_json::from_slice(body).map_err(|_| AnswerError("not its JSON"))?;
        let code = wire.error.parse().map_err(|_| AnswerError("an unknown error"))?;
        Ok(Self { code, message: wire.message })
    }
}

#[derive(Serialize, Deserialize)]
struct WireRequest {
    token: String,
    csr: String,
    boot_id: String,
    agent_version: String,
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    ssh_host_keys: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct WireAnswer {
    instance_id: String,
    region: String,
    account_id: String,
    certificate_chain: String,
    server_ca: String,
    anchors: String,
}

#[derive(Serialize, Deserialize)]
struct WireError {
    error: String,
    message: String,
}

/// Texts and booleans: there is nothing in them that could fail to serialise.
fn json(wire: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(wire).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> EnrollRequest {
        EnrollRequest {
            token: JoinTokenText::new(
                "i-0123456789abcdef0".parse().unwrap(),
                Zeroizing::new([1; 32]),
                [2; 32],
            ),
            csr: "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned(),
            boot_id: "0b7f1c52-6a0e-4c11-9d0b-1c5a6f0e9a11".parse().unwrap(),
            agent_version: "0.1.0".parse().unwrap(),
            replace: true,
            ssh_host_keys: vec!["ssh-ed25519 AAAA".to_owned()],
        }
    }

    #[test]
    fn a_request_survives_the_wire() {
        let sent = request();
        let received = EnrollRequest::from_json(&sent.to_json()).unwrap();
        assert_eq!(received.token.expose(), sent.token.expose());
        assert_eq!(received.boot_id, sent.boot_id);
        assert_eq!(received.ssh_host_keys, sent.ssh_host_keys);
        assert!(received.replace);
    }

    #[test]
    fn bad_requests_say_why_and_never_quote_the_token() {
        let code = |edit: &dyn Fn(&mut serde_json::Value)| {
            let mut value: serde_json::Value = serde_json::from_slice(&request().to_json()).unwrap();
            edit(&mut value);
            let error = EnrollRequest::from_json(value.to_string().as_bytes()).unwrap_err();
            assert!(!error.message.contains("ict1_i-0"), "{error}");
            error.code
        };
        assert_eq!(code(&|v| v["token"] = "ict1_i-0".into()), EnrollErrorCode::TokenMalformed);
        assert_eq!(code(&|v| v["token"] = serde_json::json!(["ict1_i-0"])), EnrollErrorCode::BadRequest);
        assert_eq!(code(&|v| v["boot_id"] = "x".into()), EnrollErrorCode::BadRequest);
        assert_eq!(code(&|v| v["csr"] = serde_json::Value::Null), EnrollErrorCode::BadRequest);
        assert_eq!(code(&|v| v["ssh_host_keys"] = vec!["k"; 9].into()), EnrollErrorCode::BadRequest);
        assert_eq!(
            code(&|v| v["ssh_host_keys"] = vec!["k".repeat(1025)].into()),
            EnrollErrorCode::BadRequest
        );
        assert_eq!(code(&|v| v["csr"] = "x".repeat(65_536).into()), EnrollErrorCode::TooLarge);
    }

    #[test]
    fn answers_and_errors_survive_the_wire() {
        let answer = EnrollAnswer {
            instance_id: "i-0123456789abcdef0".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            account_id: "123456789012".parse().unwrap(),
            certificate_chain: "c".to_owned(),
            server_ca: "s".to_owned(),
            anchors: "a".to_owned(),
        };
        assert_eq!(EnrollAnswer::from_json(&answer.to_json()), Ok(answer));
        for code in ALL_CODES {
            let error = EnrollError { code: *code, message: "m".to_owned() };
            assert_eq!(EnrollError::from_json(&error.to_json()), Ok(error));
        }
        assert!(EnrollError::from_json(br#"{"error":"new","message":""}"#).is_err());
    }

    #[test]
    fn the_specification_quotes_these_errors() {
        let specification = include_str!("../../../../docs/link.md");
        for code in ALL_CODES {
            let quoted = |row: &str| {
                row.starts_with(&format!("| {} |", code.status()))
                    && row.contains(&format!("`{}`", code.name()))
            };
            assert!(specification.lines().any(quoted), "{code}");
        }
    }
}
