//! After the registration nothing of the join secret is in the raw flash.

use embassy_futures::block_on;
use weft_core::node::Identity;

use crate::{
    chip::Tear,
    device::{Device, SECRET, Stop, join_key, later, registered},
    power_cut::{cut_with, joined},
};

fn scrub<const W: usize, const R: usize>(device: &mut Device<W, R>) -> Result<(), Stop> {
    let mut store = device.boot()?.store;
    while block_on(store.scrub())? {}
    Ok(())
}

fn holds_the_secret<const W: usize, const R: usize>(device: &Device<W, R>) -> bool {
    let text = join_key().to_text();
    // Any eight letters of the part that the secret is in, since a torn copy may begin anywhere.
    let letters = text.as_str().as_bytes();
    let first = 5 + (2 + 32) * 8 / 5 + 1;
    let secret = &letters[first..first + SECRET.len() * 8 / 5 - 1];
    device.chip.contains(&SECRET) || secret.windows(8).any(|part| device.chip.contains(part))
}

/// A device whose floor of stamps moved on while the join secret was kept, so that copies of it are in several pages.
fn registered_device<const W: usize, const R: usize>() -> (Device<W, R>, Identity) {
    let (mut device, identity) = joined::<W, R>();
    let mut store = device.boot().unwrap().store;
    for second in 0..20 {
        block_on(store.keep_identity(&later(&identity, second))).unwrap();
    }
    let identity = registered(&identity);
    block_on(store.keep_identity(&identity)).unwrap();
    assert!(store.owes_scrub());
    (device, identity)
}

#[test]
fn the_join_secret_is_in_flash_until_the_server_took_it() {
    let (mut device, _) = joined::<4, 4>();
    assert!(holds_the_secret(&device));
    scrub(&mut device).unwrap();
    assert!(holds_the_secret(&device), "it is still needed");
    assert!(device.boot().unwrap().store.owes_scrub());
}

fn scrubbed<const W: usize, const R: usize>() {
    let (mut device, identity) = registered_device::<W, R>();
    assert!(holds_the_secret(&device));
    scrub(&mut device).unwrap();
    assert!(!holds_the_secret(&device));
    let mut store = device.boot().unwrap().store;
    assert!(!store.owes_scrub());
    assert_eq!(block_on(store.identity()).unwrap(), Some(identity));
}

#[test]
fn nothing_of_the_join_secret_is_in_raw_flash_after_a_scrub() {
    scrubbed::<1, 1>();
    scrubbed::<4, 4>();
    scrubbed::<32, 4>();
}

#[test]
fn a_scrub_goes_on_after_a_power_loss_wherever_it_was() {
    let (device, identity) = registered_device::<4, 4>();
    let accesses = cut_with(&[Tear::Prefix(128), Tear::Scattered, Tear::EndsLeft], &device, scrub, |device, what| {
        let mut store = device.boot().unwrap_or_else(|stop| panic!("{what}: {stop:?}")).store;
        assert_eq!(block_on(store.identity()).unwrap().as_ref(), Some(&identity), "{what}");
        assert!(store.owes_scrub() || !holds_the_secret(device), "{what}");
    });
    assert!(accesses > 20);
}

#[test]
fn a_scrub_goes_on_with_the_pages_that_are_left() {
    let (mut device, _) = registered_device::<4, 4>();
    let mut starts = 0;
    while device.boot().unwrap().store.owes_scrub() {
        // Five steps a start, which is little more than a page.
        let mut store = device.boot().unwrap().store;
        for _ in 0..5 {
            block_on(store.scrub()).unwrap();
        }
        starts += 1;
        assert!(starts < 20, "every start begins anew");
    }
    assert!(!holds_the_secret(&device));
}

#[test]
fn another_join_key_is_scrubbed_too() {
    let (mut device, identity) = registered_device::<4, 4>();
    scrub(&mut device).unwrap();
    device.provision();
    let mut store = device.boot().unwrap().store;
    assert!(store.report().provisioned && store.owes_scrub());
    let key = block_on(store.join_key()).unwrap().unwrap();
    let rejoining = Identity { join_secret: Some(key.secret().clone()), ..identity.clone() };
    block_on(store.keep_identity(&rejoining)).unwrap();
    assert!(block_on(store.join_key()).unwrap().is_none(), "the identity has it");
    block_on(store.keep_identity(&identity)).unwrap();
    scrub(&mut device).unwrap();
    assert!(!holds_the_secret(&device));
}
