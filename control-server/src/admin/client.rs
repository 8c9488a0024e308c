//! How a command line gets a command carried out: by the running server, or where none runs, by itself.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use super::{
    Command, Outcome,
    socket::{self, Answer},
};
use crate::{
    directory::{Directory, DirectoryConfig},
    lock::{DataLock, LockError},
    refusal::Refusal,
};

/// How long to wait for another command line, or a server that just starts or stops.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The running server refused it.
    #[error("{0}")]
    RefusedByServer(String),
    /// The data directory cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no data directory.
    #[error(
        "there is no data directory {0}: start the server once with `weft-control serve --data {0} ...`, or name another with --data"
    )]
    NoDataDirectory(String),
    /// The server ended before it answered.
    #[error("the control server ended before it answered, so it is not known whether this was done: {0}")]
    Lost(io::Error),
}

/// Carries out a command in a data directory.
///
/// # Errors
/// [`CommandError`].
pub async fn run(data: &Path, command: Command) -> Result<Outcome, CommandError> {
    match std::fs::metadata(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CommandError::NoDataDirectory(data.display().to_string()));
        }
        Err(error) => return Err(LockError::Unusable(data.to_owned(), error).into()),
        Ok(_) => {}
    }
    let began = Instant::now();
    loop {
        if let Ok(stream) = UnixStream::connect(socket::path(data)).await {
            return ask(stream, &command).await;
        }
        match DataLock::take(data) {
            Ok(lock) => return run_alone(lock, command).await,
            Err(LockError::Taken(_)) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn ask(stream: UnixStream, command: &Command) -> Result<Outcome, CommandError> {
    let answer = async {
        let mut stream = BufReader::new(stream);
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut text = String::new();
        if stream.read_line(&mut text).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str::<Answer>(&text)?)
    };
    match answer.await.map_err(CommandError::Lost)? {
        Answer::Done(outcome) => Ok(*outcome),
        Answer::Refused(sentence) => Err(CommandError::RefusedByServer(sentence)),
    }
}

async fn run_alone(lock: DataLock, command: Command) -> Result<Outcome, CommandError> {
    let (directory, writer) = Directory::open(lock, DirectoryConfig::default()).await?;
    let outcome = command.execute(&directory).await;
    directory.close().await;
    if let Err(error) = writer.await {
        tracing::error!("the writer of the store failed: {error}");
    }
    Ok(outcome?)
}
