//! The vectors of RFC 7748, through core's seam.

use weft_core::crypto::{DiffieHellman, LowOrderPoint};
use weft_x25519::ChipX25519;

fn bytes(text: &str) -> [u8; 32] {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn section_5_2_single_multiplications() {
    let cases = [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ];
    for (scalar, point, shared) in cases {
        assert_eq!(ChipX25519::agree(&bytes(scalar), &bytes(point)).unwrap().as_bytes(), &bytes(shared));
    }
}

#[test]
fn section_5_2_iterated_1000_times() {
    let mut point = [0; 32];
    point[0] = 9;
    let mut scalar = point;
    for round in 1..=1_000 {
        let shared = *ChipX25519::agree(&scalar, &point).unwrap().as_bytes();
        point = scalar;
        scalar = shared;
        if round == 1 {
            assert_eq!(scalar, bytes("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
        }
    }
    assert_eq!(scalar, bytes("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

#[test]
fn section_6_1_key_exchange() {
    let alice = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    let alice_public = bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let bob_public = bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    assert_eq!(ChipX25519::public_key(&alice), alice_public);
    assert_eq!(ChipX25519::public_key(&bob), bob_public);
    assert_eq!(ChipX25519::agree(&alice, &bob_public).unwrap().as_bytes(), &shared);
    assert_eq!(ChipX25519::agree(&bob, &alice_public).unwrap().as_bytes(), &shared);
}

#[test]
fn a_low_order_point_is_refused() {
    for point in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        assert_eq!(ChipX25519::agree(&[0x55; 32], &bytes(point)).unwrap_err(), LowOrderPoint, "{point}");
    }
}
