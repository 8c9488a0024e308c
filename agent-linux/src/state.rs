//! What a node keeps over a restart, in a directory of its own.
//!
//! | file | holds |
//! |---|---|
//! | `identity` | who the node is, as `weft-core` encodes it: secrets, server, floors of the clock |
//! | `prefs.json` | what the owner of the machine wants |
//! | `netmap` | the last netmap, as `weft-core` encodes it; losing it costs one snapshot from the server |
//! | `recent-peers` | the peers with a session lately, as `weft-core` encodes them |
//! | `lock` | nothing; held while a daemon runs |
//!
//! Every file is for its owner only, and is replaced whole: written beside the old one, synced, renamed. After a power
//! loss there is the old or the new file, after a full disk the old one. (The recent peers are not synced: they change
//! often and are worth a second of waiting, not the wear of a memory card.) A file of a later version or a damaged one is
//! never overwritten by a fresh identity. Knows nothing of what the bytes mean.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The version of the formats that this agent writes.
const VERSION: u32 = 1;

/// A file whose content `weft-core` encodes. It begins with `weft`, its name, its version and a line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// Who the node is.
    Identity,
    /// The last netmap.
    Netmap,
    /// The peers with a session lately.
    RecentPeers,
}

impl File {
    /// Every file, the quickest to write first.
    pub const ALL: [Self; 3] = [Self::RecentPeers, Self::Identity, Self::Netmap];

    const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Netmap => "netmap",
            Self::RecentPeers => "recent-peers",
        }
    }
}

/// What the owner of the machine wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefs {
    version: u32,
    /// Whether the node is up; `weft down` clears it.
    #[serde(default)]
    pub want_running: bool,
    /// Whether the node logged out: its identity serves to come back as the same node, with another join key.
    #[serde(default)]
    pub logged_out: bool,
    /// The name to ask for; none for the machine's own.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The user who, besides root, may change things.
    #[serde(default)]
    pub operator: Option<String>,
}

impl Default for Prefs {
    fn default() -> Self {
        Self { version: VERSION, want_running: false, logged_out: false, hostname: None, operator: None }
    }
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
        "{path} was written by a later version of weft (format {found}, this one knows {VERSION}); install that \
         version again"
    )]
    Later {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It is damaged.
    #[error("{path} is damaged ({reason}); restore it from a backup, or move it away and join again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system said no.
    #[error("cannot use {path}: {cause}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's word.
        cause: io::Error,
    },
}

/// A write that did not happen. What was on the disk before is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot save {path}: {cause}; what was saved before is unchanged")]
pub struct SaveError {
    /// The file.
    pub path: PathBuf,
    /// The system's word.
    pub cause: io::Error,
}

/// The state directory of one daemon, locked for as long as this lives.
#[derive(Debug)]
pub struct StateDirectory {
    directory: PathBuf,
    _lock: fs::File,
}

impl StateDirectory {
    /// Makes `directory` (for its owner only) where it is missing, and locks it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] where another daemon has it, [`OpenError::Io`].
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let failed = |cause| OpenError::Io { path: directory.into(), cause };
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
            Err(fs::TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    /// Reads a file; none where there is none.
    ///
    /// # Errors
    /// Where there is one and it cannot be read.
    pub fn load(&self, file: File) -> Result<Option<Zeroizing<Vec<u8>>>, OpenError> {
        let path = self.directory.join(file.name());
        let Some(content) = read(&path)? else { return Ok(None) };
        let header = format!("weft {} ", file.name());
        let found = content.strip_prefix(header.as_bytes()).and_then(|rest| {
            let end = rest.iter().take(20).position(|byte| *byte == b'\n')?;
            let version: u64 = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
            Some((version, Zeroizing::new(rest.get(end + 1..)?.to_vec())))
        });
        match found {
            Some((version, body)) if version <= u64::from(VERSION) => Ok(Some(body)),
            Some((found, _)) => Err(OpenError::Later { path, found }),
            None => Err(OpenError::Damaged { path, reason: format!("it does not begin with `{header}`") }),
        }
    }

    /// The error for a file whose content makes no sense.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] where `decoded` is an error.
    pub fn parse<T, E: std::fmt::Display>(&self, file: File, decoded: Result<T, E>) -> Result<T, OpenError> {
        let path = || self.directory.join(file.name());
        decoded.map_err(|error| OpenError::Damaged { path: path(), reason: error.to_string() })
    }

    /// Replaces a file.
    ///
    /// # Errors
    /// Where it cannot be written; the old one stays.
    pub fn save(&self, file: File, body: &[u8]) -> Result<(), SaveError> {
        let path = self.directory.join(file.name());
        let header = format!("weft {} {VERSION}\n", file.name());
        let lasting = file != File::RecentPeers;
        replace(&path, &[header.as_bytes(), body], lasting).map_err(|cause| SaveError { path, cause })
    }

    /// Removes a file, where it is there.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn remove(&self, file: File) -> Result<(), SaveError> {
        let path = self.directory.join(file.name());
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync(&self.directory)),
        };
        removed.map_err(|cause| SaveError { path, cause })
    }

    /// Reads the preferences; the default where there are none.
    ///
    /// # Errors
    /// Where there are some and they cannot be read.
    pub fn load_prefs(&self) -> Result<Prefs, OpenError> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let path = self.directory.join("prefs.json");
        let Some(text) = read(&path)? else { return Ok(Prefs::default()) };
        let damaged = |error: serde_json::Error| OpenError::Damaged { path: path.clone(), reason: error.to_string() };
        let Version { version } = serde_json::from_slice(&text).map_err(damaged)?;
        if version > u64::from(VERSION) {
            return Err(OpenError::Later { path, found: version });
        }
        serde_json::from_slice(&text).map_err(damaged)
    }

    /// Replaces the preferences.
    ///
    /// # Errors
    /// Where they cannot be written; the old ones stay.
    pub fn save_prefs(&self, prefs: &Prefs) -> Result<(), SaveError> {
        let path = self.directory.join("prefs.json");
        let text = serde_json::to_vec_pretty(prefs).map_err(io::Error::other);
        text.and_then(|text| replace(&path, &[&text, b"\n"], true)).map_err(|cause| SaveError { path, cause })
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, OpenError> {
    let failed = |cause| OpenError::Io { path: path.into(), cause };
    match fs::read(path) {
        Ok(content) => {
            let content = Zeroizing::new(content);
            // Restored from a backup or copied by hand, it may have come with wider permissions.
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
            Ok(Some(content))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Replaces the file at `path` by `parts`, or leaves it as it is. Where it is not to be `lasting`, a loss of power may
/// empty it.
fn replace(path: &Path, parts: &[&[u8]], lasting: bool) -> io::Result<()> {
    let beside = path.with_extension("new");
    // A killed daemon may have left one.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut file| {
        parts.iter().try_for_each(|part| file.write_all(part))?;
        if lasting { file.sync_all() } else { Ok(()) }
    });
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        // On a full disk the half of a file would be in the way of everybody.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    path.parent().filter(|_| lasting).map_or(Ok(()), sync)
}

/// Makes renames and removals in `directory` last.
fn sync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::MetadataExt,
        process::{Command, Stdio},
    };

    use super::*;

    fn open() -> (tempfile::TempDir, StateDirectory) {
        let temporary = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(temporary.path()).unwrap();
        (temporary, directory)
    }

    fn identity(directory: &StateDirectory) -> Vec<u8> {
        directory.load(File::Identity).unwrap().unwrap().to_vec()
    }

    #[test]
    fn what_is_saved_is_loaded_and_only_its_owner_may_read_it() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("deep/state");
        let directory = StateDirectory::open(&path).unwrap();
        assert_eq!(directory.load_prefs().unwrap(), Prefs::default());
        assert!(directory.load(File::Identity).unwrap().is_none());
        assert!(directory.load(File::Netmap).unwrap().is_none());
        let prefs = Prefs { want_running: true, hostname: Some("nas".into()), ..Prefs::default() };
        directory.save_prefs(&prefs).unwrap();
        directory.save(File::Identity, b"\0secret\n").unwrap();
        directory.save(File::Netmap, b"").unwrap();
        assert_eq!(directory.load_prefs().unwrap(), prefs);
        assert_eq!(identity(&directory), b"\0secret\n");
        assert_eq!(directory.load(File::Netmap).unwrap().unwrap().as_slice(), b"");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        for file in ["identity", "netmap", "prefs.json", "lock"] {
            assert_eq!(fs::metadata(path.join(file)).unwrap().mode() & 0o777, 0o600, "{file}");
        }
        for _ in 0..2 {
            directory.remove(File::Identity).unwrap();
            directory.remove(File::Netmap).unwrap();
        }
        assert!(directory.load(File::Identity).unwrap().is_none());
    }

    #[test]
    fn an_error_says_its_cause_once() {
        let temporary = tempfile::tempdir().unwrap();
        let file = temporary.path().join("file");
        fs::write(&file, "").unwrap();
        let error = anyhow::Error::from(StateDirectory::open(&file.join("state")).unwrap_err());
        assert_eq!(format!("{error:#}").matches("Not a directory").count(), 1, "{error:#}");
    }

    #[test]
    fn wider_permissions_are_narrowed() {
        let (temporary, directory) = open();
        directory.save(File::Identity, b"secret").unwrap();
        let file = temporary.path().join("identity");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        directory.load(File::Identity).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_second_daemon_is_refused() {
        let (temporary, first) = open();
        assert!(matches!(StateDirectory::open(temporary.path()), Err(OpenError::Locked { .. })));
        drop(first);
        StateDirectory::open(temporary.path()).unwrap();
    }

    #[test]
    fn a_later_or_damaged_file_is_refused_and_left_alone() {
        let (temporary, directory) = open();
        let file = temporary.path().join("identity");
        fs::write(&file, "weft identity 2\nanother shape").unwrap();
        assert!(matches!(directory.load(File::Identity), Err(OpenError::Later { found: 2, .. })));
        for text in ["", "weft identity ", "weft identity 1", "weft identity x\n", "weft netmap 1\n"] {
            fs::write(&file, text).unwrap();
            assert!(matches!(directory.load(File::Identity), Err(OpenError::Damaged { .. })), "{text}");
            assert_eq!(fs::read(&file).unwrap(), text.as_bytes());
        }
        let prefs = temporary.path().join("prefs.json");
        fs::write(&prefs, r#"{"version":2,"want_running":"maybe"}"#).unwrap();
        assert!(matches!(directory.load_prefs(), Err(OpenError::Later { found: 2, .. })));
        fs::write(&prefs, r#"{"version":1"#).unwrap();
        assert!(matches!(directory.load_prefs(), Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn power_loss_before_the_rename_leaves_the_old_state() {
        let (temporary, directory) = open();
        directory.save(File::Identity, b"old").unwrap();
        // What a machine finds that lost power while it wrote: a half of the next file.
        fs::write(temporary.path().join("identity.new"), b"weft ide").unwrap();
        assert_eq!(identity(&directory), b"old");
        directory.save(File::Identity, b"next").unwrap();
        assert_eq!(identity(&directory), b"next");
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_state() {
        let (temporary, directory) = open();
        directory.save(File::Netmap, b"old").unwrap();
        // A directory in the place of the new file: no user may open it for writing, not even root.
        fs::create_dir(temporary.path().join("netmap.new")).unwrap();
        let error = directory.save(File::Netmap, b"new").unwrap_err();
        assert!(error.to_string().contains("what was saved before is unchanged"), "{error}");
        assert_eq!(directory.load(File::Netmap).unwrap().unwrap().as_slice(), b"old");
    }

    const SMALL_DISK: &str = "WEFT_TEST_SMALL_DISK";

    #[test]
    fn a_full_disk_leaves_the_old_state_and_no_half_file() {
        if let Some(path) = std::env::var_os(SMALL_DISK) {
            return on_the_small_disk(Path::new(&path));
        }
        // The same test again, in a mount namespace with a file system of 64 KiB.
        let temporary = tempfile::tempdir().unwrap();
        // Whoever is not root may mount only in a user namespace.
        let root = rustix::process::geteuid().is_root();
        let unshare: &[&str] = if root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
        let possible = Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|s| s.success());
        assert!(possible, "this test needs a mount namespace; `cargo xtask test` makes one, or run it as root");
        let script = r#"mount -t tmpfs -o size=64k tmpfs "$WEFT_TEST_SMALL_DISK" && exec "$0" --exact "$1""#;
        let test = "state::tests::a_full_disk_leaves_the_old_state_and_no_half_file";
        let status = Command::new("unshare")
            .args(unshare)
            .args(["sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .env(SMALL_DISK, temporary.path())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    }

    fn on_the_small_disk(path: &Path) {
        let directory = StateDirectory::open(path).unwrap();
        directory.save(File::Identity, &[1; 8_000]).unwrap();
        let filler = vec![0; 4_096];
        let mut file = fs::File::create(path.join("filler")).unwrap();
        while file.write_all(&filler).is_ok() {}
        drop(file);
        let error = directory.save(File::Identity, &[2; 8_000]).unwrap_err();
        assert_eq!(error.cause.kind(), io::ErrorKind::StorageFull);
        assert_eq!(identity(&directory), [1; 8_000]);
        assert!(!path.join("identity.new").exists());
        fs::remove_file(path.join("filler")).unwrap();
        directory.save(File::Identity, &[2; 8_000]).unwrap();
        assert_eq!(identity(&directory), [2; 8_000]);
    }
}
