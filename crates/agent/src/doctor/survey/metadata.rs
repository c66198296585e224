//! Looking at the metadata service from where the distributions' scripts ask it, and at what they look at on this machine.

use super::super::metadata::{Answer, Found, MetadataFacts, SignerRoot};
use super::{read_trusted, unit};
use crate::Directories;
use crate::files;
use crate::install::METADATA_UNIT;
use crate::metadata::WatchedMetadata;
use crate::root::Root;
use crate::state::certificates;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instance_connect_core::document::InstanceId;
use instance_connect_core::imds::{TOKEN_HEADER, TTL_HEADER};
use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use x509_parser::certificate::X509Certificate;

/// Where distributions put the scripts (wire.md 3.9): Debian and its relatives, then those with RPM.
const SCRIPTS: [&str; 2] = ["/usr/share/ec2-instance-connect", "/opt/aws/bin"];

/// What sshd is to start, in that directory.
const RUN: &str = "eic_run_authorized_keys";

/// What names the authorities that the scripts trust, in that directory.
const CURL: &str = "eic_curl_authorized_keys";

/// How long the scripts wait for each answer.
const ANSWER: Duration = Duration::from_secs(1);

/// More than any answer has that is asked for here.
const ANSWER_LIMIT: usize = 64 * 1024;

/// A bundle of all authorities that the world's browsers trust has a quarter of that.
const BUNDLE_LIMIT: u64 = 4 * 1024 * 1024;

/// `None` where neither the scripts are nor a service is wanted. `ahead` is by how much the wall clock is ahead.
pub(super) async fn metadata_facts(
    root: &Root,
    directories: &Directories,
    ahead: Option<i64>,
) -> Option<MetadataFacts> {
    let there = |directory: &&&str| root.path(Path::new(directory).join(RUN)).exists();
    let scripts = SCRIPTS.iter().find(there).map(PathBuf::from);
    let settings = WatchedMetadata::read(&directories.etc);
    let settings = settings.map(|watched| watched.map(|watched| watched.settings));
    let guests = settings.as_ref().map_or(0, |settings| settings.as_ref().map_or(0, |all| all.guests.len()));
    let settings = settings.map(|settings| settings.and_then(|settings| settings.own));
    if scripts.is_none() && matches!(settings, Ok(None)) {
        return None;
    }
    let answer = match &settings {
        Ok(Some(settings)) => Some(ask(settings.listen).await),
        Ok(None) | Err(_) => None,
    };
    let chain = answer.as_ref().and_then(|answer| answer.as_ref().ok()?.chain.as_deref());
    let instance =
        read_trusted(&directories.etc.join("instance-id"), |text| text.trim().parse::<InstanceId>());
    let read =
        |path| fs::read(root.path(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Some(MetadataFacts {
        root: scripts.as_deref().zip(chain).and_then(|(scripts, chain)| signer_root(root, scripts, chain)),
        scripts,
        settings,
        guests,
        unit: root.program("systemctl").map(|_| unit(root, METADATA_UNIT)),
        instance: instance.ok(),
        answer,
        hypervisor: read("/sys/hypervisor/uuid"),
        board_asset_tag: read("/sys/devices/virtual/dmi/id/board_asset_tag"),
        ahead,
    })
}

/// Asks as the scripts do: a token first, and everything with that.
async fn ask(address: SocketAddr) -> Result<Answer, String> {
    let (status, token) = request(address, Method::PUT, "/latest/api/token", (TTL_HEADER, "5")).await?;
    if status != StatusCode::OK {
        return Err(format!("it gives out no token, and answers {status}"));
    }
    let value = async |path: &str| {
        let path = format!("/latest/meta-data/{path}");
        let (status, body) = request(address, Method::GET, &path, (TOKEN_HEADER, &token)).await?;
        Ok::<_, String>((status == StatusCode::OK).then_some(body))
    };
    Ok(Answer {
        instance: value("instance-id").await?.unwrap_or_default(),
        zone: value("placement/availability-zone").await?,
        region: value("placement/region").await?,
        chain: value("managed-ssh-keys/signer-cert").await?,
    })
}

async fn request(
    address: SocketAddr,
    method: Method,
    path: &str,
    (name, value): (&str, &str),
) -> Result<(StatusCode, String), String> {
    let asking = async {
        let request = Request::builder().method(method).uri(path).header("host", address.to_string());
        let request = request.header(name, value).body(Empty::<Bytes>::new())?;
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect().await?.to_bytes();
        Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
    };
    match timeout(ANSWER, asking).await {
        Ok(answer) => answer.map_err(|error: Box<dyn Error + Send + Sync>| error.to_string()),
        Err(_) => Err(format!("no answer within {} s, after which the scripts give up", ANSWER.as_secs())),
    }
}

/// Looks for the last certificate of the chain where these scripts do: in a file of its own, named after it, below a directory, or
/// in a bundle.
fn signer_root(root: &Root, scripts: &Path, chain: &str) -> Option<SignerRoot> {
    let chain = certificates(chain.as_bytes()).ok()?;
    let served = chain.last()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(served).ok()?;
    let text = fs::read_to_string(root.path(scripts.join(CURL))).unwrap_or_default();
    let named = text.lines().find_map(|line| line.trim().strip_prefix("ca_path="));
    let authorities = PathBuf::from(named.unwrap_or("/etc/ssl/certs"));
    let is_bundle = !root.path(&authorities).is_dir();
    let place = if is_bundle { authorities } else { authorities.join(file_name(&certificate)?) };
    let read = files::read(&root.path(&place), BUNDLE_LIMIT).ok().flatten();
    let trusted = read.and_then(|pem| certificates(&pem).ok()).unwrap_or_default();
    let found = if trusted.contains(served) {
        Found::Itself
    } else if trusted.is_empty() || is_bundle {
        Found::Nothing
    } else {
        Found::Another
    };
    Some(SignerRoot { place, is_bundle, found })
}

/// The name of an authority in Debian's directory: its common name, each run of blanks as one underscore.
fn file_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_common_name().last()?.as_str().ok()?;
    let words: Vec<&str> = name.split(' ').filter(|word| !word.is_empty()).collect();
    // It names a file: nothing that the service says leads out of the directory.
    (!name.contains('/')).then(|| format!("{}.pem", words.join("_")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn authority(name: &str) -> String {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn the_root_is_looked_for_where_the_scripts_do() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path()).unwrap();
        let scripts = Path::new(SCRIPTS[0]);
        let write = |path: &str, text: &str| fs::write(root.path(path), text).unwrap();
        let certs = "/etc/ssl/certs";
        fs::create_dir_all(root.path(certs)).unwrap();
        fs::create_dir_all(root.path(scripts)).unwrap();
        let [leaf, own, other] = ["leaf", "Instance Connect signer root", "Other"].map(authority);
        let chain = format!("{leaf}{own}");
        let look = || {
            let found = signer_root(&root, scripts, &chain).unwrap();
            (found.place, found.found)
        };
        let file = format!("{certs}/Instance_Connect_signer_root.pem");
        assert_eq!(look(), (file.clone().into(), Found::Nothing));
        write(&file, &other);
        assert_eq!(look(), (file.clone().into(), Found::Another));
        write(&file, &own);
        assert_eq!(look(), (file.into(), Found::Itself));
        let bundle = format!("{certs}/ca-bundle.crt");
        write(&format!("{}/{CURL}", scripts.display()), &format!("x=1\nca_path={bundle}\n"));
        assert_eq!(look(), (bundle.clone().into(), Found::Nothing));
        write(&bundle, &format!("# Other\n{other}"));
        assert_eq!(look(), (bundle.clone().into(), Found::Nothing));
        write(&bundle, &format!("# Other\n{other}\n# Instance Connect signer root\n{own}"));
        assert_eq!(look(), (bundle.into(), Found::Itself));
    }

    #[test]
    fn nothing_that_the_service_says_leads_out_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path()).unwrap();
        fs::create_dir_all(root.path("/etc/ssl/certs")).unwrap();
        assert!(signer_root(&root, Path::new(SCRIPTS[0]), &authority("../../passwd")).is_none());
        assert!(signer_root(&root, Path::new(SCRIPTS[0]), "no certificate").is_none());
    }
}
