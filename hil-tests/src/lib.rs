//! Tests of the whole system: real daemons in network namespaces, and foreign WireGuard peers.
//!
//! | module | holds |
//! |---|---|
//! | [`suite`] | the runner of a test target: tests by name, requirements, the slow set |
//! | [`requirement`] | what a test needs of the machine; what is missing makes it a skip with a reason |
//! | [`netns`] | one network namespace |
//! | [`lab`] | hosts in subnets of their own, with a router between them |
//! | [`mesh`] | a control server and nodes in a lab, driven by their command lines |
//! | [`capture`] | a packet capture and what is in it |
//! | [`file_server`] | a web server of one file |
//! | [`proxy`] | somebody in the middle of TCP connections |
//! | [`wireguard`] | a WireGuard device of any implementation, driven by `wg(8)` |
//! | [`transfer`] | large transfers by TCP, both ways |
//! | [`attack`] | somebody who floods a node with what is worth nothing |
//! | [`ethernet`] | a switch between emulated boards and a subnet of the lab |
//! | [`wire`] | a cable that loses, delays, reorders and repeats frames |
//! | [`board`] | a board with firmware in an emulator: flash, cable, log |
//! | [`machine`] | the emulated machines |
//! | [`pico`] | a Raspberry Pi Pico in the emulator rp2040js, with the image that is flashed |
//! | [`selftest`] | the services that firmware has for tests |
//! | [`distribution`] | the binaries of `cargo xtask dist`, and programs that an emulator runs |
//! | [`dhcp`] | a DHCP server for a subnet of the lab |
//! | [`process`] | a daemon in a namespace, with its log, gone when dropped |
//! | [`wait`] | waiting for a condition, with a deadline and a sentence |
//! | [`swarm`] | thousands of control connections, for benchmarks |
//! | [`crowd`] | thousands of whole nodes that talk |
//! | [`binaries`] | where the binaries under test are |
//!
//! Nothing here knows a protocol: what is asserted is what a user, a peer or a router on the way would see.

pub mod attack;
pub mod binaries;
pub mod board;
pub mod capture;
pub mod crowd;
mod defmt_log;

pub mod dhcp;
pub mod distribution;
pub mod ethernet;
mod evidence;
pub mod file_server;
pub mod lab;
pub mod machine;
pub mod mesh;
pub mod netns;
mod pcap;
pub mod pico;
pub mod process;
pub mod proxy;
pub mod requirement;
pub mod selftest;
pub mod suite;
pub mod swarm;
pub mod transfer;
pub mod wait;
pub mod wire;
pub mod wireguard;
