//! `cargo xtask firmware`: builds the boards' images, tells and checks their memory, provisions and flashes boards.
//!
//! | module | holds |
//! |---|---|
//! | [`board`] | the boards: their targets and where their memory lies |
//! | [`build`] | cargo for a chip, by rustup's targets or by Debian's compiler |
//! | [`size`] | flash and RAM of an image |
//! | [`table`] | the table of them in `boards/README.md`, and the goals |
//! | [`provision`] | the page that gives a board its join key, seed and settings |
//! | [`uf2`] | the file format that a Pico takes over USB |
//! | [`flash`] | probe-rs, picotool and espflash |

mod board;
mod build;
mod flash;
mod provision;
mod size;
mod table;
mod uf2;

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};

use crate::workspace::heading;
use board::{BOARDS, Board};
use table::Table;

/// What `cargo xtask firmware` takes.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// The board, by its folder in boards/; all of them without it
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// Write the figures into the table of boards/README.md instead of checking them against it
    #[arg(long)]
    update: bool,
    /// Flash the attached board, with its provisioning page if --provision is given
    #[arg(long, requires = "board")]
    flash: bool,
    #[command(flatten)]
    provision: provision::Provision,
}

/// Builds images, and does with them what the options say.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let boards =
        options.board.as_deref().map_or(Ok(BOARDS.iter().collect()), |name| find(name).map(|board| vec![board]))?;
    let page = match (options.provision.page()?, boards.as_slice()) {
        (None, _) => None,
        (Some(page), [board]) => Some(page.save(board)?),
        (Some(_), _) => bail!("name the board that is provisioned with --board"),
    };
    if page.is_some() && !options.flash {
        return Ok(ExitCode::SUCCESS);
    }
    if options.flash {
        let [board] = boards.as_slice() else { bail!("name the board that is flashed with --board") };
        let image = build::image(board, build::Features::Default)?;
        flash::flash(board, &image, page.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    memory(&boards, options.update)?;
    Ok(ExitCode::SUCCESS)
}

/// What CI runs: all boards and the guide's program build, and their memory is what the table says.
pub(crate) fn ci() -> Result<ExitCode> {
    heading("The program of docs/firmware-guide.md");
    build::image(board::GUIDE, build::Features::Default)?;
    run(&Options::default())
}

/// Builds the images that tests run, those of the slow ones too if `full`. Where a target is missing it is told, and the
/// tests that need it are skipped.
pub(crate) fn test_images(full: bool) -> Result<()> {
    heading("Firmware for the tests");
    for board in BOARDS {
        let Some(features) = board.tested_with.filter(|_| full || !board.slow) else { continue };
        match build::cargo_for(board.target) {
            Ok(_) => _ = build::image(board, features)?,
            Err(missing) => println!("The tests with {} will be skipped: {missing:#}", board.name),
        }
    }
    Ok(())
}

/// Builds the image of one board as it would be flashed.
pub(crate) fn image(name: &str) -> Result<()> {
    build::image(find(name)?, build::Features::Default).map(drop)
}

fn find(name: &str) -> Result<&'static Board> {
    let names: Vec<&str> = BOARDS.iter().map(|board| board.name).collect();
    match BOARDS.iter().find(|board| board.name == name) {
        Some(board) => Ok(board),
        None => bail!("there is no board {name:?}; there are {}", names.join(", ")),
    }
}

/// Builds, measures, and compares with the table.
fn memory(boards: &[&Board], update: bool) -> Result<()> {
    let mut measured = Table::default();
    for board in boards {
        heading(&format!("{} ({})", board.name, board.target));
        // The image that is flashed comes last, since it stays.
        let without = if board.baseline {
            Some(size::of_image(&build::image(board, build::Features::Baseline)?, board)?)
        } else {
            None
        };
        let with = size::of_image(&build::image(board, build::Features::Default)?, board)?;
        measured.add(board.name, with);
        if let Some(without) = without {
            measured.add(&table::baseline(board.name), without);
            measured.add(&table::weft(board.name), with.minus(without));
        }
    }
    heading("Memory");
    println!("{measured}");
    table::goals(&measured).iter().for_each(|line| println!("{line}"));
    if update {
        ensure!(boards.len() == BOARDS.len(), "the table is written with the figures of all boards: leave --board out");
        return table::write(&measured);
    }
    table::compare(&measured)
}
