//! The binary `weft-control`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    weft_control::cli::main()
}
