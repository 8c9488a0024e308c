//! The command line's end of the local API.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};
use zeroize::Zeroizing;

use super::{Reply, Request};

/// Why the daemon cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no weft daemon at {path}; start it with `systemctl start weft` or `weft daemon`, or say where it is with --socket"
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be used.
    #[error("cannot talk to the weft daemon at {path}: {cause}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        cause: io::Error,
    },
    /// The daemon closed the connection without an answer.
    #[error("the weft daemon gave no answer: it stopped while it was asked, or too many others ask it; try again")]
    Closed,
    /// The answer is none that this version knows.
    #[error("the weft daemon's answer makes no sense to this command ({0}); are they of the same version?")]
    Answer(serde_json::Error),
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects to the daemon at `path`.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        match UnixStream::connect(path).await {
            Ok(stream) => Ok(Self { stream: BufReader::new(stream), path: path.into() }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Err(ClientError::NoDaemon { path: path.into() })
            }
            Err(cause) => Err(ClientError::Io { path: path.into(), cause }),
        }
    }

    /// Asks and waits for the answer, however long the daemon takes.
    pub async fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let failed = |cause: io::Error| match cause.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Closed,
            _ => ClientError::Io { path: self.path.clone(), cause },
        };
        let mut line = Zeroizing::new(serde_json::to_vec(request).map_err(ClientError::Answer)?);
        line.push(b'\n');
        self.stream.write_all(&line).await.map_err(failed)?;
        let mut answer = Vec::new();
        match self.stream.read_until(b'\n', &mut answer).await {
            Ok(0) => Err(ClientError::Closed),
            Ok(_) => serde_json::from_slice(&answer).map_err(ClientError::Answer),
            Err(cause) => Err(failed(cause)),
        }
    }
}
