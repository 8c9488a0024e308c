//! Holds `docs/firmware-guide.md` to its word: the program it shows is `boards/guide`, which is built, and it is short.

use anyhow::{Context, Result, ensure};

use crate::workspace::root;

const GUIDE: &str = "docs/firmware-guide.md";
const PROGRAM: &str = "boards/guide/src/main.rs";
/// What the guide promises.
const MAX_LINES: usize = 40;

/// Compares the guide with the program that is built.
pub(crate) fn check() -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).with_context(|| format!("cannot read {name}"));
    let (guide, program) = (read(GUIDE)?, read(PROGRAM)?);
    let shown = first_program(&guide).with_context(|| format!("{GUIDE} shows no Rust program"))?;
    ensure!(shown == program, "the program in {GUIDE} is not {PROGRAM}: copy the file into it, whole");
    let lines = code_lines(&program);
    ensure!(lines <= MAX_LINES, "{PROGRAM} has {lines} lines of code, and {GUIDE} promises {MAX_LINES} at most");
    Ok(())
}

/// The content of the first block of Rust.
fn first_program(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("\n```rust\n")?;
    let end = rest.find("\n```\n")?;
    rest.get(..=end)
}

/// Lines with code on them: neither blank nor comment alone.
fn code_lines(program: &str) -> usize {
    program.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_is_found_whole() {
        let text = "a\n```sh\nls\n```\nb\n```rust\nfn main() {\n}\n```\nc\n```rust\nother\n```\n";
        assert_eq!(first_program(text), Some("fn main() {\n}\n"));
        assert_eq!(first_program("nothing"), None);
    }

    #[test]
    fn blank_lines_and_comments_are_no_code() {
        assert_eq!(code_lines("//! Doc.\n\nfn main() {\n    // Why.\n    run(); // now\n}\n"), 3);
    }

    #[test]
    fn the_guide_keeps_its_word() {
        check().unwrap();
    }
}
