//! Secrets at rest: AES-256-GCM under one master key that is never in the database.
//!
//! A sealed blob is `version 1 | key id 8 | nonce 12 | ciphertext | tag 16`. Version, key id and the identity of its row
//! are authenticated, so a blob that is moved to another row does not open there: whoever can write to the database but
//! lacks the master key cannot give a user another user's access key. The key id tells a wrong master key from damage,
//! and will tell old blobs from new ones when master keys rotate.
//!
//! Nonces are random. 2^32 blobs under one key are the bound for that (NIST SP 800-38D section 8.3), far beyond any
//! inventory.

use crate::AuthorityName;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::error::Unspecified;
use instance_connect_core::environment::Random;
use instance_connect_core::ids::{AccessKeyId, UserId};
use instance_connect_core::secret::Secret;
use instance_connect_planted::planted;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const KEY_LENGTH: usize = 32;
const KEY_ID_LENGTH: usize = 8;
const HEADER_LENGTH: usize = 1 + KEY_ID_LENGTH;

/// The key that everything secret in a store is sealed with. Whoever has it and the database has every secret.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; KEY_LENGTH]>);

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file could not be read.
    #[error(
        "cannot read the master key {}: {error}. Put it back from where it is kept, or say where it is (master_key)",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// Others could have read the key, so it may not be secret any more.
    #[error("the master key {} has mode {mode:04o}: others may use it; make a new one, or chmod 600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else can change it, and so knows the key or has chosen it.
    #[error("the master key {} belongs to user {owner}: it has to be root's or the service's own", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// The id of the user that it belongs to.
        owner: u32,
    },
    /// The file is not a key.
    #[error("the master key {} has to be exactly {KEY_LENGTH} bytes, raw", path.display())]
    Length {
        /// The file.
        path: PathBuf,
    },
}

impl MasterKey {
    /// The key with these bytes. They have to come from a cryptographically strong source.
    pub fn from_bytes(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads 32 raw bytes from a file that nobody but its owner may read or write. That is root, or the user of this
    /// process, whose id is `own_uid`.
    ///
    /// # Errors
    /// The file cannot be read, it belongs to somebody else, others may read or write it, or it is not a key.
    pub fn read_file(path: &Path, own_uid: u32) -> Result<Self, MasterKeyError> {
        Self::read(path, 0o077, own_uid)
    }

    /// Reads 32 raw bytes from a systemd credential, a file in `$CREDENTIALS_DIRECTORY`. Since version 254 systemd gives
    /// a service's own user access through an ACL, which shows as group-readable mode 0440 (systemd issue 29435); only
    /// that user can enter the directory.
    ///
    /// # Errors
    /// The file cannot be read, it belongs to somebody else, others may read or write it, or it is not a key.
    pub fn read_credential(path: &Path, own_uid: u32) -> Result<Self, MasterKeyError> {
        Self::read(path, 0o037, own_uid)
    }

    fn read(path: &Path, forbidden_mode: u32, own_uid: u32) -> Result<Self, MasterKeyError> {
        let failed = |error| MasterKeyError::Read { path: path.to_owned(), error };
        // The permissions of what was opened, not of what the path may name a moment later.
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
        if owner != 0 && owner != own_uid {
            return Err(MasterKeyError::Owner { path: path.to_owned(), owner });
        }
        if mode & forbidden_mode != 0 {
            return Err(MasterKeyError::Exposed { path: path.to_owned(), mode });
        }
        // Room for one byte too many, so that a longer file shows and the buffer never moves.
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_LENGTH + 1));
        file.take(KEY_LENGTH as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        let bytes =
            bytes.as_slice().try_into().map_err(|_| MasterKeyError::Length { path: path.to_owned() })?;
        Ok(Self::from_bytes(bytes))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Why a sealed secret does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It names another master key.
    #[error("the secret is sealed with another master key")]
    OtherMasterKey,
    /// It is no sealed secret, or one of a later version.
    #[error("the secret is not in a known sealed form")]
    Form,
    /// It was altered, or sealed for another row.
    #[error("the sealed secret was altered, or moved here from another row")]
    NotThisRow,
}

/// What a secret belongs to: the associated data of its blob. It names everything that must not change around the
/// secret while the secret stays.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SealedRow<'a> {
    /// The value that shows whether a master key is the right one.
    MasterKeyCheck,
    /// An access key. The user belongs to it: otherwise one's own key could be made an administrator's.
    AccessKey(&'a AccessKeyId, &'a UserId),
    /// An authority with its public part: otherwise a foreign certificate could be put beside our key.
    Authority(&'a AuthorityName, &'a [u8]),
}

impl fmt::Display for SealedRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MasterKeyCheck => f.write_str("master-key-check"),
            Self::AccessKey(key, user) => write!(f, "access-key/{key}/{user}"),
            Self::Authority(name, public) => {
                write!(f, "authority/{name}/")?;
                digest(&SHA256, public).as_ref().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// Seals and opens the secrets of one store.
pub(crate) struct Sealer {
    key: LessSafeKey,
    header: [u8; HEADER_LENGTH],
    random: Arc<dyn Random>,
}

impl Sealer {
    pub(crate) fn new(master_key: &MasterKey, random: Arc<dyn Random>) -> Result<Self, Unspecified> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, master_key.0.as_slice())?);
        Ok(Self { key, header: header(master_key), random })
    }

    pub(crate) fn seal(&self, row: SealedRow<'_>, secret: &Secret) -> Result<Vec<u8>, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce);
        let plain = secret.expose();
        // All room at once: a vector that grows would leave the plain text behind in freed memory.
        let mut blob = Vec::with_capacity(HEADER_LENGTH + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        blob.extend_from_slice(&self.header);
        blob.extend_from_slice(&nonce);
        blob.extend_from_slice(plain);
        let (_, body) = blob.split_at_mut(HEADER_LENGTH + NONCE_LEN);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, self.associated(row), body)?;
        blob.extend_from_slice(tag.as_ref());
        Ok(blob)
    }

    pub(crate) fn open(&self, row: SealedRow<'_>, blob: &[u8]) -> Result<Secret, SealError> {
        let (header, rest) = blob.split_first_chunk::<HEADER_LENGTH>().ok_or(SealError::Form)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Form)?;
        if header.first() != Some(&VERSION) {
            return Err(SealError::Form);
        }
        if *header != self.header {
            return Err(SealError::OtherMasterKey);
        }
        let mut opened = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.key.open_in_place(nonce, self.associated(row), &mut opened);
        plain.map(|plain| Secret::new(plain.to_vec())).map_err(|_| SealError::NotThisRow)
    }

    fn associated(&self, row: SealedRow<'_>) -> Aad<Vec<u8>> {
        let row = if planted("seal-without-row") { String::new() } else { row.to_string() };
        Aad::from([self.header.as_slice(), row.as_bytes()].concat())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

/// Version and key id: the beginning of every blob sealed with this key.
fn header(master_key: &MasterKey) -> [u8; HEADER_LENGTH] {
    let mut context = Context::new(&SHA256);
    context.update(b"instance-connect master key id\0");
    context.update(master_key.0.as_slice());
    let hash = context.finish();
    let mut header = [VERSION; HEADER_LENGTH];
    let (_, key_id) = header.split_at_mut(1);
    key_id.iter_mut().zip(hash.as_ref()).for_each(|(byte, hashed)| *byte = *hashed);
    header
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    use std::sync::atomic::{AtomicU8, Ordering};

    /// Different bytes each time, and the same in each run.
    #[derive(Debug, Default)]
    pub(crate) struct Counting(AtomicU8);

    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    fn sealer(key: u8) -> Sealer {
        Sealer::new(&MasterKey::from_bytes([key; 32]), Arc::new(Counting::default())).unwrap()
    }

    fn opened(sealer: &Sealer, row: SealedRow<'_>, blob: &[u8]) -> Result<Vec<u8>, SealError> {
        sealer.open(row, blob).map(|secret| secret.expose().to_vec())
    }

    #[test]
    fn sealed_secrets_open_in_their_row_only() {
        let sealer = sealer(1);
        let (key, other_key) =
            ("AKIAAAAAAAAAAAAAAAAA".parse().unwrap(), "AKIABBBBBBBBBBBBBBBB".parse().unwrap());
        let (user, other_user) =
            ("AIDAAAAAAAAAAAAAAAAA".parse().unwrap(), "AIDABBBBBBBBBBBBBBBB".parse().unwrap());
        let (name, other_name) = ("agents-ca".parse().unwrap(), "nodes-ca".parse().unwrap());
        let rows = [
            SealedRow::MasterKeyCheck,
            SealedRow::AccessKey(&key, &user),
            SealedRow::AccessKey(&other_key, &user),
            SealedRow::AccessKey(&key, &other_user),
            SealedRow::Authority(&name, b"certificate"),
            SealedRow::Authority(&other_name, b"certificate"),
            SealedRow::Authority(&name, b"other certificate"),
        ];
        for (sealed_at, sealed_row) in rows.iter().enumerate() {
            let blob = sealer.seal(*sealed_row, &Secret::new(b"secret".to_vec())).unwrap();
            for (opened_at, row) in rows.iter().enumerate() {
                let expected =
                    if sealed_at == opened_at { Ok(b"secret".to_vec()) } else { Err(SealError::NotThisRow) };
                assert_eq!(opened(&sealer, *row, &blob), expected, "{sealed_row} opened as {row}");
            }
        }
    }

    #[test]
    fn every_altered_byte_shows() {
        let sealer = sealer(1);
        let blob = sealer.seal(SealedRow::MasterKeyCheck, &Secret::new(b"secret".to_vec())).unwrap();
        assert_eq!(blob.len(), 1 + 8 + 12 + 6 + 16);
        for position in 0..blob.len() {
            let mut altered = blob.clone();
            altered[position] ^= 1;
            let expected = match position {
                0 => SealError::Form,
                1..=8 => SealError::OtherMasterKey,
                _ => SealError::NotThisRow,
            };
            assert_eq!(
                opened(&sealer, SealedRow::MasterKeyCheck, &altered),
                Err(expected),
                "byte {position}"
            );
        }
        for length in 0..blob.len() {
            assert!(opened(&sealer, SealedRow::MasterKeyCheck, &blob[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn blobs_of_other_keys_say_so_and_nonces_differ() {
        let (ours, theirs) = (sealer(1), sealer(2));
        let secret = Secret::new(b"secret".to_vec());
        let blob = ours.seal(SealedRow::MasterKeyCheck, &secret).unwrap();
        assert_eq!(opened(&theirs, SealedRow::MasterKeyCheck, &blob), Err(SealError::OtherMasterKey));
        assert_ne!(ours.seal(SealedRow::MasterKeyCheck, &secret).unwrap(), blob);
    }

    #[test]
    fn blobs_of_version_1_stay_what_they_are() {
        // Made with Python's `cryptography`: key 32 × 01, nonce 12 × 00.
        let expected =
            "014417456c73325192000000000000000000000000cc50fbae104f901d3c60fced7f2c83d9187d9f0f4f7f";
        let blob = sealer(1).seal(SealedRow::MasterKeyCheck, &Secret::new(b"secret".to_vec())).unwrap();
        assert_eq!(blob.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
    }

    #[test]
    fn master_keys_are_read_from_private_files_only() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, mode: u32, bytes: &[u8]| {
            let path = directory.path().join(name);
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
            io::Write::write_all(&mut file, bytes).unwrap();
            file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let key = [7; 32];
        let own = std::fs::metadata(directory.path()).unwrap().uid();
        for (mode, as_file, as_credential) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o440, false, true),
            (0o640, false, true),
            (0o660, false, false),
            (0o604, false, false),
            (0o601, false, false),
            (0o644, false, false),
        ] {
            let path = write(&format!("{mode:o}"), mode, &key);
            for (read, accepted) in [
                (MasterKey::read_file(&path, own), as_file),
                (MasterKey::read_credential(&path, own), as_credential),
            ] {
                match read {
                    Ok(read) => assert!(accepted && *read.0 == key, "mode {mode:o}"),
                    Err(error) => {
                        assert!(
                            !accepted && matches!(error, MasterKeyError::Exposed { .. }),
                            "mode {mode:o}: {error}"
                        );
                        assert!(error.to_string().contains(&format!("mode 0{mode:o}")), "{error}");
                    }
                }
            }
        }
        for length in [0, 31, 33, 64] {
            let path = write(&format!("{length} bytes"), 0o600, &vec![7; length]);
            assert!(
                matches!(MasterKey::read_file(&path, own), Err(MasterKeyError::Length { .. })),
                "{length}"
            );
        }
        let missing = MasterKey::read_file(&directory.path().join("missing"), own);
        assert!(matches!(missing, Err(MasterKeyError::Read { .. })));
        // Root's is everybody's; another user's is only that one's.
        let path = write("of somebody else", 0o600, &key);
        if own == 0 {
            std::os::unix::fs::chown(&path, Some(4321), None).unwrap();
        }
        for read in [MasterKey::read_file(&path, own + 1), MasterKey::read_credential(&path, own + 1)] {
            assert!(matches!(read, Err(MasterKeyError::Owner { .. })), "{read:?}");
        }
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?} {:?}", MasterKey::from_bytes([7; 32]), sealer(7)), "MasterKey(…) Sealer(…)");
    }
}
