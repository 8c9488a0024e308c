//! Firmware on emulated boards in a mesh of real daemons. Each test runs on every machine.
//!
//! | module | holds |
//! |---|---|
//! | [`talking`] | joining, being found, and traffic of every kind, both ways |
//! | [`power`] | boards that lose their power, and what a board makes its keys of |
//! | [`server`] | a control server that goes away, and join keys that are no good |
//! | [`hostile`] | bad wires and attacks |
//! | [`rekey`] | new sessions with a peer |

mod hostile;
mod power;
mod rekey;
mod server;
mod talking;

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Result;
use weft_hil::{
    board::{Bench, Board},
    machine::Machine,
    mesh::{Mesh, Node},
    suite::Suite,
};

/// How long a thing may take that has no limit of its own.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a board may take to join, on a machine that is busy with other tests.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

fn main() -> std::process::ExitCode {
    let add: [fn(Suite) -> Suite; 5] = [talking::add, power::add, server::add, hostile::add, rekey::add];
    add.iter().fold(Suite::new(), |suite, add| add(suite)).run()
}

/// Adds tests to a suite, each once for each machine: `both!(suite, one, slow another)`.
macro_rules! both {
    ($suite:expr, $($kind:ident $test:ident),+ $(,)?) => {{
        use weft_hil::machine::{Machine as _, Mps2, Rv32};
        $suite
            $(.$kind(concat!(stringify!($test), "_on_qemu_mps2"), Mps2::NEEDS, $test::<Mps2>)
            .$kind(concat!(stringify!($test), "_on_qemu_rv32"), Rv32::NEEDS, $test::<Rv32>))+
    }};
}
use both;

/// A mesh with one Linux node, and a subnet for boards.
fn mesh_with(node: &str) -> Result<(Mesh, Bench, Node)> {
    let mut mesh = Mesh::start()?;
    let folder = mesh.folder().to_path_buf();
    let bench = Bench::new(&mut mesh.lab, &folder)?;
    let node = mesh.node(node)?;
    Ok((mesh, bench, node))
}

/// Waits until a board is a member of the mesh, and returns its address there.
fn joined<M: Machine>(board: &mut Board<M>) -> Result<Ipv4Addr> {
    board.wait_for("joined as", JOIN_LIMIT)?.address()
}
