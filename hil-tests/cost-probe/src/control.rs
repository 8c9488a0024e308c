//! The handshake of the control channel, on the node's side.

use weft_core::{
    control::handshake::{Initiator, Progress, Responder},
    crypto::{Crypto, RustCrypto},
    keys::{MachineSecret, ServerSecret},
};

use crate::report::Meter;

type Server = RustCrypto;

/// Measures with the primitives `C`, which the report calls `name`. The node knows its own public key.
pub fn run<C: Crypto>(name: &str) {
    let server = ServerSecret::from_bytes([3; 32]);
    let server_key = server.public::<<Server as Crypto>::Dh>();
    let machine = MachineSecret::from_bytes([4; 32]);
    let machine_key = machine.public::<<Server as Crypto>::Dh>();
    let mut node = Initiator::new(b"prologue", &machine, machine_key, server_key, [5; 32]);
    let mut responder = Responder::new(b"prologue", server_key, [6; 32]);
    let mut meter = Meter::default();

    meter.run(|| while node.step::<C>() == Ok(Progress::Again) {});
    responder.receive(&node.message().expect("message 1")).expect("is of the right length");
    while responder.step::<Server>(&server) == Ok(Progress::Again) {}
    meter.run(|| {
        node.receive(&responder.message().expect("message 2")).expect("is of the right length");
        while node.step::<C>() == Ok(Progress::Again) {}
    });
    let (ours, (theirs, _)) = (node.established().expect("done"), responder.established().expect("done"));
    assert_eq!(ours.handshake_hash, theirs.handshake_hash);
    meter.print("control channel handshake, node", name);
}
