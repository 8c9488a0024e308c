//! A mesh node: control client, WireGuard device and netmap composed, as both agents drive it.
