//! The power fails in every write and every erase of what a device does, in each way in which it can. After each: the
//! device starts again, has its old or its new state, and never gives the same random output twice.

use embassy_futures::block_on;
use weft_core::node::Identity;
use weft_embassy::flash::Setting;

use crate::{
    chip::Tear,
    device::{Device, Stop, join_key, later, registered},
};

/// Does `action`, then does it again on copies of the device with the power cut in each access of it in each way. After
/// each cut `check` sees the device, then the action is done again to its end.
pub(crate) fn cut_everywhere<const W: usize, const R: usize>(
    device: &Device<W, R>,
    action: impl Fn(&mut Device<W, R>) -> Result<(), Stop>,
    check: impl Fn(&mut Device<W, R>, &str),
) -> usize {
    cut_with(&Tear::ALL, device, action, check)
}

/// The same in some of the ways only.
pub(crate) fn cut_with<const W: usize, const R: usize>(
    tears: &[Tear],
    device: &Device<W, R>,
    action: impl Fn(&mut Device<W, R>) -> Result<(), Stop>,
    check: impl Fn(&mut Device<W, R>, &str),
) -> usize {
    let mut whole = device.copy();
    let before = whole.chip.accesses();
    action(&mut whole).unwrap();
    let accesses = whole.chip.accesses() - before;
    assert!(accesses > 0, "nothing was written");
    for at in 0..accesses {
        for tear in tears.iter().copied() {
            let at_what = format!("word {W}, access {at} of {accesses}, {tear:?}");
            let mut device = device.copy();
            device.chip.cut_in(Some((at, tear)));
            let stopped = action(&mut device);
            assert!(stopped.is_err() && device.chip.is_dead(), "{at_what}: {stopped:?}");
            device.chip.cut_in(None);
            check(&mut device, &at_what);
            action(&mut device).unwrap_or_else(|stop| panic!("{at_what}: {stop:?}"));
            check(&mut device, &at_what);
        }
    }
    accesses
}

/// A device that was provisioned and started once, with an identity that the server knows nothing of yet.
pub(crate) fn joined<const W: usize, const R: usize>() -> (Device<W, R>, Identity) {
    let mut device = Device::provisioned(1);
    let mut running = device.boot().unwrap();
    let identity = Identity::new(&join_key(), &mut running.rng);
    block_on(running.store.keep_identity(&identity)).unwrap();
    (device, identity)
}

/// Fills the map until the next change of the floor of stamps erases a page.
pub(crate) fn before_an_erase<const W: usize, const R: usize>() -> (Device<W, R>, Identity, u64) {
    let (mut device, identity) = joined::<W, R>();
    let identity = registered(&identity);
    let mut second = 0;
    loop {
        let copy = device.copy();
        second += 1;
        let mut running = device.boot().unwrap();
        block_on(running.store.keep_identity(&later(&identity, second))).unwrap();
        if device.chip.erases()[3..].iter().any(|erases| *erases > 0) {
            return (copy, identity, second);
        }
    }
}

pub(crate) fn kept<const W: usize, const R: usize>(device: &mut Device<W, R>, what: &str) -> Option<Identity> {
    let mut running = device.boot().unwrap_or_else(|stop| panic!("{what}: {stop:?}"));
    block_on(running.store.identity()).unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn provisioning<const W: usize, const R: usize>() {
    let device = Device::<W, R>::provisioned(1);
    cut_everywhere(
        &device,
        |device| device.boot().map(drop),
        |device, what| {
            let mut store = device.boot().unwrap_or_else(|stop| panic!("{what}: {stop:?}")).store;
            let mut out = [0; 64];
            assert_eq!(block_on(store.join_key()).unwrap(), Some(join_key()), "{what}");
            for (setting, content) in [
                (Setting::Hostname, &b"sensor"[..]),
                (Setting::Ssid, b"attic"),
                (Setting::Password, b"correct horse"),
                (Setting::App(2), b"laptop:9000"),
            ] {
                assert_eq!(block_on(store.setting(setting, &mut out)).unwrap(), Some(content), "{what}");
            }
            assert!(device.chip.content()[..4_096].iter().all(|byte| *byte == 0xff), "{what}: the page is erased");
        },
    );
}

fn joining<const W: usize, const R: usize>() {
    let mut device = Device::<W, R>::provisioned(1);
    let mut rng = device.boot().unwrap().rng;
    let identity = Identity::new(&join_key(), &mut rng);
    cut_everywhere(
        &device,
        |device| {
            let mut store = device.boot()?.store;
            Ok(block_on(store.keep_identity(&identity))?)
        },
        |device, what| {
            let mut store = device.boot().unwrap_or_else(|stop| panic!("{what}: {stop:?}")).store;
            match block_on(store.identity()).unwrap() {
                Some(kept) => assert_eq!(kept, identity, "{what}"),
                None => assert!(block_on(store.join_key()).unwrap().is_some(), "{what}: it can still join"),
            }
        },
    );
}

fn registration<const W: usize, const R: usize>() {
    let (device, identity) = joined::<W, R>();
    let after = registered(&identity);
    cut_everywhere(
        &device,
        |device| {
            let mut store = device.boot()?.store;
            Ok(block_on(store.keep_identity(&after))?)
        },
        |device, what| {
            let kept = kept(device, what).expect(what);
            assert!(kept == identity || kept == after, "{what}: {kept:?}");
        },
    );
}

fn renewal<const W: usize, const R: usize>() {
    let (device, identity) = joined::<W, R>();
    let identity = registered(&identity);
    let begun = Identity { next_node: Some(identity.node.clone()), ..later(&identity, 1) };
    let done = later(&identity, 2);
    cut_everywhere(
        &device,
        |device| {
            let mut store = device.boot()?.store;
            block_on(store.keep_identity(&begun))?;
            Ok(block_on(store.keep_identity(&done))?)
        },
        |device, what| {
            let kept = kept(device, what).expect(what);
            let first = kept.join_secret.is_some() && registered(&kept) == identity;
            assert!(first || kept == begun || kept == done, "{what}: {kept:?}");
        },
    );
}

fn starting<const W: usize, const R: usize>() {
    let (device, identity) = joined::<W, R>();
    cut_everywhere(
        &device,
        |device| {
            for _ in 0..3 {
                device.boot()?;
            }
            Ok(())
        },
        |device, what| assert_eq!(kept(device, what).as_ref(), Some(&identity), "{what}"),
    );
}

fn turning_a_page<const W: usize, const R: usize>() {
    let (device, identity, second) = before_an_erase::<W, R>();
    let (old, new) = (later(&identity, second - 1), later(&identity, second));
    let accesses = cut_everywhere(
        &device,
        |device| {
            let mut store = device.boot()?.store;
            Ok(block_on(store.keep_identity(&new))?)
        },
        |device, what| {
            let kept = kept(device, what).expect(what);
            assert!(kept == old || kept == new, "{what}: {kept:?}");
        },
    );
    assert!(accesses > 10, "items moved to another page");
}

/// After the first cut comes another in what the next start mends.
fn cut_while_mending<const W: usize, const R: usize>() {
    let (device, identity, second) = before_an_erase::<W, R>();
    let (old, new) = (later(&identity, second - 1), later(&identity, second));
    let mut whole = device.copy();
    let before = whole.chip.accesses();
    block_on(whole.boot().unwrap().store.keep_identity(&new)).unwrap();
    let accesses = whole.chip.accesses() - before;
    for at in 0..accesses {
        for (tear, again) in [(Tear::EndsLeft, Tear::Noise), (Tear::Scattered, Tear::Prefix(100))] {
            let mut device = device.copy();
            device.chip.cut_in(Some((at, tear)));
            let _ = device.boot().and_then(|mut running| Ok(block_on(running.store.keep_identity(&new))?));
            for second_cut in 0.. {
                let mut device = device.copy();
                device.chip.cut_in(Some((second_cut, again)));
                let _ = device.boot().and_then(|mut running| Ok(block_on(running.store.keep_identity(&new))?));
                let over = !device.chip.is_dead();
                device.chip.cut_in(None);
                let what = format!("word {W}, access {at} {tear:?}, then {second_cut} {again:?}");
                let kept = kept(&mut device, &what).expect(&what);
                assert!(kept == old || kept == new, "{what}: {kept:?}");
                if over {
                    break;
                }
            }
        }
    }
}

/// Each scenario on chips that program bytes, words, and long words.
macro_rules! on_every_chip {
    ($($name:ident: $scenario:ident;)+) => {
        $(mod $name {
            #[test]
            fn on_a_chip_that_programs_bytes() {
                super::$scenario::<1, 1>();
            }

            #[test]
            fn on_a_chip_that_programs_words() {
                super::$scenario::<4, 4>();
            }

            #[test]
            fn on_a_chip_that_programs_32_bytes() {
                super::$scenario::<32, 4>();
            }
        })+
    };
}

on_every_chip! {
    a_cut_at_the_first_start_loses_nothing_of_the_provisioning_page: provisioning;
    a_cut_while_joining_leaves_the_identity_or_the_join_key: joining;
    a_cut_at_the_registration_leaves_the_identity: registration;
    a_cut_in_a_renewal_leaves_the_old_or_the_new_key: renewal;
    a_cut_at_a_start_never_repeats_a_random_output: starting;
    a_cut_while_a_page_is_turned_loses_nothing: turning_a_page;
}

#[test]
fn a_cut_while_a_cut_is_mended_loses_nothing() {
    cut_while_mending::<4, 4>();
}
