//! Weft's control server: the address book of a network, and who may be in it.
//!
//! | module | holds |
//! |---|---|
//! | [`address`], [`name`] | which addresses and names there are |
//! | [`store`] | the database, and every change of it |
//! | [`lock`] | one process at a time works in a data directory |
//! | [`directory`] | commits changes, then tells the network |
//! | [`network`] | the network in memory: who is there, connected, watched |
//! | [`mailbox`] | what waits to be told to one connected node |
//! | `connection`, `session`, `asked` | one connected node: its byte stream, and what it says and is told |
//! | [`admission`] | how many connections there may be that have not proven who they are |
//! | [`server`] | the port: HTTP, the upgrade, housekeeping, shutting down |
//! | [`admin`] | what an administrator can ask for, over a socket or without a server |
//! | [`cli`] | the command line |
//!
//! The protocol itself is in [`weft_core::control`].

pub mod address;
pub mod admin;
pub mod admission;
mod asked;
pub mod cli;
mod connection;
pub mod directory;
pub mod lock;
pub mod mailbox;
pub mod name;
pub mod network;
pub mod node;
pub mod random;
pub mod refusal;
pub mod server;
mod session;
pub mod store;

pub use directory::{Clock, Directory, DirectoryConfig};
pub use lock::DataLock;
pub use refusal::Refusal;
pub use server::{Server, ServerConfig};
