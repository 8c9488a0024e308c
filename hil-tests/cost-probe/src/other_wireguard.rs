//! The handshake of `wireguard-sans-io`, the one other implementation of WireGuard that builds for these chips. Its
//! tunnel computes the static-static secret when it is made, so that every handshake has it.

use wireguard_sans_io::{Config, Now, Received, StaticSecret, Tunnel, testing::DeterministicRng};

use crate::report::Meter;

/// Measures a handshake.
pub fn run() {
    let mut random = DeterministicRng::new(1);
    let [a_secret, b_secret] = [[1; 32], [2; 32]].map(|bytes: [u8; 32]| move || StaticSecret::from(bytes));
    let mut a = Tunnel::new(Config::new(a_secret(), b_secret().public_key())).expect("a usable key");
    let mut b = Tunnel::new(Config::new(b_secret(), a_secret().public_key())).expect("a usable key");
    let now = Now::new(1_000_000_000, 1_700_000_000, 0);
    let (mut a_out, mut b_out, mut rest) = ([0; 256], [0; 256], [0; 256]);
    let (mut initiator, mut responder) = (Meter::default(), Meter::default());

    let initiation = initiator.run(|| a.initiate_handshake(now, &mut a_out, &mut random)).expect("an initiation");
    let response = responder.run(|| b.decapsulate(now, &[], false, initiation, &mut b_out, &mut random));
    let Ok(Received::Reply(response)) = response else { panic!("no response") };
    let done = initiator.run(|| a.decapsulate(now, &[], false, response, &mut rest, &mut random));
    assert!(matches!(done, Ok(Received::HandshakeComplete)), "the response was not taken");
    initiator.print("WireGuard handshake, initiator", "wireguard-sans-io");
    responder.print("WireGuard handshake, responder", "wireguard-sans-io");
}
