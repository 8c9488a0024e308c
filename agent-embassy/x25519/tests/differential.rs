//! Against `x25519-dalek`, point by point.

use proptest::prelude::*;
use weft_core::crypto::{DiffieHellman, LowOrderPoint};
use weft_x25519::ChipX25519;
use x25519_dalek::{PublicKey, StaticSecret};

/// p = 2^255 - 19, little-endian.
const P: [u8; 32] = {
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    p
};

/// What the seam has to say, by dalek.
fn expected(secret: &[u8; 32], public: &[u8; 32]) -> Result<[u8; 32], LowOrderPoint> {
    let shared = StaticSecret::from(*secret).diffie_hellman(&PublicKey::from(*public)).to_bytes();
    if shared == [0; 32] { Err(LowOrderPoint) } else { Ok(shared) }
}

fn ours(secret: &[u8; 32], public: &[u8; 32]) -> Result<[u8; 32], LowOrderPoint> {
    ChipX25519::agree(secret, public).map(|shared| *shared.as_bytes())
}

/// `value + small`, or `value - small` where `small` is negative, modulo 2^256.
fn offset(value: &[u8; 32], small: i16) -> [u8; 32] {
    let mut carry = i32::from(small);
    value.map(|byte| {
        let sum = i32::from(byte) + carry;
        carry = sum >> 8;
        sum as u8
    })
}

/// Points of all kinds: any bytes; close to 0, p, 2p and 2^255, where the encoding is not the only one or the order is
/// low; long runs of ones and of zeros, where limbs are at their limits.
fn point() -> impl Strategy<Value = [u8; 32]> {
    let low_order = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ]
    .map(|text| <[u8; 32]>::try_from(hex::decode(text).unwrap()).unwrap());
    let mut two_to_255 = [0; 32];
    two_to_255[31] = 0x80;
    let edges = [[0; 32], P, two_to_255, [0xff; 32], low_order[0], low_order[1]];
    prop_oneof![
        any::<[u8; 32]>(),
        (prop::sample::select(edges.to_vec()), -40i16..=40).prop_map(|(edge, small)| offset(&edge, small)),
        prop::array::uniform32(prop::sample::select(vec![0x00, 0xff, 0x80, 0x7f, 0x01])),
    ]
}

fn scalar() -> impl Strategy<Value = [u8; 32]> {
    prop_oneof![any::<[u8; 32]>(), prop::array::uniform32(prop::sample::select(vec![0x00, 0xff, 0x80, 0x01]))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn agrees_with_dalek(secret in scalar(), public in point()) {
        prop_assert_eq!(ours(&secret, &public), expected(&secret, &public));
    }

    #[test]
    fn public_keys_agree_with_dalek(secret in scalar()) {
        prop_assert_eq!(ChipX25519::public_key(&secret), PublicKey::from(&StaticSecret::from(secret)).to_bytes());
    }
}

#[test]
fn encodings_around_zero_p_and_2_to_the_255_agree_with_dalek() {
    let mut refused = 0;
    for start in [[0; 32], P, offset(&P, 19), [0xff; 32], offset(&[0xff; 32], -18)] {
        for small in -25..=25 {
            let public = offset(&start, small);
            let secret = [small as u8 ^ 0x5a; 32];
            assert_eq!(ours(&secret, &public), expected(&secret, &public), "{public:02x?}");
            refused += i32::from(ours(&secret, &public).is_err());
        }
    }
    // 0, 1, p - 1, p, p + 1, each with and without the highest bit, and met from several starts.
    assert!(refused >= 10, "{refused}");
}
