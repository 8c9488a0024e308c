//! The vectors of X25519 on the chip itself, where the compiler and its code are others than on a host: RFC 7748 with
//! its thousand iterations, and Project Wycheproof. Prints `vectors|name|cases`, and stops at the first that fails.

#![no_std]
#![no_main]

// The linker needs the machine's support code; only its entry point is used.
#[cfg(target_arch = "arm")]
use cortex_m as _;
#[cfg(target_arch = "riscv32")]
use riscv as _;
use semihosting::println;
use weft_core::crypto::{DiffieHellman, LowOrderPoint};
use weft_x25519::ChipX25519;

/// Private key, public key, shared secret: written by the build script.
const WYCHEPROOF: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wycheproof.bin"));

/// RFC 7748 section 5.2, after one iteration and after a thousand.
const ITERATED: [(usize, &str); 2] = [
    (1, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"),
    (1_000, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"),
];

/// RFC 7748 section 6.1: secret, public key.
const KEYS: [(&str, &str); 2] = [
    (
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    ),
    (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    ),
];

fn run() -> ! {
    println!("vectors|RFC 7748, key exchange|{}", key_exchange());
    println!("vectors|Wycheproof|{}", wycheproof());
    println!("vectors|RFC 7748, iterations|{}", iterations());
    semihosting::process::exit(0)
}

fn key_exchange() -> usize {
    for (secret, public) in KEYS {
        assert_eq!(ChipX25519::public_key(&bytes(secret)), bytes(public), "the public key of {secret}");
    }
    let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    let [(alice, alice_public), (bob, bob_public)] = KEYS;
    for (secret, public) in [(alice, bob_public), (bob, alice_public)] {
        assert_eq!(agree(&bytes(secret), &bytes(public)), Ok(shared));
    }
    KEYS.len()
}

fn wycheproof() -> usize {
    let (cases, rest) = WYCHEPROOF.as_chunks::<96>();
    assert!(rest.is_empty() && cases.len() > 500, "{} cases and {} bytes", cases.len(), rest.len());
    for (index, case) in cases.iter().enumerate() {
        let ([secret, public, shared], []) = case.as_chunks::<32>() else { unreachable!("96 bytes") };
        let expected = if *shared == [0; 32] { Err(LowOrderPoint) } else { Ok(*shared) };
        assert_eq!(agree(secret, public), expected, "case {index}");
    }
    cases.len()
}

fn iterations() -> usize {
    let mut point = [0; 32];
    point[0] = 9;
    let mut scalar = point;
    let mut done = 0;
    for (count, expected) in ITERATED {
        while done < count {
            let shared = agree(&scalar, &point).expect("not a low-order point");
            point = scalar;
            scalar = shared;
            done += 1;
        }
        assert_eq!(scalar, bytes(expected), "after {count}");
    }
    done
}

fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<[u8; 32], LowOrderPoint> {
    ChipX25519::agree(secret, public).map(|shared| *shared.as_bytes())
}

fn bytes(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).expect("hexadecimal digits");
    }
    bytes
}

#[cfg(target_arch = "arm")]
#[cortex_m_rt::entry]
fn main() -> ! {
    run()
}

#[cfg(target_arch = "riscv32")]
#[riscv_rt::entry]
fn main() -> ! {
    run()
}
