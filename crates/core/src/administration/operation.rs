//! The table of administrative operations.

use crate::operations::operations;

operations! {
    /// An administrative operation.
    #[expect(missing_docs, reason = "their names say it, and docs/administration.md the rest")]
    pub enum Operation;

    "instance-connect";

    // Accounts. For principals of the management account only.
    CreateAccount, Write, Any;
    ListAccounts, Read, Any;
    UpdateAccount, Write, Account;

    // Settings of the caller's account.
    EnableSerialConsoleAccess, Write, Any;
    DisableSerialConsoleAccess, Write, Any;
    GetSerialConsoleAccessStatus, Read, Any;

    // Everything that IAM knows of the caller's account.
    GetAccountAuthorizationDetails, Read, Any;

    // Why a user may or may not push.
    SimulatePrincipalPolicy, Read, User;

    // Users.
    CreateUser, Write, User;
    GetUser, Read, User;
    ListUsers, Read, Any;
    UpdateUser, Write, User;
    TagUser, Write, User;
    UntagUser, Write, User;
    PutUserPolicy, Write, User;
    GetUserPolicy, Read, User;
    DeleteUserPolicy, Write, User;
    AttachUserPolicy, Write, User;
    DetachUserPolicy, Write, User;
    PutUserPermissionsBoundary, Write, User;
    DeleteUserPermissionsBoundary, Write, User;

    // Access keys, of a user or of the caller.
    CreateAccessKey, Write, User;
    ListAccessKeys, Read, User;
    UpdateAccessKey, Write, User;
    DeleteAccessKey, Write, User;

    // Groups.
    CreateGroup, Write, Group;
    GetGroup, Read, Group;
    ListGroups, Read, Any;
    DeleteGroup, Write, Group;
    AddUserToGroup, Write, Group;
    RemoveUserFromGroup, Write, Group;
    PutGroupPolicy, Write, Group;
    GetGroupPolicy, Read, Group;
    DeleteGroupPolicy, Write, Group;
    AttachGroupPolicy, Write, Group;
    DetachGroupPolicy, Write, Group;

    // Managed policies.
    CreatePolicy, Write, Policy;
    GetPolicy, Read, Policy;
    ListPolicies, Read, Any;
    UpdatePolicy, Write, Policy;
    DeletePolicy, Write, Policy;

    // Instances and their agents.
    CreateInstance, Write, Instance;
    DescribeInstances, Read, Any;
    SetInstanceState, Write, Instance;
    SetInstanceHost, Write, Instance;
    SetInstanceDetails, Write, Instance;
    CreateTags, Write, Instance;
    DeleteTags, Write, Instance;
    CreateJoinToken, Write, Instance;
    GetHostKeys, Read, Instance;
    AcceptHostKeys, Write, Instance;
    RevokeInstanceKeys, Write, Instance;
    RevokeUserKeys, Write, User;
    ListAgents, Read, Any;
    RevokeAgent, Write, Instance;
    RearmAgent, Write, Instance;

    // Serial consoles.
    DescribeSerialConsole, Read, Any;
    GetSerialConsoleSession, Read, Instance;
    WatchSerialConsole, Write, Instance;
    SendSerialBreak, Write, Instance;
    TerminateSerialConsoleSession, Write, Instance;

    // What machines with the distributions' own host package have to trust.
    GetSignerCertificate, Read, Any;

    // The audit log. Its name and members are CloudTrail's.
    LookupEvents, Read, Any;
}

impl Operation {
    /// Whether its answer holds a secret, which is told this once.
    pub const fn tells_a_secret(self) -> bool {
        matches!(self, Self::CreateAccount | Self::CreateAccessKey | Self::CreateJoinToken)
    }

    /// Whether it is for principals of the management account only.
    pub const fn is_for_the_management_account(self) -> bool {
        matches!(self, Self::CreateAccount | Self::ListAccounts | Self::UpdateAccount)
    }
}
