//! Enrolment: a join token and a fresh key become the machine's identity. Run as root, once.

use crate::connect::connect_tls;
use crate::files::{self, Owner, make_directory, write_durably};
use crate::first_contact::{self, WrongCa, is_pinned};
use crate::host_keys;
use crate::server_url::ServerUrl;
use crate::state::{self, IDENTITY, LINK, LinkFile, SERVER_CA, identity_pem};
use crate::{Directories, VERSION};
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instance_connect_core::document::{Anchors, BootId};
use instance_connect_core::host_key::HostKey;
use instance_connect_core::link::{
    ENROLL_PATH, EnrollAnswer, EnrollError, EnrollErrorCode, EnrollRequest, JoinTokenText, VersionText,
    limits,
};
use rcgen::{CertificateParams, KeyPair};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the server may take for its answer: it signs a certificate and writes to its store.
const ANSWER: Duration = Duration::from_secs(30);

/// What `host.toml` says where there was none: the rules that hold without it, and how to change them.
const DEFAULT_HOST_TOML: &str = "\
# What this machine does not let a control plane do, not even a stolen one.
# Lines without a leading # count at once; a mistake here refuses every key.

# When given, nobody else may be logged in to. Root only if it is named here.
#allow_users = [\"alice\", \"deploy\"]

# Wins over allow_users.
#deny_users = [\"backup\"]

# The longest that a pushed key may live, 60 at most.
#max_lifetime_seconds = 60

# What streams may dial on this machine.
#stream_ports = [22]
";

/// What is needed to enrol a machine.
#[derive(Debug)]
pub struct Enrollment {
    /// The agents listener.
    pub server: ServerUrl,
    /// The right to enrol, for one instance, once.
    pub token: JoinTokenText,
    /// Where the files go.
    pub directories: Directories,
    /// Whether an earlier identity may be replaced, here and at the control plane.
    pub replace: bool,
    /// The boot this is.
    pub boot_id: BootId,
    /// Where sshd's host keys are (`ssh_host_*_key.pub`).
    pub ssh_host_keys: PathBuf,
}

/// Who the machine now is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Its instance id.
    pub instance_id: String,
    /// Its region.
    pub region: String,
    /// The account that owns it.
    pub account_id: String,
}

/// Why a machine is not enrolled. Where the token was not used up this is said, or obvious.
#[derive(Debug, thiserror::Error)]
pub enum EnrollFailure {
    /// There is an identity already.
    #[error("this machine is already enrolled as {0}; to give it a new identity, enrol with --replace")]
    AlreadyEnrolled(String),
    /// The files could not be written.
    #[error("{}: {error}; run this as root, or name other directories with --etc and --state", path.display())]
    Files {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The server does not belong to the token.
    #[error(
        "{0} does not show the CA that this join token names, so the token was not sent: it is another control plane, \
         or someone is in between; compare the address with that of the control plane which made the token"
    )]
    WrongCa(ServerUrl),
    /// The server cannot be reached, or its certificate is not good.
    #[error("{server}: {error}")]
    Connect {
        /// The server.
        server: ServerUrl,
        /// What is wrong.
        error: io::Error,
    },
    /// The server did not answer as it should.
    #[error("{server}: {reason}")]
    Answer {
        /// The server.
        server: ServerUrl,
        /// What is wrong.
        reason: String,
    },
    /// The server said no.
    #[error("the control plane refuses: {} ({}){}", .0.message.escape_default(), .0.code, advice(.0.code))]
    Refused(EnrollError),
    /// No key could be made.
    #[error("a key could not be made: {0}")]
    Key(String),
}

fn advice(code: EnrollErrorCode) -> &'static str {
    match code {
        EnrollErrorCode::AlreadyEnrolled => "; to revoke the other identity, enrol with --replace",
        EnrollErrorCode::TokenExpired
        | EnrollErrorCode::TokenUnknown
        | EnrollErrorCode::TokenUsed
        | EnrollErrorCode::TokenMalformed => "; ask for a new join token",
        EnrollErrorCode::Throttled | EnrollErrorCode::Unavailable => "; try again in a minute",
        EnrollErrorCode::BadRequest
        | EnrollErrorCode::CsrRefused
        | EnrollErrorCode::CertificateRequired
        | EnrollErrorCode::IdentityRevoked
        | EnrollErrorCode::IdentitySuspended
        | EnrollErrorCode::TicketRefused
        | EnrollErrorCode::NotFound
        | EnrollErrorCode::TooLarge => "",
    }
}

/// Enrols this machine. Everything that can fail here is tried before the token is sent, since that uses it up.
///
/// # Errors
/// See [`EnrollFailure`].
pub async fn enroll(enrollment: Enrollment) -> Result<Enrolled, EnrollFailure> {
    let Enrollment { server, token, directories, replace, boot_id, ssh_host_keys } = enrollment;
    if let (false, Ok(link)) = (replace, state::read_link(&directories.state)) {
        return Err(EnrollFailure::AlreadyEnrolled(link.instance_id));
    }
    make_directories(&directories)?;
    // Until all is written: a renewal or new anchors of the identity before do not come between.
    let locked = |path: &Path, lock: fn(&Path) -> io::Result<File>| {
        lock(path).map_err(|error| EnrollFailure::Files { path: path.to_owned(), error })
    };
    let _etc = locked(&directories.etc, files::lock_etc)?;
    let _state = locked(&directories.state, files::lock_state)?;
    let owner = try_directories(&directories)?;
    let key = KeyPair::generate().map_err(|error| EnrollFailure::Key(error.to_string()))?;
    let request = EnrollRequest {
        csr: certificate_request(&key).map_err(|error| EnrollFailure::Key(error.to_string()))?,
        token,
        boot_id,
        agent_version: VersionText::lossy(VERSION),
        replace,
        ssh_host_keys: host_keys::read(&ssh_host_keys).iter().map(HostKey::to_string).collect(),
    };
    let answer = post(&server, &request).await?;
    let identity = identity_pem(&key, &answer.certificate_chain);
    check(&answer, &request.token, identity.as_bytes())
        .map_err(|reason| EnrollFailure::Answer { server: server.clone(), reason })?;
    write(&directories, &server, &answer, identity.as_bytes(), owner)?;
    Ok(Enrolled {
        instance_id: answer.instance_id.to_string(),
        region: answer.region.to_string(),
        account_id: answer.account_id.to_string(),
    })
}

/// The subject and everything else but the key is for the control plane to say.
pub(crate) fn certificate_request(key: &KeyPair) -> Result<String, rcgen::Error> {
    CertificateParams::new(Vec::new())?.serialize_request(key)?.pem()
}

async fn post(server: &ServerUrl, request: &EnrollRequest) -> Result<EnrollAnswer, EnrollFailure> {
    let connect = |error| EnrollFailure::Connect { server: server.clone(), error };
    let answer = |reason: String| EnrollFailure::Answer { server: server.clone(), reason };
    let tls = first_contact::client_config(*request.token.ca_sha256())
        .map_err(|error| connect(io::Error::other(error)))?;
    let stream = match timeout(limits::CONNECT, connect_tls(server, Arc::new(tls))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if is_wrong_ca(&error) => return Err(EnrollFailure::WrongCa(server.clone())),
        Ok(Err(error)) => return Err(connect(error)),
        Err(_) => return Err(connect(io::ErrorKind::TimedOut.into())),
    };
    let exchange = async {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let request = Request::post(ENROLL_PATH)
            .header(HOST, server.authority())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::copy_from_slice(&request.to_json())))
            .map_err(|error| error.to_string())?;
        let answering = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limits::ENROLL_BODY).collect().await;
            Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        tokio::pin!(answering);
        tokio::select! {
            answered = &mut answering => answered,
            // The connection is driven until the answer is there; when it ends first, the answer says how.
            _ = connection => answering.await,
        }
    };
    let (status, body) = timeout(ANSWER, exchange)
        .await
        .map_err(|_| answer("no answer within 30 s".to_owned()))?
        .map_err(|reason: String| answer(reason))?;
    if status == StatusCode::OK {
        return EnrollAnswer::from_json(&body).map_err(|error| answer(error.to_string()));
    }
    match EnrollError::from_json(&body) {
        Ok(error) => Err(EnrollFailure::Refused(error)),
        Err(_) => Err(answer(format!("it answered {status}; is this the address of an agents listener?"))),
    }
}

fn is_wrong_ca(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::Other(other)) if other.0.is::<WrongCa>())
}

/// The answer fits together: nothing is written that the agent could not use.
fn check(answer: &EnrollAnswer, token: &JoinTokenText, identity_pem: &[u8]) -> Result<(), String> {
    if answer.instance_id != *token.instance() {
        return Err(format!(
            "it answered for {}, not for the token's {}",
            answer.instance_id,
            token.instance()
        ));
    }
    Anchors::parse(&answer.anchors).map_err(|error| format!("its anchors: {error}"))?;
    let server_ca =
        state::certificates(answer.server_ca.as_bytes()).map_err(|reason| format!("its CA: {reason}"))?;
    if !server_ca.iter().any(|certificate| is_pinned(certificate, token.ca_sha256())) {
        return Err("the CA in its answer is not the token's".to_owned());
    }
    state::client_config(identity_pem, answer.server_ca.as_bytes())
        .map(drop)
        .map_err(|error| format!("what it sent as {} cannot be used: {}", error.file, error.reason))
}

fn make_directories(directories: &Directories) -> Result<(), EnrollFailure> {
    for (path, mode) in [(&directories.etc, 0o755), (&directories.state, 0o700)] {
        make_directory(path, mode).map_err(|error| EnrollFailure::Files { path: path.clone(), error })?;
    }
    Ok(())
}

/// Tries the directories out. Files in the state directory go to its owner, since the agent that reads them does not run as
/// root.
fn try_directories(directories: &Directories) -> Result<Option<Owner>, EnrollFailure> {
    for path in [&directories.etc, &directories.state] {
        let failure = |error| EnrollFailure::Files { path: path.clone(), error };
        let probe = path.join(files::UNFINISHED);
        files::create(&probe, b"", 0o600).and_then(|_| fs::remove_file(&probe)).map_err(failure)?;
    }
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let owner = files::owner(&directories.state);
    owner.map(Some).map_err(|error| EnrollFailure::Files { path: directories.state.clone(), error })
}

/// `link.json` comes last: without it the machine does not count as enrolled.
fn write(
    directories: &Directories,
    server: &ServerUrl,
    answer: &EnrollAnswer,
    identity_pem: &[u8],
    owner: Option<Owner>,
) -> Result<(), EnrollFailure> {
    let Directories { etc, state, .. } = directories;
    let link = LinkFile {
        schema: 1,
        server: server.to_string(),
        instance_id: answer.instance_id.to_string(),
        region: answer.region.to_string(),
        account_id: answer.account_id.to_string(),
    };
    let link = serde_json::to_vec_pretty(&link).unwrap_or_default();
    let instance_id = format!("{}\n", answer.instance_id);
    let host_toml = etc.join("host.toml");
    let mut plan = vec![
        (etc.join("instance-id"), instance_id.as_bytes(), 0o644, None),
        (etc.join("anchors"), answer.anchors.as_bytes(), 0o644, None),
        (state.join(IDENTITY), identity_pem, 0o600, owner),
        (state.join(SERVER_CA), answer.server_ca.as_bytes(), 0o644, owner),
        (state.join(LINK), &link, 0o644, owner),
    ];
    if !host_toml.exists() {
        plan.insert(0, (host_toml, DEFAULT_HOST_TOML.as_bytes(), 0o644, None));
    }
    for (path, bytes, mode, owner) in plan {
        write_durably(&path, bytes, mode, owner).map_err(|error| EnrollFailure::Files { path, error })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::DEFAULT_HOST_TOML;
    use instance_connect_core::document::HostVeto;

    #[test]
    fn the_host_toml_that_is_written_changes_nothing_and_its_examples_are_right() {
        assert_eq!(HostVeto::parse(DEFAULT_HOST_TOML), Ok(HostVeto::default()));
        let examples: Vec<&str> =
            DEFAULT_HOST_TOML.lines().filter(|line| line.contains(" = [") || line.contains(" = 6")).collect();
        assert_eq!(examples.len(), 4);
        let enabled: String =
            examples.iter().map(|line| format!("{}\n", line.trim_start_matches('#'))).collect();
        assert!(HostVeto::parse(&enabled).is_ok());
    }
}
