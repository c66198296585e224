//! The commands of administration.

use crate::arguments::OutputFormat;
use clap::{Args, Subcommand, ValueEnum};
use instance_connect_core::ids::{
    AccessKeyId, AccountId, AvailabilityZone, Fingerprint, GroupName, ImageId, InstanceId, InstanceType,
    OsUser, PolicyName, UserName,
};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Administration of a self-hosted service.
#[derive(Subcommand)]
pub(crate) enum Administration {
    /// Administer accounts, and what your account has switched on
    Account(AccountOptions),
    /// Show and change what your account has switched on
    Settings(SettingsOptions),
    /// Administer users: who may call
    User(UserOptions),
    /// Administer groups of users
    Group(GroupOptions),
    /// Administer policies: who may do what
    Policy(PolicyOptions),
    /// Administer access keys: what callers sign with
    AccessKey(AccessKeyOptions),
    /// Administer instances: the machines that keys are pushed to
    Instance(InstanceOptions),
    /// See the machines' agents, revoke them and arm them again
    Agent(AgentOptions),
    /// Take pushed keys from the machines before their minute is over
    ///
    /// A key is refused from the answer on, and so is every push of it that was signed before. Logins that are open stay open; to
    /// refuse new pushes too, suspend the user first. What could not be reached is withdrawn as soon as its agent is back, and expires
    /// within its minute in any case.
    Revoke(RevokeOptions),
    /// Have machines trust who signs for the distributions' own host package
    Signer(SignerOptions),
}

/// How an answer is shown.
#[derive(Args, Clone, Copy)]
pub(crate) struct Format {
    /// Words for people, or the service's answer as JSON
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: OutputFormat,
}

/// `key=value`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Tag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("a tag is written key=value")?;
        if key.is_empty() {
            return Err("a tag needs a key in front of its =".to_owned());
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Accounts, for administrators of the management account; and what an account has switched on
#[derive(Subcommand)]
pub(crate) enum Account {
    /// Make an account, and print the access key of its root this once
    Create {
        /// Its id, 12 digits [default: a random one]
        #[arg(value_name = "ACCOUNT")]
        id: Option<AccountId>,
    },
    /// List the accounts
    List,
    /// Refuse all calls of an account's principals, within a second
    Suspend {
        #[arg(value_name = "ACCOUNT")]
        id: AccountId,
    },
    /// Take a suspended account back into use
    Activate {
        #[arg(value_name = "ACCOUNT")]
        id: AccountId,
    },
    /// Switch the serial console of your account's instances on or off, or see whether it is on
    SerialConsole { access: SerialConsole },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SerialConsole {
    Enable,
    Disable,
    Status,
}

/// What your account has switched on
#[derive(Subcommand)]
pub(crate) enum AccountSettings {
    /// Show the settings
    Show,
    /// Change settings
    Set {
        /// Whether the serial console of your account's instances may be used
        #[arg(long, value_name = "on|off", value_parser = switch, action = clap::ArgAction::Set, required = true)]
        serial_console_access: bool,
    },
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("it is on or off".to_owned()),
    }
}

/// The people and programs who may call
#[derive(Subcommand)]
pub(crate) enum User {
    /// Make a user. It may do nothing until a policy says so, and has no access key yet
    Create {
        #[arg(value_name = "USER")]
        name: UserName,
        /// A tag, which policies can ask for
        #[arg(long = "tag", value_name = "KEY=VALUE")]
        tags: Vec<Tag>,
    },
    /// List the users
    List,
    /// Show a user with its groups, policies and tags
    Show {
        #[arg(value_name = "USER")]
        name: UserName,
    },
    /// Refuse all calls of a user, within a second
    Suspend {
        #[arg(value_name = "USER")]
        name: UserName,
    },
    /// Take a suspended user back into use
    Activate {
        #[arg(value_name = "USER")]
        name: UserName,
    },
    /// Set tags; others stay
    Tag {
        #[arg(value_name = "USER")]
        name: UserName,
        #[arg(value_name = "KEY=VALUE", required = true)]
        tags: Vec<Tag>,
    },
    /// Take tags away
    Untag {
        #[arg(value_name = "USER")]
        name: UserName,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Let a user do at most what this managed policy allows, whatever its other policies say
    SetBoundary {
        #[arg(value_name = "USER")]
        name: UserName,
        /// Its name or ARN
        #[arg(value_name = "POLICY")]
        policy: String,
    },
    /// Take the permissions boundary away
    RemoveBoundary {
        #[arg(value_name = "USER")]
        name: UserName,
    },
}

/// Groups, whose policies hold for each of their members
#[derive(Subcommand)]
pub(crate) enum Group {
    /// Make a group
    Create {
        #[arg(value_name = "GROUP")]
        name: GroupName,
    },
    /// List the groups
    List,
    /// Show a group with its members and policies
    Show {
        #[arg(value_name = "GROUP")]
        name: GroupName,
    },
    /// Delete a group that has neither members nor policies
    Delete {
        #[arg(value_name = "GROUP")]
        name: GroupName,
    },
    /// Put a user into a group
    Add {
        #[arg(value_name = "GROUP")]
        name: GroupName,
        user: UserName,
    },
    /// Take a user out of a group
    Remove {
        #[arg(value_name = "GROUP")]
        name: GroupName,
        user: UserName,
    },
}

/// Whose policy it is.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Owner {
    /// Of this user
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<UserName>,
    /// Of this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<GroupName>,
}

/// Who may do what: managed policies, which are attached, and inline ones of one user or group
#[derive(Subcommand)]
pub(crate) enum Policy {
    /// Make a managed policy
    Create {
        #[arg(value_name = "POLICY")]
        name: PolicyName,
        /// The document: a JSON file, or `-` for standard input
        #[arg(value_name = "FILE")]
        document: String,
    },
    /// Replace the document of a managed policy, wherever it is attached
    Update {
        /// Its name or ARN
        #[arg(value_name = "POLICY")]
        policy: String,
        /// The document: a JSON file, or `-` for standard input
        #[arg(value_name = "FILE")]
        document: String,
    },
    /// Delete a managed policy that is attached nowhere
    Delete {
        /// Its name or ARN
        #[arg(value_name = "POLICY")]
        policy: String,
    },
    /// List the managed policies
    List,
    /// Show the document of a managed policy, or with --user or --group of an inline one
    Show {
        /// Its name; for a managed policy also its ARN
        #[arg(value_name = "POLICY")]
        policy: String,
        /// The inline policy of this user
        #[arg(long, value_name = "USER", conflicts_with = "group")]
        user: Option<UserName>,
        /// The inline policy of this group
        #[arg(long, value_name = "GROUP")]
        group: Option<GroupName>,
    },
    /// Give a user or group an inline policy, in place of one of the same name
    Put {
        #[arg(value_name = "POLICY")]
        name: PolicyName,
        /// The document: a JSON file, or `-` for standard input
        #[arg(value_name = "FILE")]
        document: String,
        #[command(flatten)]
        owner: Owner,
    },
    /// Take an inline policy away
    Remove {
        #[arg(value_name = "POLICY")]
        name: PolicyName,
        #[command(flatten)]
        owner: Owner,
    },
    /// Attach a managed policy
    Attach {
        /// Its name or ARN
        #[arg(value_name = "POLICY")]
        policy: String,
        #[command(flatten)]
        owner: Owner,
    },
    /// Ask whether a user may push, and why: exits 0 if so, and else 1
    Test {
        /// Who
        #[arg(long, value_name = "USER")]
        user: UserName,
        /// What
        #[arg(long, value_name = "ACTION", default_value = "SendSSHPublicKey")]
        action: String,
        /// To which machine
        #[arg(long, value_name = "INSTANCE")]
        instance: InstanceId,
        /// For whom there; not for the serial console
        #[arg(long, value_name = "NAME")]
        os_user: Option<OsUser>,
        /// As if: aws:SourceIp=192.0.2.1, aws:SecureTransport=true, aws:UserAgent=… [default: as this call]
        #[arg(long, value_name = "KEY=VALUE")]
        context: Vec<Tag>,
        /// Answer from an inventory file (`instance-connect export`), without asking the service
        #[arg(long, requires = "file")]
        offline: bool,
        /// The file, for --offline
        #[arg(short, long, value_name = "FILE", requires = "offline")]
        file: Option<String>,
    },
    /// Detach a managed policy
    Detach {
        /// Its name or ARN
        #[arg(value_name = "POLICY")]
        policy: String,
        #[command(flatten)]
        owner: Owner,
    },
}

/// What callers sign with: at most two of each user, so that one can replace the other
#[derive(Subcommand)]
pub(crate) enum AccessKey {
    /// Make an access key, and print its secret this once
    Create {
        /// Whose [default: your own]
        #[arg(long, value_name = "USER")]
        user: Option<UserName>,
    },
    /// List the access keys
    List {
        /// Whose [default: your own]
        #[arg(long, value_name = "USER")]
        user: Option<UserName>,
    },
    /// Take a disabled access key back into use
    Activate {
        #[arg(value_name = "KEY")]
        id: AccessKeyId,
        /// Whose [default: your own]
        #[arg(long, value_name = "USER")]
        user: Option<UserName>,
    },
    /// Refuse all calls with an access key, within a second
    Deactivate {
        #[arg(value_name = "KEY")]
        id: AccessKeyId,
        /// Whose [default: your own]
        #[arg(long, value_name = "USER")]
        user: Option<UserName>,
    },
    /// Delete an access key
    Delete {
        #[arg(value_name = "KEY")]
        id: AccessKeyId,
        /// Whose [default: your own]
        #[arg(long, value_name = "USER")]
        user: Option<UserName>,
    },
}

/// Machines that keys can be pushed to
#[derive(Subcommand)]
pub(crate) enum Instance {
    /// Make an instance; `instance token` then lets a machine become it
    Create {
        /// The zone it is in, such as us-east-1a
        #[arg(long, value_name = "NAME")]
        availability_zone: AvailabilityZone,
        /// Its id [default: a random one]
        #[arg(long, value_name = "INSTANCE")]
        id: Option<InstanceId>,
        /// A tag, which policies can ask for
        #[arg(long = "tag", value_name = "KEY=VALUE")]
        tags: Vec<Tag>,
        #[command(flatten)]
        details: Details,
    },
    /// List the instances, with their agents' links
    List,
    /// Show an instance
    Show {
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
    },
    /// Accept the host keys that a machine's agent has reported since the first ones were pinned
    Set {
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
        /// From now on clients are told these. Compare them with what the machine itself shows:
        /// `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`
        #[arg(long, required = true)]
        accept_host_keys: bool,
        /// Take those of the keys that this other instance has claimed
        ///
        /// For where its agent has reported keys that are not its own. It keeps what other keys it has.
        #[arg(long, value_name = "INSTANCE")]
        take_from: Option<InstanceId>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Say which state an instance is in; only to a running one keys are pushed
    SetState {
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
        #[arg(value_parser = ["pending", "running", "shutting-down", "terminated", "stopping", "stopped"])]
        state: String,
    },
    /// Say which instance's agent answers for an instance: a hypervisor's for its guest's
    ///
    /// Keys that are pushed to the guest then go to the host's agent, and nothing of ours runs in the guest. A host is another
    /// instance of the account and region, and no guest itself. You need the right to this for both instances: the host is
    /// given work, and the guest's keys.
    #[command(after_help = "\
  instance-connect instance set-host i-0123456789abcdef0 i-0fedcba9876543210   the first is a guest of the second
  instance-connect instance set-host i-0123456789abcdef0 --none               its own agent answers for it again")]
    SetHost {
        /// The guest
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
        /// The instance whose agent answers for it
        #[arg(value_name = "HOST", required_unless_present = "none", conflicts_with = "none")]
        host: Option<InstanceId>,
        /// Its own agent
        #[arg(long)]
        none: bool,
    },
    /// Say what kind of machine an instance is and where it is found; what is not given is not said any more
    SetDetails {
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
        #[command(flatten)]
        details: Details,
    },
    /// Pin the addresses that an instance's agent says: from then on they are your word, whatever it says
    ///
    /// Where you have said no address of an instance, those that its agent says are shown by EC2's API and used by ssh. An agent
    /// can say what it likes; compare them with what the machine itself shows: `ip address`
    PinFacts {
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Set tags; others stay
    Tag {
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
        #[arg(value_name = "KEY=VALUE", required = true)]
        tags: Vec<Tag>,
    },
    /// Take tags away
    Untag {
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
    /// Print a join token: whoever has it within 15 minutes can enrol one machine as this instance
    Token {
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
        /// Print a cloud-config that enrols the machine at its first boot
        #[arg(long, requires = "server")]
        cloud_init: bool,
        /// The control plane's agents listener, for --cloud-init
        #[arg(long, value_name = "https://HOST:PORT")]
        server: Option<String>,
    },
}

/// What is said of an instance, for people and tools that look it up
#[derive(Args)]
pub(crate) struct Details {
    /// What kind of machine it is, such as t3.micro
    #[arg(long, value_name = "TYPE")]
    pub(crate) instance_type: Option<InstanceType>,
    /// The image it was made from
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image_id: Option<ImageId>,
    /// Its IPv4 address within its network
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) private_ip: Option<Ipv4Addr>,
    /// Its IPv4 address in the internet
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) public_ip: Option<Ipv4Addr>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ipv6: Option<Ipv6Addr>,
}

/// The machines' agents
#[derive(Subcommand)]
pub(crate) enum Agent {
    /// List the agents, with the state and generation of their identity and whether their link is open
    List,
    /// Refuse a machine's identity from now on, until it is enrolled again
    ///
    /// Its link is closed at once. Keys that it has live for their minute; see `revoke` to withdraw them first.
    Revoke {
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
    },
    /// Take an identity back into use that was suspended because two machines held it
    ///
    /// Remove the machine that should not have it first. The first one that comes back is given a new certificate, and the
    /// identity is suspended again if another comes after it. Where the other machine may still have the identity, enrol the
    /// right one again instead: `instance token`, then `instance-connect-agent enroll --replace` on it.
    #[command(name = "re-arm")]
    Rearm {
        #[arg(value_name = "INSTANCE")]
        id: InstanceId,
    },
}

/// Who signs what the distributions' own host package `ec2-instance-connect` reads of the metadata service
#[derive(Subcommand)]
pub(crate) enum Signer {
    /// Print the root certificate that machines with that package have to trust
    #[command(after_help = SIGNER_CA_STEPS)]
    Ca,
}

/// What is to be done with the root certificate. Debian's program makes of the name of a file here the one that the stock
/// scripts look for: the certificate's common name with `_` for each blank, and `.pem` (wire.md 3.6).
pub(super) const SIGNER_CA_STEPS: &str = "\
Keep it as Instance_Connect_signer_root.pem, and copy it to each machine that has the package. There, as root,
on Debian and Ubuntu (the scripts look for the file by exactly this name):
  install -m 644 Instance_Connect_signer_root.pem /usr/local/share/ca-certificates/Instance_Connect_signer_root.crt
  update-ca-certificates
on RHEL, Fedora and Amazon Linux:
  install -m 644 Instance_Connect_signer_root.pem /etc/pki/ca-trust/source/anchors/
  update-ca-trust
It vouches for the signer's one name and for nothing else.";

/// A command of administration, with how its answer is shown.
macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $command:ty;)*) => {
        $(
            $(#[$doc])*
            #[derive(Args)]
            #[command(arg_required_else_help = true)]
            pub(crate) struct $name {
                #[command(subcommand)]
                pub(crate) command: $command,
                #[command(flatten)]
                pub(crate) format: Format,
            }
        )*
    };
}

options! {
    AccountOptions: Account;
    SettingsOptions: AccountSettings;
    UserOptions: User;
    GroupOptions: Group;
    PolicyOptions: Policy;
    AccessKeyOptions: AccessKey;
    InstanceOptions: Instance;
    AgentOptions: Agent;
    SignerOptions: Signer;
}

#[derive(Args)]
#[command(after_help = "\
  instance-connect revoke --user alice                     all that alice has pushed, on every machine
  instance-connect revoke --instance i-0123456789abcdef0   all on one machine
  instance-connect revoke --instance i-0123456789abcdef0 --fingerprint SHA256:…   one key")]
pub(crate) struct RevokeOptions {
    /// Keys that this user has pushed
    #[arg(long, value_name = "USER", required_unless_present = "instance")]
    pub(crate) user: Option<UserName>,
    /// Keys on this machine
    #[arg(long, value_name = "INSTANCE")]
    pub(crate) instance: Option<InstanceId>,
    /// This key, as `ssh-keygen -l` shows it
    #[arg(long, value_name = "SHA256:…", requires = "instance")]
    pub(crate) fingerprint: Option<Fingerprint>,
    #[command(flatten)]
    pub(crate) format: Format,
}
