//! The kinds of keys there are, and which of them a control plane accepts.

use super::error::KeyError;
use serde::de::value::Error as NameError;
use serde::de::{Error as _, IntoDeserializer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::str::FromStr;

/// A type of key, named as `ssh-keygen -t` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// RSA of 2048, 3072 or 4096 bits.
    Rsa,
    /// ED25519.
    Ed25519,
    /// ECDSA on one of the three NIST curves.
    Ecdsa,
    /// ED25519 in a FIDO device.
    Ed25519Sk,
    /// ECDSA in a FIDO device.
    EcdsaSk,
}

/// The types of keys that are accepted, at least one. Those that AWS accepts are the default (wire.md 2.1); in a
/// configuration it is a list of names, on a command line the same names with commas between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeSet<KeyType>")]
pub struct KeyTypes(pub(super) BTreeSet<KeyType>);

impl KeyTypes {
    /// Every type there is.
    pub fn all() -> Self {
        use KeyType::{Ecdsa, EcdsaSk, Ed25519, Ed25519Sk, Rsa};
        Self(BTreeSet::from([Rsa, Ed25519, Ecdsa, Ed25519Sk, EcdsaSk]))
    }

    /// Those that sshd has host keys of.
    pub fn of_hosts() -> Self {
        Self(BTreeSet::from([KeyType::Rsa, KeyType::Ed25519, KeyType::Ecdsa]))
    }

    /// Whether it is among them.
    pub fn contains(&self, key_type: KeyType) -> bool {
        self.0.contains(&key_type)
    }
}

impl Default for KeyTypes {
    fn default() -> Self {
        Self(BTreeSet::from([KeyType::Rsa, KeyType::Ed25519]))
    }
}

impl TryFrom<BTreeSet<KeyType>> for KeyTypes {
    type Error = NameError;

    fn try_from(types: BTreeSet<KeyType>) -> Result<Self, NameError> {
        if types.is_empty() {
            Err(NameError::custom("at least one key type is needed"))
        } else {
            Ok(Self(types))
        }
    }
}

impl FromStr for KeyTypes {
    type Err = NameError;

    fn from_str(names: &str) -> Result<Self, NameError> {
        names
            .split(',')
            .map(|name| KeyType::deserialize(name.into_deserializer()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// What a key line and the blob in it name: a type, and for ECDSA its curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rsa,
    Ed25519,
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Ed25519Sk,
    EcdsaP256Sk,
}

impl Algorithm {
    const ALL: [Self; 7] = [
        Self::Rsa,
        Self::Ed25519,
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::EcdsaP521,
        Self::Ed25519Sk,
        Self::EcdsaP256Sk,
    ];

    /// The algorithm of this name, if it is accepted.
    pub(super) fn accepted(name: &[u8], accepted: &KeyTypes) -> Result<Self, KeyError> {
        if name.ends_with(b"-cert-v01@openssh.com") {
            return Err(KeyError::Certificate);
        }
        if name == b"ssh-dss" {
            return Err(KeyError::Dsa);
        }
        let algorithm = Self::ALL
            .into_iter()
            .find(|known| known.name().as_bytes() == name)
            .ok_or(KeyError::UnknownType)?;
        if accepted.contains(algorithm.key_type()) { Ok(algorithm) } else { Err(KeyError::TypeNotAccepted) }
    }

    /// Whether a key line can begin with this word, accepted or not.
    pub(super) fn is_name(word: &str) -> bool {
        Self::accepted(word.as_bytes(), &KeyTypes::all()) != Err(KeyError::UnknownType)
    }

    /// The name in the key line and in the blob.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rsa => "ssh-rsa",
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::Ed25519Sk => "sk-ssh-ed25519@openssh.com",
            Self::EcdsaP256Sk => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    const fn key_type(self) -> KeyType {
        match self {
            Self::Rsa => KeyType::Rsa,
            Self::Ed25519 => KeyType::Ed25519,
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => KeyType::Ecdsa,
            Self::Ed25519Sk => KeyType::Ed25519Sk,
            Self::EcdsaP256Sk => KeyType::EcdsaSk,
        }
    }
}
