//! How much flash is written and erased. `cargo test -p weft-embassy --test flash wear -- --nocapture` prints the
//! figures that docs/firmware-guide.md states.

use embassy_futures::block_on;
use weft_core::node::Identity;
use weft_embassy::{
    Random,
    flash::Store,
    provision::{self, Field},
};

use crate::{
    chip::{Chip, PAGE},
    device::{Board, join_key, later, registered},
    netmap::knowing,
};

/// Pages of the region that the boards give a node: 64 KiB.
const PAGES: usize = 16;
/// Erases that a page of NOR flash bears, by the data sheets of the chips on the boards.
const ENDURANCE: f64 = 100_000.0;

type Flash = Chip<1, 1>;

/// A chip whose node is registered and knows 16 peers.
fn settled() -> (Flash, Store<Flash>, Identity) {
    let chip = Flash::of_pages(PAGES);
    let mut store = block_on(Store::open(chip.clone())).unwrap();
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
    let identity = registered(&Identity::new(&join_key(), &mut rng));
    block_on(store.keep_identity(&identity)).unwrap();
    change_peer(&mut store, 0);
    (chip, store, identity)
}

const NAMES: [&str; 2] = ["a-peer-with-a-name", "a-peer-with-another-name"];

/// One of the 16 peers has another name now, and the revision is another.
fn change_peer(store: &mut Store<Flash>, change: u64) {
    let peers: Vec<_> = (1..=16).map(|id| (id, NAMES[usize::from(change % 16 == u64::from(id) - 1)])).collect();
    let node = knowing(&peers, change);
    block_on(store.keep_netmap(&|at, out| node.netmap_record(at, out))).unwrap();
}

/// Years until a page of the map has been erased too often, where `days` did what they did.
fn life(chip: &Flash, days: f64, what: &str) -> f64 {
    let erases: u32 = chip.erases()[3..].iter().sum();
    let a_page_a_day = f64::from(erases) / (PAGES - 3) as f64 / days;
    let years = ENDURANCE / a_page_a_day / 365.0;
    println!("{what}: {erases} erases in {days:.2} days, {a_page_a_day:.3} a page and day, {years:.0} years");
    years
}

#[test]
fn a_quiet_node_wears_its_flash_out_in_more_than_a_century() {
    let (chip, mut store, identity) = settled();
    // The floor of stamps moves about once an hour.
    for hour in 0..60 * 24 {
        block_on(store.keep_identity(&later(&identity, hour * 3_600))).unwrap();
    }
    assert!(life(&chip, 60.0, "quiet: a floor of stamps an hour") > 100.0);
}

#[test]
fn a_node_whose_netmap_and_peers_change_every_minute_lasts_for_years() {
    let (chip, mut store, identity) = settled();
    let hours = 12;
    for minute in 0..hours * 60 {
        // What the keeper's spacing allows at most.
        change_peer(&mut store, minute);
        let recent = |out: &mut [u8]| {
            out[..400].fill(minute as u8);
            400
        };
        block_on(store.keep_recent_peers(&recent)).unwrap();
        if minute % 60 == 0 {
            block_on(store.keep_identity(&later(&identity, minute * 60))).unwrap();
        }
    }
    assert!(life(&chip, hours as f64 / 24.0, "busy: a peer, the revision and the recent peers every minute") > 5.0);
}

#[test]
fn a_device_that_starts_every_minute_lasts_for_years() {
    let (chip, mut page) = (Flash::of_pages(PAGES), [0; PAGE]);
    provision::encode(&[Field::Seed(&[1; 32])], &mut page).unwrap();
    chip.program(0, &page);
    let days = 2;
    for _ in 0..days * 24 * 60 {
        let mut store = block_on(Store::open(chip.clone())).unwrap();
        block_on(Random::start(&mut store, &mut Board::numb(1))).unwrap();
    }
    assert!(life(&chip, f64::from(days), "restless: a start a minute") > 10.0);
}
