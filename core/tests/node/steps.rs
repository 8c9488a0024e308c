//! What a chip may count on: no call but a step computes a Diffie-Hellman, and a step computes one.

use std::cell::Cell;

use weft_core::{
    control::MAX_FRAME,
    crypto::{Crypto, DiffieHellman, LowOrderPoint, SharedSecret, aead::ChaCha20Poly1305, dh::X25519},
    node::{ControlState, Node, NodeConfig, NodeEvent, Persist},
    time::{Instant, UnixTime},
};

use crate::{
    rng::TestRng,
    server::Server,
    world::{Size, TestStorage, tables},
};

const NOW: Instant = Instant::from_secs(10);
const WALL: UnixTime = UnixTime::new(1_800_000_000, 0);

thread_local! {
    static COMPUTED: Cell<usize> = const { Cell::new(0) };
}

struct CountingDh;

impl DiffieHellman for CountingDh {
    fn public_key(secret: &[u8; 32]) -> [u8; 32] {
        COMPUTED.set(COMPUTED.get() + 1);
        X25519::public_key(secret)
    }

    fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<SharedSecret, LowOrderPoint> {
        COMPUTED.set(COMPUTED.get() + 1);
        X25519::agree(secret, public)
    }
}

struct Counting;

impl Crypto for Counting {
    type Aead = ChaCha20Poly1305;
    type Dh = CountingDh;
}

/// A node that is driven as a chip drives it, and its server.
struct Chip {
    node: Node<TestStorage, Counting>,
    server: Server,
    connection: Option<usize>,
    rng: TestRng,
    steps: usize,
}

impl Chip {
    fn new() -> Self {
        let mut rng = TestRng::new(3);
        let node = Node::new(NodeConfig::default(), tables(Size::Sixteen), &mut rng);
        let mut server = Server::new(WALL);
        server.set_time(NOW, WALL);
        Self { node, server, connection: None, rng, steps: 0 }
    }

    /// Makes a call that may not compute, then the steps that it led to.
    fn call<R>(&mut self, call: impl FnOnce(&mut Node<TestStorage, Counting>, &mut TestRng) -> R) -> R {
        COMPUTED.set(0);
        let result = call(&mut self.node, &mut self.rng);
        assert_eq!(COMPUTED.get(), 0, "a call that is no step computed");
        while self.node.needs_step() {
            COMPUTED.set(0);
            self.node.step(NOW, &mut self.rng);
            assert_eq!(COMPUTED.get(), 1, "a step is one Diffie-Hellman");
            self.steps += 1;
        }
        result
    }

    /// Goes on until nothing happens any more.
    fn run(&mut self) {
        for _ in 0..20 {
            self.call(|node, rng| node.handle_timeout(NOW, WALL, rng));
            while let Some(event) = self.call(|node, _| node.poll_event()) {
                if event == NodeEvent::Persist(Persist::Identity) {
                    self.call(|node, _| node.identity_kept());
                }
            }
            if self.call(|node, _| node.next_connect().is_some()) {
                self.call(|node, _| node.control_connecting());
                self.connection = self.server.connect();
                self.call(|node, rng| node.control_connected(NOW, rng));
            }
            let Some(connection) = self.connection else { continue };
            let mut out = [0; MAX_FRAME];
            loop {
                match self.call(|node, rng| node.control_transmit(&mut out, NOW, rng)) {
                    0 => break,
                    len => self.server.receive(connection, &out[..len]),
                }
            }
            let bytes = self.server.take_output(connection).unwrap();
            self.call(|node, rng| node.control_receive(&bytes, NOW, WALL, rng));
        }
    }
}

#[test]
fn joining_starting_and_renewing_compute_in_steps_alone() {
    let mut chip = Chip::new();
    let key = chip.server.join_key();
    chip.call(|node, rng| node.join(&key, NOW, rng));
    assert_eq!(chip.steps, 2, "the public keys of machine and node");
    chip.call(|node, rng| node.start(NOW, WALL, rng));
    chip.run();
    assert_eq!(chip.node.control_state(), ControlState::Registered);
    assert_eq!(chip.steps, 2 + 5 + 1, "the keys, the channel's handshake, the proof");
    let before = *chip.node.netmap().own().unwrap().key();
    assert_eq!(chip.node.device().public_key(), Some(&before));

    chip.call(|node, rng| node.renew_node_key(rng));
    chip.run();
    assert_eq!(chip.steps, 8 + 2, "the next key and its proof");
    let renewed = chip.node.netmap().own().unwrap().key();
    assert_ne!(*renewed, before);
    assert_eq!(chip.node.device().public_key(), Some(renewed));

    let identity = chip.node.identity().unwrap().clone();
    let mut restarted = Chip { server: chip.server, rng: TestRng::new(4), ..Chip::new() };
    restarted.call(|node, _| node.restore_identity(identity, NOW));
    restarted.call(|node, rng| node.start(NOW, WALL, rng));
    restarted.run();
    assert_eq!(restarted.node.control_state(), ControlState::Registered);
    assert_eq!(restarted.steps, 8);
}

#[test]
fn whoever_asks_for_no_step_gets_the_same_in_one_call() {
    let mut chip = Chip::new();
    let key = chip.server.join_key();
    chip.node.join(&key, NOW, &mut chip.rng);
    chip.node.start(NOW, WALL, &mut chip.rng);
    assert_eq!(chip.node.poll_timeout(), Some(Instant::ZERO), "something is due");
    chip.node.handle_timeout(NOW, WALL, &mut chip.rng);
    assert!(chip.node.device().public_key().is_some());
    assert!(!chip.node.needs_step());
}
