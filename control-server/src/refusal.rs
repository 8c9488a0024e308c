//! Why the server does not do what a node or an administrator asked for, as a sentence and as a code.

use weft_core::{control::ErrorCode, keys::NodeKey};

/// A request was refused; nothing was changed by it. The text is for a person: what happened and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The machine is new and brought no join key.
    #[error("this server does not know this machine: join with a join key, which `weft-control key create` makes")]
    UnknownMachine,
    /// The machine's node was removed and it brought no join key.
    #[error("this machine was removed from the network: to join again, it needs a new join key")]
    NodeRemoved,
    /// No join key has this secret.
    #[error("this join key is not known to this server: ask the network's owner for a new one")]
    JoinKeyUnknown,
    /// The join key is past its time.
    #[error("this join key has expired: ask the network's owner for a new one")]
    JoinKeyExpired,
    /// The join key is for one use, and another node used it.
    #[error("this join key is for one use and was used already: ask the network's owner for a new one")]
    JoinKeyUsed,
    /// An administrator revoked the join key.
    #[error("this join key was revoked: ask the network's owner for a new one")]
    JoinKeyRevoked,
    /// The node's key is past its time.
    #[error("the key of this node has expired: join again with a new join key")]
    NodeKeyExpired,
    /// The node key belongs to another machine, for life.
    #[error("the node key {0} belongs to another machine: a machine has to make a node key of its own")]
    NodeKeyTaken(NodeKey),
    /// The node did not prove that it holds the secret of its node key.
    #[error("the machine did not prove that it holds the secret of its node key")]
    NodeKeyProof,
    /// The address pool is used up.
    #[error("the network has no address left: remove nodes that are not needed any more")]
    AddressesExhausted,
    /// The node left by its own wish.
    #[error("this machine has logged out: to join again, it needs a join key")]
    LoggedOut,
    /// An administrator ended the node's key.
    #[error("an administrator expired the key of this node: join again with a new join key")]
    NodeExpiredByAdmin,
    /// The same machine connected again.
    #[error("this machine connected again, and the new connection replaces this one")]
    Replaced,
    /// The server is going down.
    #[error("the control server is stopping: connections come back when it runs again")]
    ShuttingDown,
    /// There is as much to do as the server takes on.
    #[error("the control server is busy: try again in a moment")]
    Busy,
    /// No such user.
    #[error("there is no user `{0}`: `weft-control user create {0}` makes one")]
    NoSuchUser(String),
    /// A user of this name is there.
    #[error("there is a user `{0}` already")]
    UserExists(String),
    /// Not a user's name.
    #[error(
        "`{0}` cannot be a user's name: use up to 63 letters, digits and `._@+-`, beginning with a letter or digit"
    )]
    BadUserName(String),
    /// Not a tag.
    #[error("`{0}` is not a tag: a tag looks like `tag:server`, in lower-case letters, digits and hyphens")]
    BadTag(String),
    /// More tags than fit into a record.
    #[error("these are too many tags for one node: use fewer or shorter ones (about 500 characters together)")]
    TooManyTags,
    /// Not a time span.
    #[error("`{0}` is not a time span: write it like `30m`, `24h` or `90d`")]
    BadDuration(String),
    /// No such join key.
    #[error("there is no join key with the id {0}: `weft-control key list` shows them")]
    NoSuchJoinKey(u64),
    /// No such node.
    #[error("there is no node `{0}`: `weft-control node list` shows them")]
    NoSuchNode(String),
    /// The name of one node and the id of another.
    #[error(
        "`{0}` is the name of one node and the id of another: say which by its address, as in `weft-control node list`"
    )]
    AmbiguousNode(String),
    /// Another node has the name.
    #[error("another node is called `{0}` already: choose another name, or rename that one first")]
    NameTaken(String),
    /// Not a node's name.
    #[error("`{0}` cannot be a node's name: use up to 63 lower-case letters, digits and inner hyphens")]
    BadNodeName(String),
    /// The server's addresses do not fit into a join key, or are none.
    #[error("the server has no address that fits into a join key: start it once with `serve --url http://HOST:PORT`")]
    NoServerUrl,
    /// A key rotation in the wrong order.
    #[error("{0}")]
    Rotation(&'static str),
    /// The file for a backup cannot be written, or that of a restore not be read.
    #[error("{0}")]
    Backup(String),
    /// The disk is full.
    #[error("the control server's disk is full, so nothing was changed: free some space on it and try again")]
    DiskFull,
    /// The database failed.
    #[error("the control server's database failed, so nothing was changed: {0}")]
    Storage(String),
}

impl Refusal {
    /// The code that a node gets.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownMachine => ErrorCode::UnknownMachine,
            Self::NodeRemoved => ErrorCode::NodeRemoved,
            Self::JoinKeyUnknown => ErrorCode::JoinKeyUnknown,
            Self::JoinKeyExpired => ErrorCode::JoinKeyExpired,
            Self::JoinKeyUsed => ErrorCode::JoinKeyUsed,
            Self::JoinKeyRevoked => ErrorCode::JoinKeyRevoked,
            Self::NodeKeyExpired | Self::NodeExpiredByAdmin => ErrorCode::NodeKeyExpired,
            Self::NodeKeyTaken(_) => ErrorCode::NodeKeyTaken,
            Self::NodeKeyProof => ErrorCode::NodeKeyProof,
            Self::AddressesExhausted => ErrorCode::AddressesExhausted,
            Self::LoggedOut => ErrorCode::LoggedOut,
            Self::Replaced => ErrorCode::Replaced,
            Self::ShuttingDown => ErrorCode::ShuttingDown,
            Self::Busy => ErrorCode::Busy,
            Self::DiskFull | Self::Storage(_) => ErrorCode::StorageFailed,
            _ => ErrorCode::Internal,
        }
    }

    /// Whether the store itself failed, so that its connection must be opened anew.
    pub(crate) fn is_storage_failure(&self) -> bool {
        matches!(self, Self::DiskFull | Self::Storage(_))
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        /// The primary result code of SQLite for a full disk.
        const SQLITE_FULL: u32 = 13;

        let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
        if code.is_some_and(|code| code & 0xff == SQLITE_FULL) {
            Self::DiskFull
        } else {
            Self::Storage(error.to_string())
        }
    }
}
