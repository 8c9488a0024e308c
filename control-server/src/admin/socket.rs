//! The socket of a running server for its administrators: one command a line as JSON, one answer a line.
//!
//! It lies in the data directory, which only its owner may enter.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use super::{Command, Outcome};
use crate::directory::Directory;

/// The socket's name in the data directory.
const FILE_NAME: &str = "admin.sock";
/// The longest command.
const MAX_LINE: u64 = 64 * 1_024;
/// How many administrators may be connected at once.
const MAX_CONNECTIONS: usize = 32;
/// How long one may think before it sends its command.
const IDLE: Duration = Duration::from_secs(60);

/// An answer on the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was done.
    Done(Box<Outcome>),
    /// It was not done, and why.
    Refused(String),
}

/// Where the socket of a data directory is.
pub fn path(data: &Path) -> PathBuf {
    data.join(FILE_NAME)
}

/// Listens on the socket. The caller has the lock of the data directory, so a socket that is there is a dead one.
pub(crate) fn listen(directory: Arc<Directory>) -> io::Result<JoinHandle<()>> {
    let path = path(directory.data());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(tokio::spawn(accept(listener, directory)))
}

/// Removes the socket of a server that stops.
pub(crate) fn remove(data: &Path) {
    // Left behind, it would only be a dead socket.
    let _ = fs::remove_file(path(data));
}

async fn accept(listener: UnixListener, directory: Arc<Directory>) {
    let room = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let directory = directory.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &directory).await {
                        tracing::debug!("an administrator's connection ended: {error}");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("cannot take an administrator's connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, directory: &Directory) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        let mut limited = (&mut reader).take(MAX_LINE);
        if tokio::time::timeout(IDLE, limited.read_line(&mut line)).await.map_err(|_| io::ErrorKind::TimedOut)?? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str::<Command>(&line) {
            Ok(command) => match command.execute(directory).await {
                Ok(outcome) => Answer::Done(Box::new(outcome)),
                Err(refusal) => Answer::Refused(refusal.to_string()),
            },
            Err(error) => Answer::Refused(format!("this server does not understand the command: {error}")),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
    }
}
