//! The database: what is true, in SQL.
//!
//! SQLite in write-ahead mode with `synchronous = FULL`, so that what was committed survives a crash of the process and
//! of the machine. Statements keep to what SQLite and PostgreSQL share (`$1` parameters, `ON CONFLICT`,
//! `RETURNING`); only this file and [`backup`] know that it is SQLite. Every change is a type that implements
//! [`Change`] and runs in a [`Transaction`]; the [`Directory`](crate::directory::Directory) runs many of them in one
//! commit and then tells the connected nodes what came of it.
//!
//! Nothing here knows of connections or of the protocol.

pub mod backup;
pub mod join_keys;
pub mod networks;
pub mod nodes;
pub mod registration;
pub mod server_keys;
pub mod users;

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use weft_core::control::{NetworkId, NodeId};

use crate::{node::Node, refusal::Refusal};
use server_keys::ServerKeys;

/// The database's file in the data directory.
pub const FILE_NAME: &str = "weft.db";
/// The one network that a server has today.
pub const NETWORK: NetworkId = NetworkId(1);

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Rules that the store applies.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long the node key of a node without tags is valid, in seconds.
    pub key_validity: u64,
    /// How many addresses may be handed out.
    pub address_limit: u32,
    /// How long the removal of a node is remembered for those who resume, in seconds.
    pub tombstone_age: u64,
    /// How many removals are remembered at most.
    pub tombstone_count: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            key_validity: 180 * 86_400,
            address_limit: crate::address::Host::COUNT,
            tombstone_age: 30 * 86_400,
            tombstone_count: 20_000,
        }
    }
}

/// An open database. One process has it, and within it one owner.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: SqliteConnection,
}

impl Store {
    /// Opens the database at `path`, making it or bringing its schema up to date where needed.
    ///
    /// # Errors
    /// [`Refusal::Storage`] where the file cannot be read or written, or was made by a newer version.
    pub async fn open(path: &Path) -> Result<Self, Refusal> {
        let mut connection = connect(path).await?;
        MIGRATIONS.run(&mut connection).await.map_err(|error| {
            let path = path.display();
            Refusal::Storage(format!("the database {path} cannot be used by this version of weft-control: {error}"))
        })?;
        Ok(Self { path: path.to_owned(), connection })
    }

    /// Opens the connection anew, after the store failed: what it believes of its transaction may be wrong.
    pub(crate) async fn reconnect(&mut self) -> Result<(), Refusal> {
        self.connection = connect(&self.path).await?;
        Ok(())
    }

    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Writes everything into the database's file and closes it.
    ///
    /// # Errors
    /// [`Refusal::Storage`] where that fails; what was committed is still in the write-ahead log.
    pub async fn close(self) -> Result<(), Refusal> {
        Ok(self.connection.close().await?)
    }
}

async fn connect(path: &Path) -> Result<SqliteConnection, Refusal> {
    // It holds the server's secret key; SQLite gives its other files the same permissions.
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.map_err(|error| Refusal::Storage(format!("{} cannot be opened: {error}", path.display())))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .disable_statement_logging();
    Ok(options.connect().await?)
}

/// Something that a committed change did, for those who keep a picture of the network in memory.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A node is new or changed.
    NodeChanged(Box<Node>),
    /// A node is gone.
    NodeRemoved {
        /// The node.
        id: NodeId,
        /// The revision that removed it.
        revision: u64,
        /// What it is told.
        because: Refusal,
    },
    /// A node's key was ended before its time; the node itself is told why.
    KeyEnded {
        /// The node.
        id: NodeId,
        /// What it is told.
        because: Refusal,
    },
    /// Removals up to this revision were forgotten.
    Compacted(u64),
    /// The server's keys changed.
    ServerKeys(ServerKeys),
}

/// A transaction in which changes run, each of them able to fail alone.
#[derive(Debug)]
pub struct Transaction<'c> {
    pub(crate) connection: &'c mut SqliteConnection,
    /// The network that is changed.
    pub(crate) network: NetworkId,
    /// Now, in seconds since 1970.
    pub(crate) now: u64,
    pub(crate) policy: &'c Policy,
    pub(crate) effects: Vec<Effect>,
}

impl Transaction<'_> {
    /// The network as a parameter of a statement.
    pub(crate) fn network(&self) -> i64 {
        i64::from(self.network.0)
    }

    /// Now as a parameter of a statement.
    pub(crate) fn now(&self) -> i64 {
        self.now as i64
    }
}

/// One change of the database, whole or not at all.
pub trait Change: Send + 'static {
    /// What comes of it.
    type Output: Send + 'static;

    /// Makes the change.
    ///
    /// What a [`Refusal`] leaves half-done is rolled back by the caller, with its effects.
    fn apply(self, tx: &mut Transaction<'_>) -> impl Future<Output = Result<Self::Output, Refusal>> + Send;
}

/// Tags as they stand in a column.
fn tags_to_text(tags: &[String]) -> String {
    tags.join(" ")
}

fn tags_from_text(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
