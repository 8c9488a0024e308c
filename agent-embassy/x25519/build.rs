//! Finds out whether the chip lacks a long multiply: the compiler tells a crate no such detail of the architecture.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(short_multiply)");
    let target = std::env::var("TARGET").unwrap_or_default();
    if ["thumbv6m-", "thumbv8m.base-"].iter().any(|family| target.starts_with(family)) {
        println!("cargo::rustc-cfg=short_multiply");
    }
}
