//! Flash that was never formatted, is of a later format, or lost some of its bits.

use embassy_futures::block_on;
use weft_embassy::{
    flash::{FlashError, OpenError, Setting, Store},
    provision::{self, Field, PageError},
};

use crate::{
    chip::{Chip, PAGE, PAGES},
    device::{Device, Stop},
    power_cut::{joined, kept},
};

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(step).collect()
}

#[test]
fn a_region_that_was_never_formatted_is_formatted_whatever_is_in_it() {
    for seed in 0..20 {
        let mut device = Device::<4, 4>::blank(1);
        let content = match seed {
            0 => vec![0; PAGE * PAGES],
            1 => vec![0xff; PAGE * PAGES],
            _ => noise(PAGE * PAGES, seed),
        };
        device.chip.program(0, &content);
        device.provision();
        let mut store = device.boot().unwrap_or_else(|stop| panic!("seed {seed}: {stop:?}")).store;
        assert!(store.report().formatted && store.report().provisioned, "seed {seed}");
        block_on(store.keep_setting(Setting::App(1), b"kept")).unwrap();
        let mut store = device.boot().unwrap().store;
        assert!(!store.report().formatted, "seed {seed}");
        assert_eq!(block_on(store.setting(Setting::App(1), &mut [0; 9])).unwrap(), Some(&b"kept"[..]));
    }
}

#[test]
fn a_later_format_is_refused_and_left_as_it_is() {
    let (device, _) = joined::<4, 4>();
    // The header of the journal with another format, as a later firmware would write it.
    let sum = |content: &[u8]| weft_core::crypto::hash::hash(&[content]);
    let header = [1, 9, 1, 0, 1, 0, 0, 0];
    device.chip.program(PAGE, &header);
    device.chip.program(PAGE + 8, &sum(&header)[..8]);
    let before = device.chip.content();
    let refused = block_on(Store::open(device.chip.clone())).unwrap_err();
    assert_eq!(refused, OpenError::Later { found: 9 });
    assert!(refused.to_string().contains("install that firmware again"));
    assert_eq!(device.chip.content(), before);
}

#[test]
fn a_region_too_small_is_refused() {
    struct Small(Chip<4, 4>);
    impl embedded_storage_async::nor_flash::ErrorType for Small {
        type Error = crate::chip::PowerIsCut;
    }
    impl embedded_storage_async::nor_flash::ReadNorFlash for Small {
        const READ_SIZE: usize = 4;
        async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
            self.0.read(offset, bytes).await
        }
        fn capacity(&self) -> usize {
            6 * PAGE
        }
    }
    impl embedded_storage_async::nor_flash::NorFlash for Small {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = PAGE;
        async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
            self.0.erase(from, to).await
        }
        async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
            self.0.write(offset, bytes).await
        }
    }
    assert_eq!(block_on(Store::open(Small(Chip::blank()))).unwrap_err(), OpenError::Geometry);
}

#[test]
fn a_damaged_journal_costs_nothing_else() {
    let (mut device, identity) = joined::<4, 4>();
    device.chip.program(PAGE, &noise(2 * PAGE, 3));
    let store = device.boot().unwrap().store;
    assert!(store.report().journal_lost && !store.report().formatted);
    assert_eq!(kept(&mut device, "after the damage"), Some(identity));
}

/// Whatever byte of what was written is damaged: the device starts, and what it gives is still new.
#[test]
fn no_damaged_byte_brings_an_earlier_random_output_back() {
    let (mut device, identity) = joined::<4, 4>();
    for _ in 0..3 {
        device.boot().unwrap();
    }
    let content = device.chip.content();
    let mut lost = 0;
    for at in (PAGE..PAGE * PAGES).filter(|at| content[*at] != 0xff) {
        let mut device = device.copy();
        device.chip.flip(at, 0x14);
        // The same output twice is a panic in here.
        let mut store = device.boot().unwrap_or_else(|stop| panic!("byte {at}: {stop:?}")).store;
        match block_on(store.identity()) {
            Ok(Some(kept)) => assert_eq!(kept, identity, "byte {at}"),
            Ok(None) | Err(FlashError::Identity) => lost += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(lost > 0, "the identity itself was among what was damaged");
}

#[test]
fn a_provisioning_page_that_cannot_be_taken_is_told_and_left() {
    let mut page = [0; PAGE];
    provision::encode(&[Field::Hostname("sensor")], &mut page).unwrap();
    for (at, value, refused) in [(8, 7, PageError::Later { found: 7 }), (16, b'X', PageError::Damaged)] {
        let (mut device, identity) = joined::<4, 4>();
        let mut page = page;
        page[at] = value;
        device.chip.program(0, &page);
        let mut store = device.boot().unwrap().store;
        assert_eq!(store.report().refused, Some(refused));
        assert_eq!(block_on(store.identity()).unwrap(), Some(identity));
        assert!(device.chip.contains(&page[..24]), "a person can still look at it");
    }
}

/// A wild write into the map: the device starts with what is left, or says that it cannot. It never panics.
#[test]
fn noise_in_a_page_of_the_map_ends_in_a_start_or_a_plain_refusal() {
    let (device, _) = joined::<4, 4>();
    let (mut started, mut refused) = (0, 0);
    for page in 3..PAGES {
        for seed in 0..8 {
            let mut device = device.copy();
            let len = [PAGE, 64, 8, 4][seed as usize % 4];
            let at = page * PAGE + (seed as usize / 4) * (PAGE - len);
            device.chip.program(at, &noise(len, seed + 1));
            match device.boot() {
                Ok(_) => started += 1,
                Err(Stop::Open(OpenError::Flash(_)) | Stop::Start(_)) => refused += 1,
                Err(stop) => panic!("page {page}, seed {seed}: {stop:?}"),
            }
        }
    }
    assert!(started > refused, "{started} started, {refused} refused");
}

/// Whatever becomes of a page on its way: it is taken as it was written, or not at all.
#[test]
fn a_page_with_any_bytes_changed_is_taken_whole_or_not_at_all() {
    let mut page = [0; 300];
    let fields = [Field::Seed(&[7; 32]), Field::Hostname("sensor"), Field::App(5, b"laptop:9000")];
    let len = provision::encode(&fields, &mut page).unwrap();
    for seed in 0..20_000 {
        let change = noise(16, seed);
        let mut changed = page;
        for pair in change.chunks_exact(2).take(1 + seed as usize % 8) {
            changed[usize::from(pair[0]) % len] = pair[1];
        }
        let cut = &changed[..if seed % 5 == 0 { usize::from(change[15]) } else { changed.len() }];
        if let Ok(Some(read)) = provision::decode(cut) {
            assert_eq!(read.collect::<Vec<_>>(), fields, "seed {seed}");
        }
        let _ = provision::decode(&noise(usize::from(change[14]), seed));
    }
}
