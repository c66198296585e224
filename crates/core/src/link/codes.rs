//! The numbers in frames that stand for a reason, and the capability bits.

macro_rules! codes {
    (
        $(#[$doc:meta])* $name:ident, $other:literal,
        { $($(#[$variant_doc:meta])* $variant:ident = $code:literal, $label:literal;)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A code this version does not know.
            Other(u8),
        }

        impl $name {
            /// The code on the wire.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// What the code on the wire stands for.
            pub const fn from_code(code: u8) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    _ => Self::Other(code),
                }
            }

            /// The name in `docs/link.md`, for logs, metrics and the audit.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                    Self::Other(_) => $other,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        #[cfg(test)]
        impl $name {
            /// Each code of this version.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];
        }
    };
}

pub(crate) use codes;

codes! {
    /// Why an agent refuses a grant.
    Refusal, "unknown_reason", {
        /// No clock sample younger than 30 s.
        NoClock = 1, "no_clock";
        /// The deadline has passed.
        Expired = 2, "expired";
        /// The deadline is further away than a key may live.
        TooLong = 3, "too_long";
        /// Not one well-formed section.
        Malformed = 4, "malformed";
        /// No statement for its signer that an anchor vouches for.
        SignerUntrusted = 5, "signer_untrusted";
        /// The signature does not verify.
        BadSignature = 6, "bad_signature";
        /// Made for another instance.
        WrongInstance = 7, "wrong_instance";
        /// Made for another boot of this machine.
        WrongBoot = 8, "wrong_boot";
        /// The host's own rules do not allow this OS user.
        Vetoed = 9, "vetoed";
        /// As many live keys of this OS user as may be.
        UserFull = 10, "user_full";
        /// As many live keys on this machine as may be.
        InstanceFull = 11, "instance_full";
        /// A withdrawal of this request came first.
        Withdrawn = 12, "withdrawn";
        /// The file could not be written.
        Storage = 13, "storage";
        /// Too many withdrawals to remember.
        Busy = 14, "busy";
        /// A signature for the metadata service that is not its signer's, or none of a signer that is in force.
        StockSignature = 15, "stock_signature";
        /// For a guest whose metadata service cannot be asked now.
        NotServed = 16, "not_served";
    }
}

codes! {
    /// Why a side ends the link.
    GoodbyeCode, "unknown_code", {
        /// The process ends or drains.
        ShuttingDown = 1, "shutting_down";
        /// The peer broke the protocol.
        ProtocolError = 2, "protocol_error";
        /// The peer sent a critical frame this side does not know.
        UnknownFrame = 3, "unknown_frame";
        /// No protocol version in common.
        VersionUnsupported = 4, "version_unsupported";
        /// The same identity opened another link.
        Replaced = 5, "replaced";
        /// The identity is no longer the instance's.
        IdentityRevoked = 6, "identity_revoked";
        /// Nothing was heard for too long.
        Idle = 7, "idle";
        /// Too many links, or too much on this one.
        Overloaded = 8, "overloaded";
        /// Something failed on this side.
        InternalError = 9, "internal_error";
        /// Two machines seem to hold the identity.
        IdentitySuspended = 10, "identity_suspended";
        /// The certificate of the link has ended.
        CertificateExpired = 11, "certificate_expired";
    }
}

codes! {
    /// Why an agent opens no stream.
    StreamRefusal, "unknown_reason", {
        /// It has no such line.
        NoSuchLine = 1, "no_such_line";
        /// The line cannot be opened.
        LineFailed = 2, "line_failed";
        /// Somebody else writes to the line.
        Occupied = 3, "occupied";
        /// As many streams as may be.
        Overloaded = 4, "overloaded";
        /// The control plane could not be reached for the stream.
        Unreachable = 5, "unreachable";
    }
}

impl GoodbyeCode {
    /// Whether coming back soon cannot help: the agent then takes the longest wait.
    pub const fn is_lasting(self) -> bool {
        match self {
            Self::ProtocolError
            | Self::UnknownFrame
            | Self::VersionUnsupported
            | Self::Replaced
            | Self::IdentityRevoked
            | Self::IdentitySuspended
            | Self::CertificateExpired => true,
            Self::ShuttingDown | Self::Idle | Self::Overloaded | Self::InternalError | Self::Other(_) => {
                false
            }
        }
    }
}

/// What a side can do beyond the protocol version: a set of bits, unknown ones kept and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u32);

impl Capabilities {
    /// Nothing beyond the protocol version.
    pub const NONE: Self = Self(0);

    /// The agent serves the metadata service to its machine.
    pub const METADATA: Self = Self(1);

    /// The side knows the frames by which certificates are renewed.
    pub const RENEWAL: Self = Self(1 << 1);

    /// The server takes reports of SSH host keys.
    pub const HOST_KEYS: Self = Self(1 << 2);

    /// The server takes reports of host facts.
    pub const HOST_FACTS: Self = Self(1 << 3);

    /// The server takes reports of serial lines, and the agent opens streams (docs/stream.md).
    pub const STREAMS: Self = Self(1 << 4);

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
