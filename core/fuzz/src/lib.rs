//! The bodies of the fuzz targets: what has to hold for any bytes.
//!
//! The targets in `fuzz_targets` run them under libFuzzer on a nightly toolchain; `core/tests/corpus.rs` includes this
//! file by its path and replays the committed corpus on the stable one.

mod control;
mod device;
mod ip;
mod node;
mod session;
mod wireguard;

/// A body: panics where something does not hold.
pub type Body = fn(&[u8]);

/// Every target with its body, in the order of the names. A target's corpus is the folder of its name.
pub const TARGETS: &[(&str, Body)] = &[
    ("allowed_ips", wireguard::allowed_ips),
    ("client_record", control::client_record),
    ("client_stream", control::client_stream),
    ("device", device::device),
    ("frame", control::frame),
    ("index_table", wireguard::index_table),
    ("inner_packet", ip::inner_packet),
    ("join_key", control::join_key),
    ("kept_identity", node::kept_identity),
    ("kept_netmap", node::kept_netmap),
    ("message", wireguard::message),
    ("prefix", ip::prefix),
    ("replay", wireguard::replay),
    ("server_record", control::server_record),
    ("server_stream", control::server_stream),
    ("session", session::session),
    ("upgrade_request", control::upgrade_request),
    ("upgrade_response", control::upgrade_response),
];

/// Runs the body of one target.
pub fn run(target: &str, data: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target has a body");
    body(data);
}

/// Fuzz input, taken off in pieces; zeros behind its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.0.len().min(N);
        bytes[..taken].copy_from_slice(&self.0[..taken]);
        self.0 = &self.0[taken..];
        bytes
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }
}
