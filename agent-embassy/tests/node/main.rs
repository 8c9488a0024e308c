//! The whole node of a chip against a control server and another node, over a cable, on a virtual clock.

mod executor;
mod flash;
mod floods;
mod peer;
#[path = "../../../core/tests/harness/rng.rs"]
mod rng;
#[allow(dead_code, reason = "core's tests ask more of it")]
#[path = "../../../core/tests/node/server.rs"]
mod server;
mod wire;
mod world;

use std::time::Duration;

use weft_embassy::Event;
use world::World;

#[test]
fn a_chip_joins_with_the_key_of_its_provisioning_page_and_answers() {
    let mut world = World::new();
    world.power_on();
    let joined = world.wait(10, "joined", |world| world.address().is_some());
    assert!(joined < Duration::from_secs(2), "{joined:?}");
    assert!(world.saw(Event::Joined(world.address().unwrap())));
    assert!(world.echo(3).is_some());
    assert!(world.echo_of(3, 1_252).is_some(), "a packet as long as may be");
}

#[test]
fn a_chip_that_was_reset_is_back_without_its_server() {
    let mut world = World::joined();
    let address = world.address();
    // Until what may be kept a little later is kept.
    world.run(Duration::from_secs(3));
    world.server.borrow_mut().stop();
    world.power_off();
    world.run(Duration::from_secs(1));
    world.power_on();
    world.wait(1, "restored", |world| world.address() == address);
    assert!(world.echo(10).is_some(), "the peer is reached by what flash kept");
}

#[test]
fn a_chip_reset_at_any_moment_comes_back_as_the_same_node() {
    let mut world = World::new();
    for round in 0..20u64 {
        world.power_on();
        world.run(Duration::from_millis(37 * round * round % 4_001));
        world.power_off();
        world.run(Duration::from_millis(100));
    }
    world.power_on();
    world.wait(10, "joined", |world| world.address().is_some());
    assert!(world.echo(10).is_some());
    let chips = world.server.borrow().nodes.values().filter(|node| node.name == "sensor").count();
    assert_eq!(chips, 1, "no reset made another node of it");
}

#[test]
fn the_join_secret_is_gone_from_flash_once_the_chip_is_registered() {
    let mut world = World::new();
    let secret = world.server.borrow().join_key().secret().as_bytes().to_owned();
    assert!(world.flash.holds(&secret) || world.flash.holds(b"weft1"));
    world.power_on();
    world.wait(60, "scrubbed", |world| !world.flash.holds(&secret) && !world.flash.holds(b"weft1"));
    assert!(world.echo(5).is_some());
}

#[test]
fn a_server_that_was_away_is_found_again() {
    let world = World::joined();
    world.server.borrow_mut().stop();
    world.wait(40, "server away", |world| world.saw(Event::ServerAway));
    assert!(world.echo(2).is_some(), "peers need no server");
    world.chip().events.borrow_mut().clear();
    world.server.borrow_mut().up = true;
    world.wait(60, "server back", |world| world.saw(Event::ServerBack));
}

#[test]
fn a_cable_that_was_pulled_costs_no_more_than_the_time_without_it() {
    let world = World::joined();
    world.cable.plug(false);
    world.run(Duration::from_secs(20));
    world.cable.plug(true);
    assert!(world.echo(10).is_some());
    world.wait(10, "registered", |world| world.chip().node.status().server == weft_embassy::Server::Registered);
}

#[test]
fn a_silent_server_is_not_taken_for_a_dead_one() {
    let world = World::joined();
    world.run(Duration::from_secs(300));
    assert!(!world.saw(Event::ServerAway));
    assert_eq!(world.server.borrow().registrations.len(), 2, "the chip and the other node, once each");
}

#[test]
fn names_of_peers_are_resolved() {
    let world = World::joined();
    let (node, answers) = (world.chip().node, std::rc::Rc::new(std::cell::RefCell::new(Vec::new())));
    let got = answers.clone();
    world.executor.spawn("chip", async move {
        for name in ["laptop", "LAPTOP.home.weft", "sensor", "nobody"] {
            let answer = node.resolve(name).await;
            got.borrow_mut().push(answer);
        }
    });
    world.wait(10, "four answers", |_| answers.borrow().len() == 4);
    let laptop = Ok(world.peer.borrow().address().unwrap());
    let own = Ok(world.address().unwrap());
    assert_eq!(*answers.borrow(), [laptop, laptop, own, Err(weft_embassy::ResolveError::NotFound)]);
}

#[test]
fn the_firmware_hears_of_sessions() {
    let world = World::joined();
    assert!(world.saw(Event::PeerUp(world.peer.borrow().address().unwrap())));
}

#[test]
fn sessions_are_renewed_while_packets_flow() {
    let world = World::joined();
    for _ in 0..60 {
        assert!(world.echo(1).is_some());
        world.run(Duration::from_secs(5));
    }
    let handshakes = world.peer.borrow().last_handshake(world.address().unwrap()).unwrap();
    assert!(world::clock().0.saturating_since(handshakes) < Duration::from_secs(130));
}

#[test]
fn a_neighbour_that_does_not_answer_keeps_nothing_back() {
    let mut world = World::joined();
    // The peer says that it can be reached at two addresses of the chip's own network at which nobody is.
    let endpoints = ["192.0.2.77:41641", "192.0.2.78:41641", "192.0.2.250:41641"].map(|text| text.parse().unwrap());
    world.peer.borrow_mut().node.set_local_endpoints(&endpoints, world::clock().0);
    world.run(Duration::from_secs(2));
    world.power_off();
    world.power_on();
    world.wait(10, "restored", |world| world.address().is_some());
    assert!(world.echo(10).is_some());
}

#[test]
fn an_idle_chip_sleeps() {
    let world = World::joined();
    world.run(Duration::from_secs(20));
    let before = world.executor.polls("chip");
    world.run(Duration::from_secs(60));
    let polls = world.executor.polls("chip") - before;
    // Once a second it looks at the outer network, and now and then it says to the server that it is there.
    assert!(polls < 60 * 8, "{polls}");
}

#[test]
fn without_a_seed_no_key_is_made() {
    let mut world = World::new();
    world.flash = flash::Flash::provisioned(&[weft_embassy::provision::Field::Hostname("sensor")]);
    world.power_on();
    world.run(Duration::from_secs(100));
    assert_eq!(world.chip().node.status().problem, Some(weft_embassy::Problem::NoEntropy));
    assert_eq!(world.server.borrow().registrations.len(), 1, "only the other node is there");
}

#[test]
fn a_chip_that_moves_is_found_at_its_new_address() {
    let world = World::joined();
    world.chip().outer.set_config_v4(world::static_address("192.0.2.99".parse().unwrap()));
    world.run(Duration::from_secs(2));
    assert!(world.echo(5).is_some());
    world.wait(10, "registered", |world| world.chip().node.status().server == weft_embassy::Server::Registered);
}

#[test]
fn a_chip_that_was_removed_says_so_and_joins_again_with_a_new_key() {
    let mut world = World::joined();
    let id = world.server.borrow().id_of("sensor");
    world.server.borrow_mut().remove(id);
    world.wait(5, "left", |world| world.saw(Event::Left));
    assert_eq!(world.chip().node.status().problem, Some(weft_embassy::Problem::NoJoinKey));
    assert_eq!(world.address(), None);
    world.power_off();
    let key: &'static str = world.server.borrow().join_key().to_text().as_str().to_owned().leak();
    world.power_on_with(weft_embassy::Config { join_key: Some(key), hostname: "sensor", ..Default::default() });
    let registered = |world: &World| world.chip().node.status().server == weft_embassy::Server::Registered;
    world.wait(10, "joined again", registered);
    assert!(world.echo(5).is_some());
}

#[test]
fn a_refused_key_is_told_and_tried_again_slowly() {
    let mut world = World::new();
    world.run(Duration::from_secs(1));
    world.server.borrow_mut().refuse = Some((weft_embassy::ErrorCode::JoinKeyUnknown, None));
    world.power_on();
    world.wait(10, "refused", |world| world.saw(Event::Refused(weft_embassy::ErrorCode::JoinKeyUnknown)));
    let sentence = world.chip().node.last_error(|code, sentence| (code, sentence.to_owned())).unwrap();
    assert_eq!(sentence.0, Some(weft_embassy::ErrorCode::JoinKeyUnknown));
    let connects = world.chip().node.counters().connects;
    world.run(Duration::from_secs(400));
    assert_eq!(world.chip().node.counters().connects, connects, "the next try is a quarter of an hour away");
    world.wait(1_500, "joined", |world| world.address().is_some());
}

#[test]
fn a_key_that_is_none_is_told_and_nothing_is_sent() {
    let mut world = World::new();
    world.flash = flash::Flash::provisioned(&[weft_embassy::provision::Field::Seed(&[1; 32])]);
    world.power_on_with(weft_embassy::Config { join_key: Some("weft1not-a-key"), ..Default::default() });
    world.run(Duration::from_secs(5));
    assert_eq!(world.chip().node.status().problem, Some(weft_embassy::Problem::JoinKeyUnreadable));
    assert_eq!(world.chip().node.counters().connects, 0);
}

#[test]
fn peers_that_did_not_fit_are_looked_up_when_they_knock_and_when_they_are_wanted() {
    let world = World::joined();
    // From now on the server names peers only where it is asked.
    let id = world.server.borrow().id_of("sensor");
    world.server.borrow_mut().deliver_on_demand(id);
    let knocking = std::rc::Rc::new(std::cell::RefCell::new(world.another_peer("desktop", 41_700)));
    world.executor.spawn("peer", peer::run(knocking.clone(), world::udp(world.host, 41_700)));
    world.wait(10, "the other one joined", |_| knocking.borrow().address().is_some());
    let chip = world.address().unwrap();
    let (own, text) = (knocking.borrow().address().unwrap(), b"from a stranger");
    let answered = || knocking.borrow().inbox.iter().any(|packet| packet[28..] == *text);
    let mut tries = 0;
    while !answered() {
        tries += 1;
        assert!(tries < 20, "a stranger gets its answer");
        knocking.borrow_mut().send(&world::udp_packet(own, chip, world::ECHO, text));
        world.executor.run_until(Duration::from_millis(500), answered);
    }
    assert!(world.server.borrow().lookups > 0);
    assert!(world.echo(2).is_some(), "the first peer is still there");
}
