//! X25519: ours and others, which all have to give the same secret.

use core::hint::black_box;

use weft_core::crypto::{DiffieHellman, dh::X25519};
use weft_x25519::ChipX25519;

use crate::report::measure;

/// Measures an agreement, and the making of a public key.
pub fn run() {
    let secret = black_box([0x57; 32]);
    let public = X25519::public_key(&black_box([0x75; 32]));
    let expected = *X25519::agree(&secret, &public).expect("not a low-order point").as_bytes();
    let check = |implementation: &str, compute: &dyn Fn() -> [u8; 32]| {
        let shared = measure("X25519", implementation, compute);
        assert_eq!(shared, expected, "{implementation} computes something else");
    };
    check("weft-x25519", &|| seam::<ChipX25519>(&secret, &public));
    check("x25519-dalek", &|| seam::<X25519>(&secret, &public));
    check("ed25519-compact", &|| {
        use ed25519_compact::x25519::{PublicKey, SecretKey};
        *PublicKey::new(public).dh(&SecretKey::new(secret)).expect("not a low-order point")
    });
    check("libcrux-curve25519", &|| {
        let mut clamped = secret;
        libcrux_curve25519::clamp(&mut clamped);
        let mut shared = [0; 32];
        assert!(libcrux_curve25519::ecdh(&mut shared, &public, &clamped).is_ok());
        shared
    });
    check("orion", &|| {
        use orion::hazardous::ecc::x25519::{PrivateKey, PublicKey, key_agreement};
        let secret = PrivateKey::try_from(&secret).expect("32 bytes");
        let public = PublicKey::try_from(&public).expect("32 bytes");
        let shared = key_agreement(&secret, &public).expect("not a low-order point");
        shared.unprotected_as_ref().try_into().expect("32 bytes")
    });
    check("salty", &|| salty::agreement::x25519(secret, public));
    check("wireguard-sans-io", &|| wireguard_sans_io::crypto::x25519::x25519(&secret, &public));

    let ours = measure("X25519, public key", "weft-x25519", || ChipX25519::public_key(&secret));
    let dalek = measure("X25519, public key", "x25519-dalek", || X25519::public_key(&secret));
    assert_eq!(ours, dalek);
}

fn seam<D: DiffieHellman>(secret: &[u8; 32], public: &[u8; 32]) -> [u8; 32] {
    *D::agree(secret, public).expect("not a low-order point").as_bytes()
}
