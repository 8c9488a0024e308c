//! The conversation between the command line and the daemon: JSON lines over a Unix socket.
//!
//! The client sends one [`Request`] a line and reads one [`Reply`] a line, as often as it likes. This module holds
//! the words; [`server`] listens and decides by the caller's user who may ask what, [`client`] is the other end.
//! Neither knows what a request does.

pub mod client;
pub mod server;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::status::{NodeStatus, Status, UserProfile};

/// The longest line that the daemon reads, in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;

/// What the command line asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Request {
    /// The status document without the peers, whose states are asked of the control server first.
    Status,
    /// Some of the peers of the status document, as many as make a line of bounded length.
    Peers {
        /// Zero, or [`Peers::next`] of the page before.
        from: usize,
    },
    /// Join with a key, or go on with the identity that is there. Answered when the node is in the mesh.
    Up(Up),
    /// Stop carrying packets; the identity stays.
    Down,
    /// Leave the mesh: the server is told, the keys are forgotten.
    Logout,
    /// One ICMP echo through the mesh.
    Ping(Ping),
    /// Whose address this is.
    Whois {
        /// A mesh address.
        address: IpAddr,
    },
    /// The daemon's version.
    Version,
}

/// What `weft up` asks.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Up {
    /// The join key; none to go on with the identity that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Secret>,
    /// The name to ask for; none for the machine's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The user who, besides root, may change things; an empty text takes the right away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
}

/// What `weft ping` asks, once for each echo.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ping {
    /// A name, address or node key.
    pub node: String,
    /// The echo's sequence number.
    pub sequence: u16,
    /// How long to wait for the answer, in milliseconds.
    pub timeout_ms: u32,
}

impl Request {
    /// Whether the request changes anything, and so needs root or the operator.
    pub fn changes(&self) -> bool {
        match self {
            Self::Up(_) | Self::Down | Self::Logout => true,
            Self::Status | Self::Peers { .. } | Self::Ping(_) | Self::Whois { .. } | Self::Version => false,
        }
    }
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done; the sentences are worth reading.
    Done {
        /// What the owner of the machine should know now.
        notices: Vec<String>,
    },
    /// The answer to [`Request::Status`].
    Status(Box<Status>),
    /// The answer to [`Request::Peers`].
    Peers(Peers),
    /// The answer to [`Request::Ping`].
    Pong(Pong),
    /// The answer to [`Request::Whois`].
    Whois(Box<Whois>),
    /// The answer to [`Request::Version`].
    Version(String),
    /// Not done, and why.
    Error(Refusal),
}

/// A page of [`Status::peer`] and the owners of the nodes on it. A peer that changes between two pages may be on both or
/// on none.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Peers {
    /// As [`Status::peer`].
    pub peer: BTreeMap<String, NodeStatus>,
    /// As [`Status::user`].
    pub user: BTreeMap<String, UserProfile>,
    /// Where the next page begins; none behind the last.
    pub next: Option<usize>,
}

/// An echo that came back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pong {
    /// The node's name.
    pub node: String,
    /// The mesh address that answered.
    pub address: IpAddr,
    /// Where the node is reached on the network below; none where the tunnel went away in the meantime.
    pub endpoint: Option<SocketAddr>,
    /// Round trip in microseconds.
    pub micros: u64,
}

/// Whose an address is, in the words of `tailscale whois --json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Whois {
    /// The node.
    pub node: NodeStatus,
    /// Its owner; none for a tagged node.
    pub user_profile: Option<UserProfile>,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people: what happened and what to do next.
    pub sentence: String,
}

impl Refusal {
    /// A refusal of `kind` with its sentence.
    pub fn new(kind: RefusalKind, sentence: impl Into<String>) -> Self {
        Self { kind, sentence: sentence.into() }
    }
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RefusalKind {
    /// The line is no request of this version.
    BadRequest,
    /// The caller may read only.
    Denied,
    /// There is nothing that this can be done to: not joined, not running, no such node.
    NotReady,
    /// Somebody else did it in the meantime.
    Superseded,
    /// The control server said no.
    Server,
    /// No answer in time.
    Timeout,
    /// The machine refused: disk, network device, permissions.
    Host,
}

/// A text that is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_that_a_person_can_write() {
        let up: Request = serde_json::from_str(r#"{"method":"up","join":"weft1abc","hostname":"nas"}"#).unwrap();
        let Request::Up(up) = up else { panic!("not up") };
        assert_eq!((up.join.unwrap().reveal(), up.hostname.as_deref()), ("weft1abc", Some("nas")));
        assert!(matches!(serde_json::from_str(r#"{"method":"status"}"#), Ok(Request::Status)));
        assert_eq!(serde_json::to_string(&Request::Down).unwrap(), r#"{"method":"down"}"#);
    }

    #[test]
    fn a_join_key_never_prints() {
        let up = Up { join: Some(Secret::new("weft1abc".into())), ..Up::default() };
        assert!(!format!("{up:?}").contains("weft1abc"));
    }
}
