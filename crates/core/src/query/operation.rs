//! The table of operations of the query protocol.

use crate::operations::operations;

/// A service of the query protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// EC2.
    Ec2,
    /// The Security Token Service.
    Sts,
}

impl Service {
    /// Every service there is.
    pub const ALL: [Self; 2] = [Self::Ec2, Self::Sts];

    /// The name in credential scopes, and before the colon of actions.
    pub const fn signing_name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Sts => "sts",
        }
    }

    /// The one version of its API that is spoken.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Ec2 => "2016-11-15",
            Self::Sts => "2011-06-15",
        }
    }

    /// The XML namespace of its answers.
    pub(crate) const fn namespace(self) -> &'static str {
        match self {
            Self::Ec2 => "http://ec2.amazonaws.com/doc/2016-11-15/",
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
        }
    }

    /// The content type of its answers.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Ec2 => "text/xml;charset=UTF-8",
            Self::Sts => "text/xml",
        }
    }
}

operations! {
    /// An operation of the query protocol.
    #[expect(missing_docs, reason = "the names are EC2's, and docs/wire.md 9.3 has the rest")]
    pub enum Operation;

    "ec2";

    // Instances as clients look them up.
    DescribeInstances, Read, Any;
    DescribeInstanceTypes, Read, Any;
    DescribeTags, Read, Any;

    // Where they are.
    DescribeRegions, Read, Any;

    // The switch of the caller's account.
    GetSerialConsoleAccessStatus, Read, Any;
    EnableSerialConsoleAccess, Write, Any;
    DisableSerialConsoleAccess, Write, Any;

    // What the inventory says of instances. Nothing is done to a machine.
    CreateTags, Write, Instance;
    DeleteTags, Write, Instance;
    StartInstances, Write, Instance;
    StopInstances, Write, Instance;
    TerminateInstances, Write, Instance;

    "sts";

    // Who calls.
    GetCallerIdentity, Read, Any;
}

impl Operation {
    /// Whose it is.
    pub const fn service(self) -> Service {
        match self {
            Self::GetCallerIdentity => Service::Sts,
            Self::DescribeInstances
            | Self::DescribeInstanceTypes
            | Self::DescribeTags
            | Self::DescribeRegions
            | Self::GetSerialConsoleAccessStatus
            | Self::EnableSerialConsoleAccess
            | Self::DisableSerialConsoleAccess
            | Self::CreateTags
            | Self::DeleteTags
            | Self::StartInstances
            | Self::StopInstances
            | Self::TerminateInstances => Service::Ec2,
        }
    }

    /// Whether policies are asked about it. GetCallerIdentity needs no permission, and nothing denies it: it tells callers
    /// nothing that their key does not.
    pub const fn is_judged(self) -> bool {
        matches!(self.service(), Service::Ec2)
    }
}
