//! Everything at once, by chance: whatever happened, in the end every node has the server's netmap and reaches every
//! other one.

use std::time::Duration;

use rand_core::Rng as _;

use crate::{rng::TestRng, world::World};

const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn soak(seed: u64) {
    let mut rng = TestRng::new(seed);
    let mut world = World::joined(&NAMES);
    let ids = NAMES.map(|name| world.server.id_of(name));
    let mut chance = move |bound: u32| rng.next_u32() % bound;
    for step in 0..60 {
        let (one, other) = (chance(4) as usize, chance(4) as usize);
        match chance(11) {
            0 => world.server.stop(),
            1 => world.server.up = true,
            2 => world.restart(NAMES[one]),
            3 => world.server.rename(ids[one], &format!("{}-{step}", NAMES[one])),
            4 => world.move_to(NAMES[one], &format!("198.51.100.{}:41641", step + 1)),
            5 if !world.server.up => world.server.restore_backup(),
            6 => world.server.compacted = world.server.number,
            7 => {
                let mut rng = TestRng::new(u64::from(chance(u32::MAX)));
                world.host(NAMES[one]).node.renew_node_key(&mut rng);
            }
            8 => world.host(NAMES[one]).clock_behind = u64::from(chance(1_000_000)),
            9 => world.loss = chance(40),
            _ if one != other => {
                let to = world.server.nodes[&ids[other]].v4().into();
                world.send(NAMES[one], to, "some traffic");
            }
            _ => {}
        }
        world.run(Duration::from_millis(u64::from(chance(20_000))));
    }
    world.server.up = true;
    world.loss = 0;
    world.run(100 * SECOND);
    for (name, id) in NAMES.iter().zip(ids) {
        let netmap = world.node(name).netmap();
        assert_eq!(netmap.revision(), Some(world.server.revision()), "seed {seed}, {name}");
        for entry in world.server.nodes.values().filter(|entry| entry.id != id) {
            let peer = netmap.by_id(entry.id).unwrap();
            assert_eq!((peer.name(), peer.key()), (entry.name.as_str(), &entry.key), "seed {seed}, {name}");
        }
        assert_eq!(world.node(name).device().public_key(), Some(&world.server.nodes[&id].key), "seed {seed}, {name}");
        assert_eq!(netmap.len(), NAMES.len() - 1);
    }
    for from in NAMES {
        for to in NAMES.iter().filter(|to| **to != from) {
            assert!(world.reaches(from, to, 20 * SECOND), "seed {seed}: {from} does not reach {to}");
        }
    }
}

#[test]
fn after_any_chain_of_events_every_node_reaches_every_other() {
    (0..10).for_each(soak);
}
