//! Flash and RAM of an image, by the sections of its ELF file.

use std::path::Path;

use anyhow::{Context, Result, bail};
use object::{Object as _, ObjectSection as _, SectionFlags, SectionKind, elf::SHF_ALLOC};

use super::board::{Board, Span};

/// What an image takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Program, constants and initial values.
    pub(super) flash: u64,
    /// Everything static; the stack takes what is left.
    pub(super) ram: u64,
}

impl Size {
    /// What is more in this than in another.
    pub(super) const fn minus(self, other: Self) -> Self {
        Self { flash: self.flash.saturating_sub(other.flash), ram: self.ram.saturating_sub(other.ram) }
    }
}

/// Measures the ELF file at `path`.
pub(super) fn of_image(path: &Path, board: &Board) -> Result<Size> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file =
        object::File::parse(bytes.as_slice()).with_context(|| format!("{} is not an ELF file", path.display()))?;
    let mut size = Size::default();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { bail!("{} is not an ELF file", path.display()) };
        let name = section.name().unwrap_or_default();
        if sh_flags & u64::from(SHF_ALLOC) == 0 || section.size() == 0 || is_no_content(name) {
            continue;
        }
        let within = |spans: &[Span]| spans.iter().any(|span| span.contains(section.address()));
        let in_ram = within(board.ram);
        if !in_ram && !within(board.flash) {
            bail!("section {name} of {} lies at {:#x}, in no memory of the board", path.display(), section.address());
        }
        if in_ram {
            size.ram += section.size();
        }
        if section.kind() != SectionKind::UninitializedData {
            size.flash += section.size();
        }
    }
    Ok(size)
}

/// Sections that only mark a place: the stack, which is what the rest leaves, and the room that one bus of an ESP32-C3 must leave
/// free since the other shows the same memory there.
fn is_no_content(name: &str) -> bool {
    name == ".stack" || name == ".heap" || name.ends_with("_dummy")
}
