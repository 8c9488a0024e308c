//! The whole WireGuard protocol for many peers in one heap-free device. Knows nothing of the mesh.

pub mod storage;
