//! A chip that strangers send to as much as the cable carries.

use std::time::Duration;

use embassy_net::IpEndpoint;
use weft_core::{
    crypto::RustCrypto,
    keys::{NodeKey, NodeSecret},
    wireguard::{
        Device, TransmitKind,
        storage::{Borrowed, FixedTables},
    },
};

use crate::{
    rng::TestRng,
    world::{CHIP, World, clock, udp},
};

type Tables = FixedTables<1, 1, 8, 4, 1, 64, 1, 2>;

/// Sends what `make` makes, each from a port of its own, so many times every millisecond, until the world ends.
fn flood(world: &World, ports: u16, each: usize, mut make: impl FnMut(usize) -> Vec<u8> + 'static) {
    let sockets: Vec<_> = (0..ports).map(|port| udp(world.host, 50_000 + port)).collect();
    let to = IpEndpoint::new(CHIP.into(), weft_embassy::PORT);
    world.executor.spawn("flood", async move {
        for round in 0.. {
            for number in 0..each {
                let socket = &sockets[(round + number) % sockets.len()];
                // The chip may be too slow for all of them.
                let datagram = make(round * each + number);
                let sent = socket.send_to(&datagram, to);
                let _ = embassy_time::with_timeout(embassy_time::Duration::from_millis(1), sent).await;
            }
            embassy_time::Timer::after_millis(1).await;
        }
    });
}

/// An initiation to the chip, right in all that can be checked without a Diffie-Hellman.
fn forged(chip: NodeKey, number: usize) -> Vec<u8> {
    let mut rng = TestRng::new(number as u64 + 1_000);
    let tables = Box::leak(Box::new(Tables::EMPTY)).tables();
    let mut device: Device<Borrowed<'_, 2, 64>> = Device::new(tables, &mut rng);
    let (now, wall) = clock();
    device.set_private_key::<RustCrypto>(Some(NodeSecret::generate(&mut rng)), now);
    let peer = device.add_peer(&chip).unwrap();
    device.set_endpoint(peer, Some("192.0.2.7:41641".parse().unwrap()), now);
    device.initiate(peer, now).unwrap();
    let mut buffer = [0; 200];
    let transmit = device.poll_transmit::<RustCrypto>(now, wall, &mut rng, &mut buffer).unwrap();
    assert_eq!(transmit.kind, TransmitKind::Initiation);
    buffer[..transmit.len].to_vec()
}

#[test]
fn a_flood_of_garbage_does_not_stop_a_chip() {
    let world = World::joined();
    flood(&world, 4, 3, |number| {
        let mut garbage = vec![number as u8; [148, 92, 64, 32, 1_200][number % 5]];
        garbage[..4].copy_from_slice(&[[1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0], [4, 0, 0, 0], [9; 4]][number % 5]);
        garbage
    });
    for _ in 0..10 {
        assert!(world.echo(3).is_some());
        world.run(Duration::from_secs(1));
    }
    assert!(world.chip().node.counters().dropped > 5_000, "{:?}", world.chip().node.counters());
}

#[test]
fn a_flood_of_forged_handshakes_does_not_stop_a_chip_nor_keep_its_peers_out() {
    let mut world = World::joined();
    let id = world.server.borrow().id_of("sensor");
    let chip = world.server.borrow().nodes[&id].key;
    // All of one stranger, who knows the chip's key: the chip tells them apart only after a Diffie-Hellman.
    let messages: Vec<_> = (0..64).map(|number| forged(chip, number)).collect();
    flood(&world, 4, 2, move |number| messages[number % 64].clone());
    for _ in 0..5 {
        assert!(world.echo(3).is_some(), "what has a session flows");
        world.run(Duration::from_secs(1));
    }
    world.power_off();
    world.power_on();
    world.wait(10, "restored", |world| world.address().is_some());
    assert!(world.echo(20).is_some(), "a new session is made in the flood");
}
