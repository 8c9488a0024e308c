//! ChaCha20-Poly1305 by `ring`, which takes about a third of RustCrypto's time for a full packet on x86-64.
//!
//! `ring` does not wipe its copy of a key, so a copy may stay behind on the stack of the thread that sealed; core
//! wipes its own.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use weft_core::crypto::{Aead, Crypto, OpenError, OpenPacket, SealPacket, TAG_LEN, aead::nonce, dh::X25519};

/// The primitives of a host: `ring`'s AEAD and dalek's X25519, whose keys may be static.
#[derive(Clone, Copy, Debug)]
pub struct RingCrypto;

impl Crypto for RingCrypto {
    type Aead = RingChaCha20Poly1305;
    type Dh = X25519;
}

/// `ring`'s ChaCha20-Poly1305.
#[derive(Clone, Copy, Debug)]
pub struct RingChaCha20Poly1305;

impl Aead for RingChaCha20Poly1305 {
    fn seal(key: &[u8; 32], counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
        seal_with(&expand(key), counter, aad, text)
    }

    fn open(key: &[u8; 32], counter: u64, aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), OpenError> {
        open_with(&expand(key), counter, aad, text, tag)
    }

    fn seal_batch(key: &[u8; 32], packets: &mut [SealPacket<'_>]) {
        let key = expand(key);
        for packet in packets {
            if let Some((text, room)) = packet.buffer.split_last_chunk_mut::<TAG_LEN>() {
                *room = seal_with(&key, packet.counter, &[], text);
            }
        }
    }

    fn open_batch(key: &[u8; 32], packets: &mut [OpenPacket<'_>]) {
        let key = expand(key);
        for packet in packets {
            packet.authentic = packet
                .buffer
                .split_last_chunk_mut::<TAG_LEN>()
                .is_some_and(|(text, tag)| open_with(&key, packet.counter, &[], text, tag).is_ok());
        }
    }
}

fn expand(key: &[u8; 32]) -> LessSafeKey {
    match UnboundKey::new(&CHACHA20_POLY1305, key) {
        Ok(key) => LessSafeKey::new(key),
        Err(_) => unreachable!("ring refuses a key only by its length, which the type fixes"),
    }
}

fn seal_with(key: &LessSafeKey, counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
    let nonce = Nonce::assume_unique_for_key(nonce(counter));
    // The only failure is a text of more than 256 GiB, which no buffer holds. A zero tag never verifies.
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), text).ok();
    tag.and_then(|tag| tag.as_ref().try_into().ok()).unwrap_or_default()
}

fn open_with(
    key: &LessSafeKey,
    counter: u64,
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), OpenError> {
    let nonce = Nonce::assume_unique_for_key(nonce(counter));
    match key.open_in_place_separate_tag(nonce, Aad::from(aad), Tag::from(*tag), text, 0..) {
        Ok(_plaintext) => Ok(()),
        Err(_) => Err(OpenError),
    }
}

#[cfg(test)]
mod tests {
    use rand_core::{Rng, UnwrapErr};
    use weft_core::crypto::aead::ChaCha20Poly1305;

    use super::*;

    /// RFC 8439, appendix A.5: the only vector of the RFC whose nonce begins with four zero bytes, as ours do.
    #[test]
    fn rfc_8439_a5_opens() {
        let key: [u8; 32] = hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0").try_into().unwrap();
        let counter = u64::from_le_bytes([0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08]);
        let aad = hex("f33388860000000000004e91");
        let mut text = hex(concat!(
            "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b01",
            "00d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b35",
            "06383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523eaf4534d7f8",
            "3fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a67276",
            "27097a1049e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b"
        ));
        let tag = hex("eead9d67890cbb22392336fea1851f38").try_into().unwrap();
        let sealed = text.clone();
        RingChaCha20Poly1305::open(&key, counter, &aad, &mut text, &tag).unwrap();
        let plain = String::from_utf8(text.clone()).unwrap();
        assert!(plain.starts_with("Internet-Drafts are draft documents valid"), "{plain}");
        assert_eq!(RingChaCha20Poly1305::seal(&key, counter, &aad, &mut text), tag);
        assert_eq!(text, sealed);
    }

    #[test]
    fn it_agrees_with_the_portable_implementation() {
        let mut rng = UnwrapErr(getrandom::SysRng);
        for len in [0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 257, 1_280, 1_420, 4_096, 65_535] {
            let (mut key, mut text, mut aad) = ([0; 32], vec![0; len], vec![0; len % 37]);
            rng.fill_bytes(&mut key);
            rng.fill_bytes(&mut text);
            rng.fill_bytes(&mut aad);
            let counter = rng.next_u64();
            let (mut ours, mut theirs) = (text.clone(), text.clone());
            let tag = RingChaCha20Poly1305::seal(&key, counter, &aad, &mut ours);
            assert_eq!(tag, ChaCha20Poly1305::seal(&key, counter, &aad, &mut theirs), "tag of {len} bytes");
            assert_eq!(ours, theirs, "ciphertext of {len} bytes");
            ChaCha20Poly1305::open(&key, counter, &aad, &mut ours, &tag).unwrap();
            RingChaCha20Poly1305::open(&key, counter, &aad, &mut theirs, &tag).unwrap();
            assert!(ours == text && theirs == text, "plaintext of {len} bytes");
        }
    }

    #[test]
    fn an_altered_packet_does_not_spoil_its_batch() {
        let key = [9; 32];
        let mut buffers = [[1; 80], [2; 80], [3; 80]];
        let mut batch: Vec<_> =
            buffers.iter_mut().zip(7..).map(|(buffer, counter)| SealPacket { counter, buffer }).collect();
        RingChaCha20Poly1305::seal_batch(&key, &mut batch);
        buffers[1][5] ^= 1;
        let mut batch: Vec<_> = buffers
            .iter_mut()
            .zip(7..)
            .map(|(buffer, counter)| OpenPacket { counter, buffer, authentic: false })
            .collect();
        RingChaCha20Poly1305::open_batch(&key, &mut batch);
        assert_eq!(batch.iter().map(|packet| packet.authentic).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!((&buffers[0][..64], &buffers[2][..64]), (&[1; 64][..], &[3; 64][..]));
    }

    #[test]
    fn a_buffer_shorter_than_a_tag_is_left_alone_and_not_authentic() {
        let mut short = [5; TAG_LEN - 1];
        RingChaCha20Poly1305::seal_batch(&[0; 32], &mut [SealPacket { counter: 0, buffer: &mut short }]);
        assert_eq!(short, [5; TAG_LEN - 1]);
        let mut packets = [OpenPacket { counter: 0, buffer: &mut short, authentic: true }];
        RingChaCha20Poly1305::open_batch(&[0; 32], &mut packets);
        assert!(!packets[0].authentic);
    }

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
