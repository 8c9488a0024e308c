//! The lock on a data directory: one process at a time works in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// The file that is locked.
const FILE_NAME: &str = "weft.lock";

/// The lock of a data directory, released when it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    directory: PathBuf,
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error("another weft-control already works in {0}: stop it first, or use another --data directory")]
    Taken(PathBuf),
    /// The directory or the file cannot be used.
    #[error("the data directory {0} cannot be used: {1}{hint}", hint = hint(.1))]
    Unusable(PathBuf, io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": run this as the user that the server runs as",
        _ => "",
    }
}

impl DataLock {
    /// Locks the directory, making it where it is not there.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let unusable = |error: io::Error| LockError::Unusable(directory.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        let directory = fs::canonicalize(directory).map_err(unusable)?;
        let file =
            OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(directory.join(FILE_NAME));
        let file = file.map_err(unusable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { directory, _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Taken(directory)),
            Err(error) => Err(LockError::Unusable(directory, error.into())),
        }
    }

    /// The directory, as an absolute path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
