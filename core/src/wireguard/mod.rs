//! The whole WireGuard protocol for many peers in one heap-free device. Knows nothing of the mesh.

pub mod allowed_ips;
pub mod constants;
pub mod cookie;
pub mod handshake;
pub mod index_table;
pub mod message;
pub mod rate_limit;
pub mod replay;
pub mod storage;
pub mod tai64n;
