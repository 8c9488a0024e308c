//! The committed table of flash and RAM in `boards/README.md`, and the goals.
//!
//! The table is the one place of the figures. A build that differs from it by more than [`TOLERANCE`] fails, whichever
//! direction: then the change is wanted and the table is written anew, or it is not.

use std::{fmt, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::size::Size;
use crate::workspace::root;

const BEGIN: &str = "<!-- memory: written by `cargo xtask firmware --update` -->\n";
const END: &str = "<!-- memory: end -->";

/// The files that hold the table: the boards' own README, and the project's.
const FILES: [&str; 2] = ["boards/README.md", "README.md"];

/// How far a build may be from the table, in bytes a byte: compilers and dependencies differ a little.
const TOLERANCE: f64 = 0.02;
/// And what is allowed in any case, in bytes.
const SLACK: u64 = 512;

/// The board whose figures have a goal.
const MEASURED: &str = "pico-w5500";
/// What weft with 16 peers should take of it in all, weft's part of the stack counted.
const GOAL: Size = Size { flash: 110 * 1024, ram: 44 * 1024 };
/// The stack that weft should need at most. All of it is counted as weft's.
const STACK: u64 = 6 * 1024;

/// The row of a board's firmware without weft.
pub(super) fn baseline(board: &str) -> String {
    format!("{board} without weft")
}

/// The row of what weft adds on a board.
pub(super) fn weft(board: &str) -> String {
    format!("weft on {board}: the difference")
}

/// Rows of figures by name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Table {
    rows: Vec<(String, Size)>,
}

impl Table {
    /// Adds a row.
    pub(super) fn add(&mut self, name: &str, size: Size) {
        self.rows.push((name.into(), size));
    }

    fn get(&self, name: &str) -> Option<Size> {
        self.rows.iter().find(|(row, _)| row == name).map(|(_, size)| *size)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut table = Self::default();
        for line in text.lines().skip(2).filter(|line| !line.is_empty()) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, name, flash, ram, _] = cells.as_slice() else { bail!("not a row of the memory table: {line}") };
            table.add(name, Size { flash: bytes(flash)?, ram: bytes(ram)? });
        }
        Ok(table)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| image | flash, bytes | static RAM, bytes |\n|---|---:|---:|")?;
        self.rows
            .iter()
            .try_for_each(|(name, size)| writeln!(f, "| {name} | {} | {} |", grouped(size.flash), grouped(size.ram)))
    }
}

/// A number with a comma before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index % 3 == first % 3 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(cell: &str) -> Result<u64> {
    cell.replace(',', "").parse().with_context(|| format!("{cell:?} in the memory table is not a number of bytes"))
}

/// Tells how far weft is from what it should take: a line for flash and one for RAM.
///
/// A goal that is missed is told and fails nothing: what must not happen unseen is that an image grows, and the table sees that.
pub(super) fn goals(measured: &Table) -> Vec<String> {
    let Some(weft) = measured.get(&weft(MEASURED)) else { return Vec::new() };
    let told = |what: &str, is: u64, goal: u64| {
        let outcome = if is <= goal { "met".into() } else { format!("MISSED by {}", grouped(is - goal)) };
        format!(
            "weft with 16 peers on {MEASURED}: {} bytes of {what}; the goal of {} is {outcome}",
            grouped(is),
            grouped(goal)
        )
    };
    let ram = format!("RAM, with {} of stack", grouped(STACK));
    vec![told("flash", weft.flash, GOAL.flash), told(&ram, weft.ram + STACK, GOAL.ram)]
}

/// Fails where the committed table says something else.
pub(super) fn compare(measured: &Table) -> Result<()> {
    let committed = FILES.iter().filter_map(|file| read(file).transpose()).collect::<Result<Vec<_>>>()?;
    let [Holder { table: first, .. }, rest @ ..] = committed.as_slice() else {
        bail!("{} has no memory table", FILES[0])
    };
    ensure!(rest.iter().all(|holder| holder.table == *first), "the memory tables of {} differ", FILES.join(" and "));
    let wrong: Vec<String> = measured
        .rows
        .iter()
        .filter_map(|(name, size)| {
            let said = first.get(name).unwrap_or_default();
            let near =
                |one: u64, other: u64| one.abs_diff(other) as f64 <= (other as f64 * TOLERANCE).max(SLACK as f64);
            let right = near(size.flash, said.flash) && near(size.ram, said.ram);
            (!right).then(|| format!("{name}: {size:?}, the table says {said:?}"))
        })
        .collect();
    ensure!(
        wrong.is_empty(),
        "the table in {} is not what the images are:\n  {}\nIf that is as it should be, `cargo xtask firmware --update` writes it",
        FILES[0],
        wrong.join("\n  ")
    );
    println!("as the table in {} says", FILES[0]);
    Ok(())
}

/// Writes the figures into every file that has a table.
pub(super) fn write(measured: &Table) -> Result<()> {
    for file in FILES {
        if let Some(Holder { path, before, after, .. }) = read(file)? {
            std::fs::write(&path, format!("{before}{BEGIN}{measured}{END}{after}"))
                .with_context(|| format!("cannot write {}", path.display()))?;
            println!("wrote the table in {file}");
        }
    }
    Ok(())
}

/// A file that holds the table.
struct Holder {
    path: PathBuf,
    /// Its text before and after the table.
    before: String,
    after: String,
    table: Table,
}

/// A file and its table; `None` where it has none.
fn read(file: &str) -> Result<Option<Holder>> {
    let path = root().join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let Some((before, rest)) = text.split_once(BEGIN) else { return Ok(None) };
    let (table, after) = rest.split_once(END).with_context(|| format!("the memory table of {file} has no end"))?;
    let table = Table::parse(table)?;
    Ok(Some(Holder { path, before: before.into(), after: after.into(), table }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_was_written_is_read_back() {
        let mut table = Table::default();
        table.add("pico-w5500", Size { flash: 123_456, ram: 7 });
        table.add("weft on pico-w5500: the difference", Size { flash: 1_000, ram: 22_000 });
        assert_eq!(Table::parse(&table.to_string()).unwrap(), table);
    }

    #[test]
    fn a_goal_that_is_missed_by_a_byte_is_told() {
        let of = |flash, ram| {
            let mut table = Table::default();
            table.add(&weft(MEASURED), Size { flash, ram });
            goals(&table).iter().map(|line| line.contains("MISSED by 1")).collect::<Vec<_>>()
        };
        assert_eq!(of(110 * 1024, 38 * 1024), [false, false]);
        assert_eq!(of(110 * 1024 + 1, 38 * 1024), [true, false]);
        assert_eq!(of(110 * 1024, 38 * 1024 + 1), [false, true]);
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!([0, 999, 1_000, 12_345, 1_234_567].map(grouped), ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
