//! What a text is that is no acceptable key, in words for whoever sent it.

use std::fmt;

/// Why a key is refused. It says what the text is, and carries nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// A private key, or something with one in it.
    PrivateKey,
    /// The name of a file.
    FileName,
    /// Nothing that has the form of a key.
    NotAKey,
    /// The base64 of a key without its type.
    TypeMissing,
    /// A key with control characters in it.
    ControlCharacter,
    /// A key with line ends in it.
    BrokenLine,
    /// More than one key.
    SeveralKeys,
    /// A line with something before the key's type.
    Options,
    /// An OpenSSH certificate.
    Certificate,
    /// A DSA key.
    Dsa,
    /// A public key in one of OpenSSL's forms.
    Pem,
    /// An SSH2 block that does not follow RFC 4716.
    Ssh2Block,
    /// A key of a type that is not known here.
    UnknownType,
    /// A key of a known type that is not among the accepted ones.
    TypeNotAccepted,
    /// Base64 that is not a key of its type.
    Damaged,
    /// An RSA key of another size.
    RsaSize,
    /// An RSA key with an exponent or a modulus that no sound key has.
    UnsoundRsa,
    /// An ED25519 key that anybody can sign for.
    WeakEd25519,
    /// An ECDSA key whose point is not on its curve.
    OffCurve,
}

impl KeyError {
    /// What is wrong with the text, to be read behind a name for it.
    pub const fn problem(self) -> &'static str {
        self.words().0
    }

    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        self.words().1
    }

    const fn words(self) -> (&'static str, &'static str) {
        const WHOLE_LINE: &str =
            "send the whole line of the .pub file: key type, base64, and a comment if you like";
        const ONE_LINE: &str = "send it as one line of plain text, as it is in the .pub file";
        const OTHER_KEY: &str = "use another one, such as ssh-keygen -t ed25519 makes";
        match self {
            Self::PrivateKey => (
                "is a private key",
                "send the public key, which ssh-keygen -y prints, and stop using this pair: it has left its owner",
            ),
            Self::FileName => ("is the name of a file, not a key", "send what is in the .pub file"),
            Self::NotAKey => ("is not a public key", WHOLE_LINE),
            Self::TypeMissing => ("has no key type before its base64", WHOLE_LINE),
            Self::ControlCharacter => ("has control characters in it", ONE_LINE),
            Self::BrokenLine => ("is broken into several lines", ONE_LINE),
            Self::SeveralKeys => ("holds several keys", "send one at a time"),
            Self::Options => {
                ("begins with authorized_keys options", "send only the key type, the base64 and a comment")
            }
            Self::Certificate => {
                ("is a certificate", "send the public key it was made for, usually without -cert in its name")
            }
            Self::Dsa => ("is a DSA key", OTHER_KEY),
            Self::Pem => ("is in PEM format", "send what ssh-keygen -i -m PKCS8 (or -m PEM) makes of it"),
            Self::Ssh2Block => (
                "is an SSH2 block that is cut off or malformed",
                "send what ssh-keygen -i makes of the whole block",
            ),
            Self::UnknownType => ("has an unknown key type", OTHER_KEY),
            Self::TypeNotAccepted => ("has a key type that is not accepted here", OTHER_KEY),
            Self::Damaged => ("has base64 that is not a key of its type", WHOLE_LINE),
            Self::RsaSize => ("is an RSA key of another size than 2048, 3072 or 4096 bits", OTHER_KEY),
            Self::UnsoundRsa => ("is an RSA key with an unsound exponent or modulus", OTHER_KEY),
            Self::WeakEd25519 => ("is an ED25519 key that anybody can sign for", OTHER_KEY),
            Self::OffCurve => ("is an ECDSA key whose point is not on its curve", OTHER_KEY),
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it {}; {}", self.problem(), self.advice())
    }
}

impl std::error::Error for KeyError {}
