//! Weft.
fn main() {}
