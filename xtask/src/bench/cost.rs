//! `cargo xtask bench cost`: what the cryptography costs on the chips, counted in QEMU by `hil-tests/cost-probe`.

use std::{
    fmt::Write,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use weft_hil::{
    process::{Daemon, output},
    requirement::{self, Requirement},
};

use crate::{
    setup,
    tally::Tally,
    workspace::{cargo, heading, root, run as step},
};

/// The probe: a workspace of its own, built like a board.
const PROBE: &str = "hil-tests/cost-probe/Cargo.toml";

/// A chip that the probe runs as.
struct Chip {
    target: &'static str,
    /// QEMU and its machine.
    emulator: &'static str,
    /// What stands for it, and at which clock.
    stands_for: &'static str,
    megahertz: u32,
    /// Cycles of a hundred instructions.
    cycles_per_100: u32,
    /// Where that is from.
    why: &'static str,
    /// The implementation that Weft's boards use there.
    ours: &'static str,
    /// Instructions that an X25519 of it may take.
    x25519_limit: u32,
}

const CHIPS: [Chip; 2] = [
    Chip {
        target: "thumbv6m-none-eabi",
        emulator: "qemu-system-arm -M mps2-an385",
        stands_for: "Cortex-M0+ of an RP2040",
        megahertz: 125,
        cycles_per_100: 152,
        why: "as rp2040js counts X25519 and packets, with code and data always at hand",
        ours: "weft-x25519",
        x25519_limit: 5_000_000,
    },
    Chip {
        target: "riscv32imc-unknown-none-elf",
        emulator: "qemu-system-riscv32 -M virt -cpu rv32,a=off,f=off,d=off -bios none",
        stands_for: "ESP32-C3",
        megahertz: 160,
        cycles_per_100: 120,
        why: "assumed, not measured",
        ours: "x25519-dalek",
        x25519_limit: 5_000_000,
    },
];

/// How long a WireGuard handshake may take a side, in milliseconds.
const HANDSHAKE_LIMIT: f64 = 250.0;
/// How long QEMU may take for one program. Measured 12 s on an idle machine.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// By how much the cycles of an instruction may differ from subject to subject.
const CYCLES_TOLERANCE: f64 = 0.03;
const RP2040_EMULATOR: Requirement = Requirement::NodePackage { folder: "rp2040js", package: "rp2040js" };

/// What a line of the probe says.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// A measured cost.
    Cost { subject: String, implementation: String, instructions: u32, stack: u32 },
    /// Least and greatest instructions over a number of inputs.
    Constant { subject: String, inputs: u32, least: u32, greatest: u32 },
    /// Cases of a set of vectors that passed.
    Vectors { set: String, cases: u32 },
    /// What the emulator of an RP2040 counted.
    Cycles { subject: String, instructions: u32, cycles: u32 },
}

impl Line {
    /// `None` for a line that is not one of the report.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.trim().split('|').collect();
        Some(match fields[..] {
            ["cost", subject, implementation, instructions, stack] => Self::Cost {
                subject: subject.into(),
                implementation: implementation.into(),
                instructions: instructions.parse().ok()?,
                stack: stack.parse().ok()?,
            },
            ["constant", subject, inputs, least, greatest] => Self::Constant {
                subject: subject.into(),
                inputs: inputs.parse().ok()?,
                least: least.parse().ok()?,
                greatest: greatest.parse().ok()?,
            },
            ["vectors", set, cases] => Self::Vectors { set: set.into(), cases: cases.parse().ok()? },
            ["cycles", subject, instructions, cycles] => Self::Cycles {
                subject: subject.into(),
                instructions: instructions.parse().ok()?,
                cycles: cycles.parse().ok()?,
            },
            _ => return None,
        })
    }
}

/// Builds the probe, runs it as both chips, prints the tables and checks the limits.
pub(super) fn run() -> Result<ExitCode> {
    setup::required_tools(setup::QEMU)?;
    setup::chip_targets()?;
    let mut tally = Tally::default();
    for chip in &CHIPS {
        heading(&format!("{}, standing for the {}", chip.target, chip.stands_for));
        step(&mut cargo(&format!("build --release --locked --manifest-path {PROBE} --target {}", chip.target)))?;
        let costs = chip.run("cost-probe", "-icount shift=0")?;
        println!("\n{}", chip.table(&costs));
        chip.check(&mut tally, &costs);
        let vectors = chip.run("vectors", "")?;
        tally.check("X25519 vectors on the chip", all_vectors(&vectors));
    }
    heading("Cycles of an RP2040, in the emulator rp2040js");
    setup::rp2040_emulators(false);
    let name = format!("an RP2040 takes {} cycles for a hundred instructions", CHIPS[0].cycles_per_100);
    match requirement::NODE.missing().or_else(|| RP2040_EMULATOR.missing()) {
        Some(reason) => tally.skip(&name, &reason),
        None => tally.check(&name, rp2040(&CHIPS[0])),
    }
    Ok(tally.finish())
}

/// Counts cycles, and compares them with what the times of `chip` are made from.
fn rp2040(chip: &Chip) -> Result<()> {
    let folder = root().join(PROBE).with_file_name("target").join("rp2040");
    step(
        cargo(&format!("build --release --locked --manifest-path {PROBE} --target {}", chip.target))
            .args(["--features", "rp2040", "--bin", "cycles", "--target-dir"])
            .arg(&folder),
    )?;
    let mut node = Command::new("node");
    node.arg(root().join(PROBE).with_file_name("cycles.mjs")).arg(folder.join(chip.target).join("release/cycles"));
    let counted: Vec<Line> = output(&mut node)?.lines().filter_map(Line::parse).collect();
    let mut rows = 0;
    for line in &counted {
        if let Line::Cycles { subject, instructions, cycles } = line {
            let ratio = f64::from(*cycles) / f64::from(*instructions);
            let (counts, millis) =
                ([*instructions, *cycles].map(grouped), f64::from(*cycles) / f64::from(chip.megahertz) / 1e3);
            println!("{subject}: {} instructions, {} cycles, {ratio:.2} each, {millis:.1} ms", counts[0], counts[1]);
            let used = f64::from(chip.cycles_per_100) / 100.0;
            ensure!(
                (ratio / used - 1.0).abs() < CYCLES_TOLERANCE,
                "{subject}: {ratio:.3} cycles an instruction, not {used}"
            );
            rows += 1;
        }
    }
    ensure!(rows == 4, "the emulator counted {rows} subjects, not 4");
    Ok(())
}

impl Chip {
    /// What a program of the probe reports.
    fn run(&self, program: &str, options: &str) -> Result<Vec<Line>> {
        let image: PathBuf =
            root().join(PROBE).with_file_name("target").join(self.target).join("release").join(program);
        let mut words = self.emulator.split(' ').chain(options.split_whitespace());
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(["-nographic", "-monitor", "none", "-serial", "none"]);
        command.args(["-semihosting-config", "enable=on,target=native", "-kernel"]).arg(image);
        let mut emulator = Daemon::spawn(program, &mut command)?;
        let status = emulator.wait(TIME_LIMIT)?;
        let log = emulator.log();
        ensure!(status.success(), "{program} failed on {} ({status}):\n{log}", self.target);
        Ok(log.lines().filter_map(Line::parse).collect())
    }

    /// The time of so many instructions, in milliseconds.
    fn millis(&self, instructions: u32) -> f64 {
        f64::from(instructions) * f64::from(self.cycles_per_100) / 100.0 / f64::from(self.megahertz) / 1e3
    }

    /// The costs as a table in Markdown.
    fn table(&self, lines: &[Line]) -> String {
        let cycles = f64::from(self.cycles_per_100) / 100.0;
        let mut text = format!(
            "Times at {} MHz and {cycles} cycles an instruction ({}).\n\n\
             | what | implementation | instructions | time | stack |\n|---|---|---|---|---|\n",
            self.megahertz, self.why
        );
        for line in lines {
            if let Line::Cost { subject, implementation, instructions, stack } = line {
                let (count, millis) = (grouped(*instructions), self.millis(*instructions));
                // Writing to a string does not fail.
                let _ = writeln!(
                    text,
                    "| {subject} | {implementation} | {count} | {millis:.1} ms | {} B |",
                    grouped(*stack)
                );
            }
        }
        text
    }

    fn check(&self, tally: &mut Tally, lines: &[Line]) {
        let of = |subject: &str, ours: &str| cost(lines, subject, ours);
        tally.check(
            &format!("X25519 takes at most {} instructions", grouped(self.x25519_limit)),
            of("X25519", self.ours).and_then(|instructions| {
                ensure!(instructions <= self.x25519_limit, "{} instructions", grouped(instructions));
                Ok(())
            }),
        );
        for role in ["initiator", "responder"] {
            for first in ["", ", first with a peer"] {
                let subject = format!("WireGuard handshake, {role}{first}");
                tally.check(
                    &format!("{subject}: at most {HANDSHAKE_LIMIT} ms at {} MHz", self.megahertz),
                    of(&subject, &format!("weft, {}", self.ours)).and_then(|instructions| {
                        let millis = self.millis(instructions);
                        ensure!(millis <= HANDSHAKE_LIMIT, "{millis:.1} ms");
                        Ok(())
                    }),
                );
            }
        }
        for subject in ["X25519", "X25519, public key"] {
            tally.check(
                &format!("weft-x25519 takes the same instructions for every secret: {subject}"),
                constant(lines, subject),
            );
        }
    }
}

fn cost(lines: &[Line], wanted: &str, of: &str) -> Result<u32> {
    let found = lines.iter().find_map(|line| match line {
        Line::Cost { subject, implementation, instructions, .. } if subject == wanted && implementation == of => {
            Some(*instructions)
        }
        _ => None,
    });
    found.with_context(|| format!("the probe reported no {wanted} of {of}"))
}

fn constant(lines: &[Line], wanted: &str) -> Result<()> {
    let found = lines.iter().find_map(|line| match line {
        Line::Constant { subject, inputs, least, greatest } if subject == wanted => Some((*inputs, *least, *greatest)),
        _ => None,
    });
    let (inputs, least, greatest) = found.with_context(|| format!("the probe reported no range of {wanted}"))?;
    ensure!(inputs >= 20, "only {inputs} inputs were tried");
    ensure!(least == greatest, "between {} and {}", grouped(least), grouped(greatest));
    Ok(())
}

fn all_vectors(lines: &[Line]) -> Result<()> {
    for (wanted, least) in [("RFC 7748, key exchange", 2), ("Wycheproof", 500), ("RFC 7748, iterations", 1_000)] {
        let passed =
            lines.iter().any(|line| matches!(line, Line::Vectors { set, cases } if set == wanted && *cases >= least));
        ensure!(passed, "the chip did not report {least} cases of {wanted}: {lines:?}");
    }
    Ok(())
}

/// A number with commas between groups of three digits.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        text.lines().filter_map(Line::parse).collect()
    }

    #[test]
    fn the_lines_of_the_probe_are_read_and_others_are_not() {
        let found = lines(
            "QEMU says hello\ncost|X25519|weft-x25519|3638642|1332\nconstant|X25519|24|7|7\nvectors|W|518\ncost|X|y|z|1\ncycles|X|2|3",
        );
        let cost = Line::Cost {
            subject: "X25519".into(),
            implementation: "weft-x25519".into(),
            instructions: 3_638_642,
            stack: 1_332,
        };
        let constant = Line::Constant { subject: "X25519".into(), inputs: 24, least: 7, greatest: 7 };
        let vectors = Line::Vectors { set: "W".into(), cases: 518 };
        let cycles = Line::Cycles { subject: "X".into(), instructions: 2, cycles: 3 };
        assert_eq!(found, [cost, constant, vectors, cycles]);
    }

    #[test]
    fn a_count_that_depends_on_the_secret_is_refused() {
        assert!(constant(&lines("constant|X25519|24|7|7"), "X25519").is_ok());
        assert!(constant(&lines("constant|X25519|24|7|8"), "X25519").is_err());
        assert!(constant(&lines("constant|X25519|2|7|7"), "X25519").is_err());
        assert!(constant(&lines(""), "X25519").is_err());
    }

    #[test]
    fn a_set_of_vectors_that_did_not_run_to_its_end_is_found() {
        let all = "vectors|RFC 7748, key exchange|2\nvectors|Wycheproof|518\nvectors|RFC 7748, iterations|1000";
        assert!(all_vectors(&lines(all)).is_ok());
        assert!(all_vectors(&lines(all.rsplit_once('\n').unwrap().0)).is_err());
    }

    #[test]
    fn times_follow_from_instructions_clock_and_cycles() {
        assert_eq!(CHIPS[1].millis(10_000_000), 75.0);
        assert_eq!(grouped(1), "1");
        assert_eq!(grouped(3_638_642), "3,638,642");
    }
}
