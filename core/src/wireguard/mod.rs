//! The whole WireGuard protocol for many peers in one heap-free device. Knows nothing of the mesh.

pub mod constants;
pub mod cookie;
pub mod handshake;
pub mod message;
pub mod replay;
pub mod storage;
pub mod tai64n;
