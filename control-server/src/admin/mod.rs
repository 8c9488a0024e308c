//! What an administrator can ask for. One implementation, whether it is asked over the socket of a running server or
//! by a command line that opened the data directory itself.

pub mod client;
pub mod socket;
pub mod table;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weft_core::control::{JoinKey, JoinSecret};

use crate::{
    directory::Directory,
    node::Node,
    random,
    refusal::Refusal,
    store::{
        join_keys::{CreateJoinKey, JoinKeyEntry, ListJoinKeys, RevokeJoinKey},
        nodes::{ExpireNode, ListNodes, RemoveNode, RenameNode},
        server_keys::{RotateKey, ServerKeys, public},
        users::{CreateUser, ListUsers, User},
    },
};

/// Something that an administrator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Command {
    /// Makes a user.
    UserCreate {
        /// Its name.
        name: String,
    },
    /// Lists the users.
    UserList,
    /// Makes a join key.
    KeyCreate {
        /// The user whose nodes join with it.
        user: String,
        /// For any number of nodes.
        reusable: bool,
        /// For nodes that are removed some time after they went offline.
        ephemeral: bool,
        /// Tags of the nodes.
        tags: Vec<String>,
        /// How long it is good for, in seconds.
        valid_for: Option<u64>,
    },
    /// Lists the join keys.
    KeyList,
    /// Revokes a join key.
    KeyRevoke {
        /// Its id.
        id: u64,
    },
    /// Lists the nodes.
    NodeList,
    /// Renames a node.
    NodeRename {
        /// Its id, name or address.
        node: String,
        /// The new name.
        name: String,
    },
    /// Ends a node's key.
    NodeExpire {
        /// Its id, name or address.
        node: String,
    },
    /// Removes a node.
    NodeRemove {
        /// Its id, name or address.
        node: String,
    },
    /// Writes a backup.
    Backup {
        /// The file, which is not there yet.
        file: PathBuf,
    },
    /// Announces the server's next key.
    RotateAnnounce,
    /// Makes the announced key the current one.
    RotateSwitch,
    /// Forgets the previous key.
    RotateRetire,
}

/// What comes of a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// Users, by name.
    Users(Vec<UserView>),
    /// Join keys, by id.
    Keys(Vec<KeyView>),
    /// Nodes, by id.
    Nodes(Vec<NodeView>),
    /// A join key that was made, with its text.
    KeyCreated(KeyCreated),
    /// A user.
    User(UserView),
    /// A node.
    Node(NodeView),
    /// The server's keys.
    ServerKeys(ServerKeysView),
    /// A backup was written.
    BackupWritten {
        /// The file.
        file: PathBuf,
    },
    /// A join key was revoked.
    Revoked {
        /// Its id.
        revoked: u64,
    },
}

/// A user, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// When it was made, as RFC 3339 says.
    pub created: String,
}

/// A join key, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its id.
    pub id: u64,
    /// Its user.
    pub user: String,
    /// `usable`, `used`, `expired` or `revoked`.
    pub state: String,
    /// For any number of nodes.
    pub reusable: bool,
    /// For ephemeral nodes.
    pub ephemeral: bool,
    /// Tags of the nodes.
    pub tags: Vec<String>,
    /// How many nodes joined with it.
    pub uses: u64,
    /// When it was made.
    pub created: String,
    /// When it expires.
    pub expires: Option<String>,
}

/// A new join key and its text, which is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCreated {
    /// The text to join with.
    pub key: String,
    /// What it is.
    #[serde(flatten)]
    pub entry: KeyView,
}

impl std::fmt::Debug for KeyCreated {
    /// Without the text, which is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCreated").field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// A node, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its user.
    pub user: String,
    /// Its mesh addresses.
    pub addresses: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// What the machine calls itself.
    pub hostname: String,
    /// Its operating system.
    pub os: String,
    /// The version of its agent.
    pub agent: String,
    /// Whether it is connected.
    pub online: bool,
    /// When it was last connected.
    pub last_seen: String,
    /// When it joined.
    pub created: String,
    /// When its node key expires.
    pub key_expiry: Option<String>,
    /// Whether it has expired.
    pub expired: bool,
    /// Whether it is removed some time after it went offline.
    pub ephemeral: bool,
    /// Its node key.
    pub node_key: String,
    /// Its machine key.
    pub machine_key: String,
}

/// The server's keys, as they are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKeysView {
    /// The key in new join keys.
    pub current_key: String,
    /// The key that was announced.
    pub next_key: Option<String>,
    /// The key before, which is still answered to.
    pub previous_key: Option<String>,
}

impl Command {
    /// Carries it out.
    ///
    /// # Errors
    /// Why it was not carried out; nothing was changed then.
    pub async fn execute(self, directory: &Directory) -> Result<Outcome, Refusal> {
        let now = directory.now();
        Ok(match self {
            Self::UserCreate { name } => Outcome::User(directory.change(CreateUser { name }).await?.into()),
            Self::UserList => {
                Outcome::Users(directory.change(ListUsers).await?.into_iter().map(UserView::from).collect())
            }
            Self::KeyCreate { user, reusable, ephemeral, tags, valid_for } => {
                let secret = JoinSecret::generate(&mut random::system());
                let urls = directory.urls();
                let key = JoinKey::new(directory.keys().public(), secret.clone(), &urls);
                let key = key.map_err(|_| Refusal::NoServerUrl)?.to_text();
                let create = CreateJoinKey { user, secret, reusable, ephemeral, tags, valid_for };
                let entry = KeyView::of(directory.change(create).await?, now);
                Outcome::KeyCreated(KeyCreated { key: key.as_str().to_owned(), entry })
            }
            Self::KeyList => {
                let keys = directory.change(ListJoinKeys).await?;
                Outcome::Keys(keys.into_iter().map(|key| KeyView::of(key, now)).collect())
            }
            Self::KeyRevoke { id } => {
                directory.change(RevokeJoinKey { id }).await?;
                Outcome::Revoked { revoked: id }
            }
            Self::NodeList => {
                let nodes = directory.change(ListNodes).await?;
                Outcome::Nodes(nodes.iter().map(|node| NodeView::of(node, directory)).collect())
            }
            Self::NodeRename { node, name } => {
                Outcome::Node(NodeView::of(&directory.change(RenameNode { which: node, name }).await?, directory))
            }
            Self::NodeExpire { node } => {
                Outcome::Node(NodeView::of(&directory.change(ExpireNode { which: node }).await?, directory))
            }
            Self::NodeRemove { node } => {
                Outcome::Node(NodeView::of(&directory.change(RemoveNode { which: node }).await?, directory))
            }
            Self::Backup { file } => {
                directory.backup(file.clone()).await?;
                Outcome::BackupWritten { file }
            }
            Self::RotateAnnounce => Outcome::ServerKeys(directory.change(RotateKey::Announce).await?.into()),
            Self::RotateSwitch => Outcome::ServerKeys(directory.change(RotateKey::Switch).await?.into()),
            Self::RotateRetire => Outcome::ServerKeys(directory.change(RotateKey::Retire).await?.into()),
        })
    }
}

impl Outcome {
    /// What `--json` prints: the content alone, since who asked knows what for.
    pub fn json(&self) -> serde_json::Value {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(tagged)) => tagged.into_iter().map(|(_, content)| content).next(),
            _ => None,
        }
        .unwrap_or_default()
    }
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self { id: user.id, name: user.name, created: table::time(user.created_at) }
    }
}

impl KeyView {
    fn of(key: JoinKeyEntry, now: u64) -> Self {
        let state = if key.revoked_at.is_some() {
            "revoked"
        } else if key.expires_at.is_some_and(|expiry| expiry <= now) {
            "expired"
        } else if key.use_count > 0 && !key.reusable {
            "used"
        } else {
            "usable"
        };
        Self {
            id: key.id,
            user: key.user,
            state: state.to_owned(),
            reusable: key.reusable,
            ephemeral: key.ephemeral,
            tags: key.tags,
            uses: key.use_count,
            created: table::time(key.created_at),
            expires: key.expires_at.map(table::time),
        }
    }
}

impl NodeView {
    fn of(node: &Node, directory: &Directory) -> Self {
        let status = directory.network().status(node.id);
        let online = status.as_ref().is_some_and(|status| status.online);
        let now = directory.now();
        let last_seen = if online { now } else { status.map_or(node.last_seen_at, |status| status.last_seen) };
        Self {
            id: node.id.0,
            name: node.name.clone(),
            user: node.user.clone(),
            addresses: node.addresses().iter().map(ToString::to_string).collect(),
            tags: node.tags.clone(),
            hostname: node.hostname.clone(),
            os: node.os.clone(),
            agent: node.agent.clone(),
            online,
            last_seen: table::time(last_seen),
            created: table::time(node.created_at),
            key_expiry: node.key_expires_at.map(table::time),
            expired: node.is_expired(now),
            ephemeral: node.ephemeral,
            node_key: node.node_key.to_string(),
            machine_key: node.machine_key.to_string(),
        }
    }
}

impl From<ServerKeys> for ServerKeysView {
    fn from(keys: ServerKeys) -> Self {
        let text = |secret| public(secret).to_string();
        Self {
            current_key: text(&keys.current),
            next_key: keys.next.as_ref().map(text),
            previous_key: keys.previous.as_ref().map(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_key_is_not_in_what_is_printed_to_find_faults() {
        let entry = KeyView {
            id: 7,
            user: "ada".to_owned(),
            state: "usable".to_owned(),
            reusable: false,
            ephemeral: false,
            tags: Vec::new(),
            uses: 0,
            created: table::time(0),
            expires: None,
        };
        let outcome = Outcome::KeyCreated(KeyCreated { key: "weft1secret".to_owned(), entry });
        let printed = format!("{outcome:?}");
        assert!(printed.contains("ada") && !printed.contains("secret"), "{printed}");
    }
}
