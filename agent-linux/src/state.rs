//! What a node keeps over a restart: one small file for who it is, one for the netmap it had last.
//!
//! | file | holds |
//! |---|---|
//! | `state.json` | machine and node secret, the server, preferences, recent peers, the floor of handshake timestamps |
//! | `netmap` | the last netmap, as `weft-core` encodes it; losing it costs one snapshot from the server |
//! | `lock` | nothing; held while a daemon runs |
//!
//! Every file is for its owner only, and is replaced whole: written beside the old one, synced, renamed. After a power
//! loss there is the old or the new file, after a full disk the old one. A file of a later version or a damaged one is
//! never overwritten by a fresh identity. Knows nothing of what the daemon does with it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weft_core::keys::{KEY_LEN, MachineSecret, NodeSecret};
use zeroize::{Zeroize, Zeroizing};

use crate::local_api::Secret;

/// The version of `state.json` that this agent writes.
const VERSION: u32 = 1;

/// All that `state.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// Who this machine is in which mesh; none before `weft up --join` and after `weft logout`.
    pub identity: Option<Identity>,
    /// What its owner wants.
    #[serde(default)]
    pub prefs: Prefs,
}

impl Default for State {
    fn default() -> Self {
        Self { version: VERSION, identity: None, prefs: Prefs::default() }
    }
}

/// Who this machine is in which mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The key of the control channel, for life.
    #[serde(with = "machine_secret")]
    pub machine_secret: MachineSecret,
    /// The WireGuard key; renewed before it expires.
    #[serde(with = "node_secret")]
    pub node_secret: NodeSecret,
    /// The control server.
    pub server: Server,
    /// The join key, until the server has taken it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Secret>,
    /// The greatest handshake timestamp that may have been sent, in seconds since 1970: after a restart with a clock
    /// that stands behind, peers would refuse every handshake below it.
    #[serde(default)]
    pub handshake_floor: u64,
    /// Node keys of the peers with a session lately, the latest first.
    #[serde(default)]
    pub recent_peers: Vec<String>,
}

/// The control server of a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its public key, as `serverkey:...`.
    pub key: String,
    /// Where it is, as `http://host:port`.
    pub urls: Vec<String>,
}

/// What the owner of the machine wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefs {
    /// Whether the node is up; `weft down` clears it.
    #[serde(default)]
    pub want_running: bool,
    /// The name to ask for; none for the machine's own.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The user who, besides root, may change things.
    #[serde(default)]
    pub operator: Option<String>,
}

/// Why the kept state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another daemon has it.
    #[error("another weft daemon already runs on {directory}; stop it first, or give this one another --state")]
    Locked {
        /// The state directory.
        directory: PathBuf,
    },
    /// It was written by a later version.
    #[error(
        "{path} was written by a later version of weft (format {found}, this one knows {VERSION}); install that version again"
    )]
    Later {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It is damaged.
    #[error("{path} is damaged ({source}); restore it from a backup, or move it away and join again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The system said no.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// A write that did not happen. What was on the disk before is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot save {path}: {source}; what was saved before is unchanged, and weft tries again")]
pub struct SaveError {
    /// The file.
    pub path: PathBuf,
    /// The system's word.
    pub source: io::Error,
}

/// The state directory of one daemon, locked for as long as this lives.
#[derive(Debug)]
pub struct StateDirectory {
    directory: PathBuf,
    _lock: fs::File,
}

impl StateDirectory {
    /// Makes `directory` (for its owner only) where it is missing, and locks it.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { path: directory.into(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(directory.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory: directory.into(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked { directory: directory.into() }),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Reads `state.json`; the default where there is none.
    pub fn load(&self) -> Result<State, OpenError> {
        let path = self.directory.join("state.json");
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let text = match fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => return Err(failed(error)),
        };
        // Restored from a backup or copied by hand, it may have come with wider permissions.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let damaged = |source| OpenError::Damaged { path: path.clone(), source };
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let Version { version } = serde_json::from_slice(&text).map_err(damaged)?;
        if version > u64::from(VERSION) {
            return Err(OpenError::Later { path, found: version });
        }
        serde_json::from_slice(&text).map_err(damaged)
    }

    /// Replaces `state.json`.
    pub fn save(&self, state: &State) -> Result<(), SaveError> {
        let path = self.directory.join("state.json");
        let text = serde_json::to_vec_pretty(state).map(Zeroizing::new);
        let written = text.map_err(io::Error::other).and_then(|text| replace(&path, &text));
        written.map_err(|source| SaveError { path, source })
    }

    /// The netmap as [`save_netmap`](Self::save_netmap) was given it; none where there is none that can be read.
    pub fn load_netmap(&self) -> Option<Vec<u8>> {
        let path = self.directory.join("netmap");
        match fs::read(&path) {
            Ok(netmap) => Some(netmap),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("cannot read {}: {error}; the server will send the netmap again", path.display());
                None
            }
        }
    }

    /// Replaces the kept netmap.
    pub fn save_netmap(&self, netmap: &[u8]) -> Result<(), SaveError> {
        let path = self.directory.join("netmap");
        replace(&path, netmap).map_err(|source| SaveError { path, source })
    }

    /// Forgets the kept netmap.
    pub fn remove_netmap(&self) -> Result<(), SaveError> {
        let path = self.directory.join("netmap");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SaveError { path, source: error }),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Replaces the file at `path` by `content`, or leaves it as it is.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    // A killed daemon may have left one.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        // On a full disk the half of a file would be in the way of everybody.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    match path.parent() {
        Some(directory) => fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn secret_to_text<S: Serializer>(prefix: &str, secret: &[u8; KEY_LEN], serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + KEY_LEN * 2));
    text.push_str(prefix);
    for byte in secret {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
    serializer.serialize_str(&text)
}

fn secret_from_text<'de, D: Deserializer<'de>>(prefix: &str, deserializer: D) -> Result<[u8; KEY_LEN], D::Error> {
    let text = Zeroizing::new(String::deserialize(deserializer)?);
    let damaged = || serde::de::Error::custom(format!("a secret is not `{prefix}` and 64 hexadecimal digits"));
    let digits = text.strip_prefix(prefix).ok_or_else(damaged)?.as_bytes();
    let mut key = [0; KEY_LEN];
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let mut read = digits.len() == KEY_LEN * 2;
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        match (nibble(pair[0]), nibble(pair[1])) {
            (Some(high), Some(low)) => *byte = (high << 4 | low) as u8,
            _ => read = false,
        }
    }
    if read {
        Ok(key)
    } else {
        key.zeroize();
        Err(damaged())
    }
}

macro_rules! secret_module {
    ($module:ident, $secret:ty, $prefix:literal) => {
        mod $module {
            use super::*;

            pub(super) fn serialize<S: Serializer>(secret: &$secret, serializer: S) -> Result<S::Ok, S::Error> {
                secret_to_text($prefix, secret.as_bytes(), serializer)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$secret, D::Error> {
                let mut bytes = secret_from_text($prefix, deserializer)?;
                let secret = <$secret>::from_bytes(bytes);
                bytes.zeroize();
                Ok(secret)
            }
        }
    };
}

secret_module!(machine_secret, MachineSecret, "machinesecret:");
secret_module!(node_secret, NodeSecret, "nodesecret:");

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn joined() -> State {
        State {
            identity: Some(Identity {
                machine_secret: MachineSecret::from_bytes([0xa5; KEY_LEN]),
                node_secret: NodeSecret::from_bytes([0x0f; KEY_LEN]),
                server: Server { key: "serverkey:00".into(), urls: vec!["http://10.0.0.1:8080".into()] },
                join: Some(Secret::new("weft1abc".into())),
                handshake_floor: 1_700_000_000,
                recent_peers: vec!["nodekey:01".into()],
            }),
            prefs: Prefs { want_running: true, hostname: Some("nas".into()), operator: None },
            ..State::default()
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_only_its_owner_may_read_it() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("deep/state");
        let directory = StateDirectory::open(&path).unwrap();
        assert_eq!(directory.load().unwrap(), State::default());
        directory.save(&joined()).unwrap();
        directory.save_netmap(b"netmap").unwrap();
        assert_eq!(directory.load().unwrap(), joined());
        assert_eq!(directory.load_netmap().as_deref(), Some(&b"netmap"[..]));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        for file in ["state.json", "netmap", "lock"] {
            assert_eq!(fs::metadata(path.join(file)).unwrap().mode() & 0o777, 0o600, "{file}");
        }
        directory.remove_netmap().unwrap();
        directory.remove_netmap().unwrap();
        assert_eq!(directory.load_netmap(), None);
    }

    #[test]
    fn wider_permissions_are_narrowed() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(temporary.path()).unwrap();
        directory.save(&joined()).unwrap();
        let file = temporary.path().join("state.json");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        directory.load().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_daemon_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let first = StateDirectory::open(temporary.path()).unwrap();
        assert!(matches!(StateDirectory::open(temporary.path()), Err(OpenError::Locked { .. })));
        drop(first);
        StateDirectory::open(temporary.path()).unwrap();
    }

    #[test]
    fn a_later_or_damaged_file_is_refused_and_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(temporary.path()).unwrap();
        let file = temporary.path().join("state.json");
        fs::write(&file, r#"{"version":2,"identity":{"another":"shape"}}"#).unwrap();
        assert!(matches!(directory.load(), Err(OpenError::Later { found: 2, .. })));
        for text in ["", "{", r#"{"version":1,"identity":{"machine_secret":"machinesecret:00"}}"#] {
            fs::write(&file, text).unwrap();
            assert!(matches!(directory.load(), Err(OpenError::Damaged { .. })), "{text}");
            assert_eq!(fs::read(&file).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn power_loss_before_the_rename_leaves_the_old_state() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(temporary.path()).unwrap();
        directory.save(&joined()).unwrap();
        // What a machine finds that lost power while it wrote: a half of the next file.
        fs::write(temporary.path().join("state.new"), b"{\"version\":1,\"iden").unwrap();
        assert_eq!(directory.load().unwrap(), joined());
        let mut next = joined();
        next.prefs.want_running = false;
        directory.save(&next).unwrap();
        assert_eq!(directory.load().unwrap(), next);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_state_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(temporary.path()).unwrap();
        directory.save_netmap(b"old").unwrap();
        // A directory in the place of the new file: no user may open it for writing, not even root.
        fs::create_dir(temporary.path().join("netmap.new")).unwrap();
        let error = directory.save_netmap(b"new").unwrap_err();
        assert!(error.to_string().contains("what was saved before is unchanged"), "{error}");
        assert_eq!(directory.load_netmap().as_deref(), Some(&b"old"[..]));
    }
}
