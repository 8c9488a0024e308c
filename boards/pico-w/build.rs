//! Hands the linker the memory map of the board and its scripts, and makes the radio's settings from their text.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let write = |name: &str, content: &[u8]| fs::write(out.join(name), content).expect("OUT_DIR can be written");
    write("memory.x", include_bytes!("memory.x"));
    write("nvram.bin", &nvram(include_str!("nvram.txt")));
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rerun-if-changed=nvram.txt");
    for argument in ["--nmagic", "-Tlink.x", "-Tlink-rp.x", "-Tdefmt.x"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// Each line ends with a zero byte, all of it with two more, in whole words.
fn nvram(text: &str) -> Vec<u8> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut image: Vec<u8> = lines.flat_map(|line| line.bytes().chain([0])).collect();
    image.extend([0, 0]);
    image.resize(image.len().next_multiple_of(4), 0);
    image
}
