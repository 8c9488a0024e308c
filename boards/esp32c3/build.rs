//! Hands the linker the scripts of esp-hal and defmt.

fn main() {
    for argument in ["-Tdefmt.x", "-Tlinkall.x"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
