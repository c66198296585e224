//! What the service shows, in `RUN/stock`, so that an agent that is replaced goes on where the last one ended. Kept are the
//! frames as they came over the link: what reads them there reads them here.
//!
//! `signers` holds a frame, and so does each file that is named after an instance; one that is named after a request holds its
//! grant's frame behind the deadline on this machine's boot clock (8 bytes, big-endian), and `token.key` the key of the tokens.
//! Nothing here outlives the boot.

use crate::files::{self, UNFINISHED, make_directory};
use instance_connect_core::document::{BootId, BootInstant, InstanceId, RequestId};
use instance_connect_core::imds::TokenKey;
use instance_connect_core::link::{Grant, InstanceFacts, ServerFrame, StockSigners, limits};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Below the run directory; the agent's alone.
const DIRECTORY: &str = "stock";

/// The agent reads and writes; nobody else.
const MODE: u32 = 0o600;

const SIGNERS: &str = "signers";
const TOKEN_KEY: &str = "token.key";

/// The directory.
#[derive(Debug)]
pub(super) struct Kept(PathBuf);

/// A grant that was installed, and when it ends.
pub(super) struct KeptGrant {
    pub(super) grant: Grant,
    pub(super) deadline: BootInstant,
}

impl Kept {
    pub(super) fn open(run: &Path) -> io::Result<Self> {
        let directory = run.join(DIRECTORY);
        make_directory(&directory, 0o700)?;
        Ok(Self(directory))
    }

    /// The key of the tokens: that of the agent before, so that nobody who holds one has to begin anew.
    pub(super) fn token_key(&self) -> io::Result<TokenKey> {
        let path = self.0.join(TOKEN_KEY);
        let kept = files::read(&path, 32).ok().flatten().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = match kept {
            Some(key) => key,
            None => {
                let mut key = [0; 32];
                aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("there is no randomness"))?;
                self.write(TOKEN_KEY, &key)?;
                key
            }
        };
        Ok(TokenKey::new(key))
    }

    pub(super) fn signers(&self) -> Option<StockSigners> {
        match self.frame(SIGNERS)? {
            ServerFrame::StockSigners(signers) => Some(signers),
            _ => None,
        }
    }

    pub(super) fn keep_signers(&self, signers: &StockSigners) -> io::Result<()> {
        self.write(SIGNERS, &ServerFrame::StockSigners(signers.clone()).encode())
    }

    /// What is known of instances.
    pub(super) fn facts(&self) -> io::Result<Vec<InstanceFacts>> {
        let of = |instance: InstanceId| match self.frame(instance.as_str())? {
            ServerFrame::Instance(facts) if facts.instance == instance => Some(facts),
            _ => None,
        };
        Ok(self.named()?.into_iter().filter_map(of).collect())
    }

    pub(super) fn keep_facts(&self, facts: &InstanceFacts) -> io::Result<()> {
        self.write(facts.instance.as_str(), &ServerFrame::Instance(facts.clone()).encode())
    }

    pub(super) fn forget_facts(&self, instance: &InstanceId) -> io::Result<()> {
        self.forget(instance.as_str())
    }

    pub(super) fn keep_grant(
        &self,
        request: &RequestId,
        grant: &Grant,
        deadline: BootInstant,
    ) -> io::Result<()> {
        let frame = ServerFrame::Grant(grant.clone()).encode();
        self.write(request.as_str(), &[&deadline.0.to_be_bytes()[..], &frame].concat())
    }

    pub(super) fn forget_grant(&self, request: &RequestId) -> io::Result<()> {
        self.forget(request.as_str())
    }

    /// The grants of this boot that were kept, with the requests that they are named after. What is none is removed.
    pub(super) fn grants(&self, boot: &BootId, now: BootInstant) -> io::Result<Vec<(RequestId, KeptGrant)>> {
        let of_this_boot = format!("\n#Boot={boot}\n");
        let is_live =
            |kept: &KeptGrant| kept.deadline > now && kept.grant.document.as_str().contains(&of_this_boot);
        let mut grants = Vec::new();
        for request in self.named::<RequestId>()? {
            match self.grant(&request).filter(is_live) {
                Some(kept) => grants.push((request, kept)),
                None => self.forget_grant(&request)?,
            }
        }
        Ok(grants)
    }

    /// All that is kept ends that much earlier.
    pub(super) fn shorten(&self, by: Duration) -> io::Result<()> {
        let mut outcome = Ok(());
        for request in self.named()? {
            // One that cannot be given its end is better gone, and one that fails keeps none of the others.
            let shortened = match self.grant(&request) {
                Some(KeptGrant { grant, deadline }) => self.keep_grant(&request, &grant, deadline.before(by)),
                None => Err(io::ErrorKind::InvalidData.into()),
            };
            outcome = shortened.or_else(|_| self.forget_grant(&request)).and(outcome);
        }
        outcome
    }

    /// What files are named after, of one kind.
    fn named<T: FromStr>(&self) -> io::Result<Vec<T>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    fn grant(&self, request: &RequestId) -> Option<KeptGrant> {
        let bytes = self.read(request.as_str())?;
        let (deadline, frame) = bytes.split_first_chunk()?;
        match ServerFrame::decode(frame).ok()?? {
            ServerFrame::Grant(grant) => {
                Some(KeptGrant { grant, deadline: BootInstant(u64::from_be_bytes(*deadline)) })
            }
            _ => None,
        }
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn frame(&self, name: &str) -> Option<ServerFrame> {
        ServerFrame::decode(&self.read(name)?).ok()?
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        files::read(&self.0.join(name), limits::FRAME as u64 + 8).ok().flatten()
    }

    /// Whole or not at all. There is no sync, for nothing outlives the boot.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.0.join(UNFINISHED);
        files::create(&unfinished, bytes, MODE)?;
        fs::rename(unfinished, self.0.join(name))
    }
}
