//! Copies of the database: made while the server runs, put back while it does not.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{FILE_NAME, Store};
use crate::{lock::DataLock, refusal::Refusal};

/// Writes a consistent copy of the database to `file`, readable for its owner only. It holds the server's secret
/// key.
///
/// # Errors
/// [`Refusal::Backup`] where `file` is there already or cannot be written.
pub(crate) async fn write(connection: &mut SqliteConnection, file: &Path) -> Result<(), Refusal> {
    let cannot = |error: &dyn std::fmt::Display| {
        Refusal::Backup(format!("the backup cannot be written to {}: {error}", file.display()))
    };
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let made = made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => cannot(&"there is such a file already, and it is left as it is: name another"),
        _ => cannot(&error),
    })?;
    let path = file.to_str().ok_or_else(|| cannot(&"the path is not UTF-8"))?;
    let copied = sqlx::query("VACUUM INTO $1").bind(path).execute(connection).await;
    let synced = copied.map_err(|error| cannot(&error)).and_then(|_| made.sync_all().map_err(|error| cannot(&error)));
    if synced.is_err() {
        // What was begun is no backup.
        let _ = fs::remove_file(file);
    }
    synced
}

/// Replaces the database of a data directory by the backup in `file`. The database that was there is kept beside it
/// as `weft.db.before-restore`. The network begins a new epoch, so that no node resumes from a change that the
/// backup does not have. Returns where the former database is, where there was one.
///
/// # Errors
/// [`Refusal::Backup`] where `file` is no backup; the database is then as it was.
pub async fn restore(lock: &DataLock, file: &Path) -> Result<Option<PathBuf>, Refusal> {
    let cannot = |error: &dyn std::fmt::Display| {
        Refusal::Backup(format!("the backup {} cannot be restored: {error}", file.display()))
    };
    let database = lock.directory().join(FILE_NAME);
    let incoming = lock.directory().join("weft.db.restoring");
    let former = lock.directory().join("weft.db.before-restore");
    check(file).await.map_err(|error| cannot(&error))?;
    fs::copy(file, &incoming).map_err(|error| cannot(&error))?;
    let prepared = prepare(&incoming).await.map_err(|error| cannot(&error));
    if let Err(error) = prepared {
        remove_with_log(&incoming);
        return Err(error);
    }
    let replaces = database.exists();
    if replaces {
        // Whatever is only in the write-ahead log goes into the file that is kept.
        if let Ok(store) = Store::open(&database).await {
            store.close().await?;
        }
        // A copy, so that there is a database at every moment: a server that found none would begin a new network.
        fs::copy(&database, &former).map_err(|error| cannot(&error))?;
    }
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(lock.directory().join(format!("{FILE_NAME}{suffix}")));
    }
    fs::rename(&incoming, &database).map_err(|error| cannot(&error))?;
    fs::File::open(lock.directory()).and_then(|directory| directory.sync_all()).map_err(|error| cannot(&error))?;
    Ok(replaces.then_some(former))
}

/// Checks that `file` is a whole database of a control server, without changing it.
async fn check(file: &Path) -> Result<(), String> {
    const NOT_A_BACKUP: &str = "it is not a backup of weft-control";
    if !file.is_file() {
        return Err("there is no such file".to_owned());
    }
    let options = SqliteConnectOptions::new().filename(file).read_only(true).immutable(true);
    let mut connection = options.connect().await.map_err(|_| NOT_A_BACKUP)?;
    let found: Result<String, _> = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await;
    let networks: Result<i64, _> = sqlx::query_scalar("SELECT COUNT(*) FROM networks").fetch_one(&mut connection).await;
    let _ = connection.close().await;
    match (found, networks) {
        (Ok(found), Ok(1..)) if found == "ok" => Ok(()),
        (Ok(found), Ok(1..)) => Err(format!("it is damaged: {found}")),
        _ => Err(NOT_A_BACKUP.to_owned()),
    }
}

async fn prepare(incoming: &Path) -> Result<(), Refusal> {
    use std::os::unix::fs::PermissionsExt;

    fs::set_permissions(incoming, fs::Permissions::from_mode(0o600))
        .map_err(|error| Refusal::Backup(error.to_string()))?;
    let mut store = Store::open(incoming).await?;
    store.begin_epoch().await?;
    store.close().await?;
    fs::File::open(incoming).and_then(|file| file.sync_all()).map_err(|error| Refusal::Backup(error.to_string()))
}

fn remove_with_log(file: &Path) {
    let _ = fs::remove_file(file);
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", file.display()));
    }
}
