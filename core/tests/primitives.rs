//! The primitives, through the seams that the protocols use them by, against the vectors of their specifications.

use weft_core::crypto::{
    Aead, Crypto, DiffieHellman, LowOrderPoint, OpenPacket, RustCrypto, SealPacket, TAG_LEN,
    aead::nonce,
    hash::{hash, hkdf, hmac, mac},
    xchacha,
};

type A = <RustCrypto as Crypto>::Aead;
type Dh = <RustCrypto as Crypto>::Dh;

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn x25519_agrees_with_rfc_7748_section_5_2() {
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
        assert_eq!(Dh::agree(&bytes(scalar), &bytes(point)).unwrap().as_bytes(), &bytes(shared));
    }
}

#[test]
fn x25519_iterated_1000_times_agrees_with_rfc_7748_section_5_2() {
    let mut point = [0; 32];
    point[0] = 9;
    let mut scalar = point;
    for round in 1..=1_000 {
        let shared = *Dh::agree(&scalar, &point).unwrap().as_bytes();
        point = scalar;
        scalar = shared;
        if round == 1 {
            assert_eq!(scalar, bytes("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
        }
    }
    assert_eq!(scalar, bytes("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

#[test]
fn x25519_key_exchange_agrees_with_rfc_7748_section_6_1() {
    let alice = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    let alice_public = bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let bob_public = bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    assert_eq!(Dh::public_key(&alice), alice_public);
    assert_eq!(Dh::public_key(&bob), bob_public);
    assert_eq!(Dh::agree(&alice, &bob_public).unwrap().as_bytes(), &shared);
    assert_eq!(Dh::agree(&bob, &alice_public).unwrap().as_bytes(), &shared);
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
        assert_eq!(Dh::agree(&[0x55; 32], &bytes(point)).unwrap_err(), LowOrderPoint, "{point}");
    }
}

/// Section 2.8.2 has a nonce that does not begin with four zero bytes, which our seam cannot express.
#[test]
fn chacha20_poly1305_agrees_with_rfc_8439_appendix_a_5() {
    let key = bytes("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
    let counter = u64::from_le_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(nonce(counter), bytes("000000000102030405060708"));
    let aad = bytes::<12>("f33388860000000000004e91");
    let sealed = bytes::<265>(concat!(
        "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb2",
        "4c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf",
        "332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855",
        "9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4",
        "b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e",
        "af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a",
        "0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10",
        "49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29",
        "a6ad5cb4022b02709b",
    ));
    let tag = bytes("eead9d67890cbb22392336fea1851f38");
    let text = "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, \
                or obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference \
                material or to cite them other than as /\u{201c}work in progress./\u{201d}";

    let mut buffer = sealed;
    A::open(&key, counter, &aad, &mut buffer, &tag).unwrap();
    assert_eq!(buffer, text.as_bytes());
    assert_eq!(A::seal(&key, counter, &aad, &mut buffer), tag);
    assert_eq!(buffer, sealed);
    for altered in 0..12 {
        let mut aad = aad;
        aad[altered] ^= 1;
        assert!(A::open(&key, counter, &aad, &mut sealed.clone(), &tag).is_err());
    }
}

#[test]
fn a_batch_is_what_its_packets_are_one_by_one() {
    let key = [7; 32];
    let mut buffers: Vec<Vec<u8>> = [0, 1, 15, 16, 1_280].map(|len: usize| vec![len as u8; len + TAG_LEN]).into();
    let one_by_one: Vec<Vec<u8>> = (100..)
        .zip(&buffers)
        .map(|(counter, buffer)| {
            let mut buffer = buffer.clone();
            let text = buffer.len() - TAG_LEN;
            let tag = A::seal(&key, counter, &[], &mut buffer[..text]);
            buffer[text..].copy_from_slice(&tag);
            buffer
        })
        .collect();
    let mut packets: Vec<SealPacket<'_>> =
        (100..).zip(&mut buffers).map(|(counter, buffer)| SealPacket { counter, buffer }).collect();
    A::seal_batch(&key, &mut packets);
    assert_eq!(buffers, one_by_one);

    buffers[2][0] ^= 1;
    buffers.push(vec![0; TAG_LEN - 1]);
    let mut packets: Vec<OpenPacket<'_>> =
        (100..).zip(&mut buffers).map(|(counter, buffer)| OpenPacket { counter, buffer, authentic: true }).collect();
    A::open_batch(&key, &mut packets);
    assert_eq!(
        packets.iter().map(|packet| packet.authentic).collect::<Vec<_>>(),
        [true, true, false, true, true, false]
    );
}

#[test]
fn xchacha20_poly1305_agrees_with_the_draft() {
    let key = bytes("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let nonce = bytes("404142434445464748494a4b4c4d4e4f5051525354555657");
    let aad = bytes::<12>("50515253c0c1c2c3c4c5c6c7");
    let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                 sunscreen would be it.";
    let mut buffer = *text;
    let tag = xchacha::seal::<A>(&key, &nonce, &aad, &mut buffer);
    let sealed = concat!(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39",
        "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9",
        "21f9664c97637da9768812f615c68b13b52e",
    );
    assert_eq!(hex::encode(buffer), sealed);
    assert_eq!(tag, bytes("c0875924c1c7987947deafd8780acf49"));
    xchacha::open::<A>(&key, &nonce, &aad, &mut buffer, &tag).unwrap();
    assert_eq!(&buffer, text);
}

#[test]
fn blake2s_agrees_with_rfc_7693_appendix_b() {
    assert_eq!(hash(&[b"abc"]), bytes("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"));
    assert_eq!(hash(&[b"a", b"", b"bc"]), hash(&[b"abc"]));
}

/// The self-test of the RFC hashes the digests of many lengths, keyed and not, into one. The lengths that the
/// protocols use go through our functions, the others straight to the crate beneath them.
#[test]
fn blake2s_passes_the_self_test_of_rfc_7693_appendix_e() {
    fn sequence(len: usize, seed: u32) -> Vec<u8> {
        let (mut a, mut b) = (0xdead_4bad_u32.wrapping_mul(seed), 1u32);
        let next = |_| {
            (a, b) = (b, a.wrapping_add(b));
            (b >> 24) as u8
        };
        (0..len).map(next).collect()
    }
    fn digest(len: usize, key: &[u8], text: &[u8]) -> Vec<u8> {
        match (len, key.is_empty()) {
            (32, true) => hash(&[text]).into(),
            (16, false) => mac(key, &[text]).into(),
            _ => blake2s_simd::Params::new().hash_length(len).key(key).hash(text).as_bytes().into(),
        }
    }
    let mut digests = Vec::new();
    for digest_len in [16, 20, 28, 32] {
        for text_len in [0, 3, 64, 65, 255, 1_024] {
            let text = sequence(text_len, text_len as u32);
            digests.extend(digest(digest_len, &[], &text));
            digests.extend(digest(digest_len, &sequence(digest_len, digest_len as u32), &text));
        }
    }
    assert_eq!(hash(&[&digests]), bytes("6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe"));
}

/// The values of wireguard-go's test of its key derivation.
#[test]
fn hkdf_agrees_with_wireguard_go() {
    let cases: [(&[u8], &[u8], [&str; 3]); 3] = [
        (
            b"test-key",
            b"test-input",
            [
                "6f0e5ad38daba1bea8a0d213688736f19763239305e0f58aba697f9ffc41c633",
                "df1194df20802a4fe594cde27e92991c8cae66c366e8106aaa937a55fa371e8a",
                "fac6e2745a325f5dc5d11a5b165aad08b0ada28e7b4e666b7c077934a4d76c24",
            ],
        ),
        (
            b"wireguard",
            b"wireguard",
            [
                "491d43bbfdaa8750aaf535e334ecbfe5129967cd64635101c566d4caefda96e8",
                "1e71a379baefd8a79aa4662212fcafe19a23e2b609a3db7d6bcba8f560e3d25f",
                "31e1ae48bddfbe5de38f295e5452b1909a1b4e38e183926af3780b0c1e1f0160",
            ],
        ),
        (
            b"",
            b"",
            [
                "8387b46bf43eccfcf349552a095d8315c4055beb90208fb1be23b894bc2ed5d0",
                "58a0e5f6faefccf4807bff1f05fa8a9217945762040bcec2f4b4a62bdfe0e86e",
                "0ce6ea98ec548f8e281e93e32db65621c45eb18dc6f0a7ad94178610a2f7338e",
            ],
        ),
    ];
    for (short_key, input, outputs) in cases {
        // HMAC fills a short key up with zeros, so it may as well have them from the start.
        let mut key = [0; 32];
        key[..short_key.len()].copy_from_slice(short_key);
        assert_eq!(hkdf::<3>(&key, input).map(hex::encode), outputs);
        assert_eq!(hkdf::<2>(&key, input).map(hex::encode), outputs[..2]);
        assert_eq!(hkdf::<1>(&key, input).map(hex::encode), outputs[..1]);
        assert_eq!(hmac(&hmac(&key, &[input]), &[&[1]]), bytes(outputs[0]));
    }
}
