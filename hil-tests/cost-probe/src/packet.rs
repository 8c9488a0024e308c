//! Sealing and opening a packet of 1,280 bytes, the inner MTU: the AEAD alone, without WireGuard's header.

use weft_core::crypto::{Aead, aead::ChaCha20Poly1305};

use crate::report::measure;

const LEN: usize = 1_280;
const SEAL: &str = "seal 1,280 B";
const OPEN: &str = "open 1,280 B";

/// Measures ours and others, which all have to give the same packet.
pub fn run() {
    let key = core::hint::black_box([0x57; 32]);
    let plain: [u8; LEN] = core::array::from_fn(|index| index as u8);

    let mut text = plain;
    let tag = measure(SEAL, "chacha20poly1305 (weft)", || ChaCha20Poly1305::seal(&key, 7, &[], &mut text));
    let sealed = text;
    measure(OPEN, "chacha20poly1305 (weft)", || ChaCha20Poly1305::open(&key, 7, &[], &mut text, &tag))
        .expect("authentic");
    assert_eq!(text, plain);

    let nonce = weft_core::crypto::aead::nonce(7);
    {
        use orion::hazardous::aead::chacha20poly1305::{ChaCha20Poly1305, Nonce, SecretKey};
        let key = SecretKey::try_from(&key).expect("32 bytes");
        let nonce = Nonce::try_from(&nonce).expect("12 bytes");
        let tag = measure(SEAL, "orion", || ChaCha20Poly1305::seal_inplace(&key, &nonce, None, &mut text))
            .expect("not too long");
        assert_eq!(text, sealed);
        measure(OPEN, "orion", || ChaCha20Poly1305::open_inplace(&key, &nonce, &tag, None, &mut text))
            .expect("authentic");
        assert_eq!(text, plain);
    }
    {
        use libcrux_chacha20poly1305::{decrypt_detached, encrypt_detached};
        let (mut out, mut back, mut tag) = ([0; LEN], [0; LEN], [0; 16]);
        measure(SEAL, "libcrux-chacha20poly1305", || {
            assert!(encrypt_detached(&key, &plain, &mut out, &mut tag, &[], &nonce).is_ok());
        });
        assert_eq!(out, sealed);
        measure(OPEN, "libcrux-chacha20poly1305", || {
            assert!(decrypt_detached(&key, &mut back, &out, &tag, &[], &nonce).is_ok());
        });
        assert_eq!(back, plain);
    }
    {
        use wireguard_sans_io::crypto::aead::{nonce_from_counter, open, seal};
        let (mut out, mut back) = ([0; LEN + 16], [0; LEN]);
        let nonce = nonce_from_counter(7);
        measure(SEAL, "wireguard-sans-io", || assert!(seal(&key, &nonce, &[], &plain, &mut out).is_ok()));
        assert_eq!((&out[..LEN], &out[LEN..]), (&sealed[..], &tag[..]));
        measure(OPEN, "wireguard-sans-io", || assert!(open(&key, &nonce, &[], &out, &mut back).is_ok()));
        assert_eq!(back, plain);
    }
}
