//! `cargo xtask dist`: `weft` and `weft-control` as static, stripped binaries for small routers and servers.
//!
//! The C library is musl, and Zig is the C compiler and the linker of every target, since it has all of them in one
//! package. The profile `small` says how they are optimised.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use object::Object;
use weft_hil::distribution::Architecture;

use crate::{
    setup,
    toolchain::Toolchain,
    workspace::{heading, run as step, target as build_folder},
};

/// What `cargo xtask dist` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Build for these processors only
    #[arg(long, value_name = "PROCESSOR", value_parser = architecture)]
    target: Vec<Architecture>,
}

/// The profile of the workspace's manifest.
const PROFILE: &str = "small";
/// What is installed of PyPI: cargo with Zig as C compiler and linker, and Zig.
const ZIG: [&str; 2] = ["cargo-zigbuild==0.24.0", "ziglang==0.17.1"];
/// Debian's compiler links what it built itself with the start files of Zig's musl, having none of its own.
const DEBIAN_FLAGS: &str = "-C link-self-contained=no -C target-feature=+crt-static";

/// A binary that is built for distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// `weft`.
    Agent,
    /// `weft-control`.
    ControlServer,
}

/// A binary that was built.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) file: PathBuf,
    /// Bytes on the disk.
    pub(crate) len: u64,
    architecture: Architecture,
}

/// What builds for one processor.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    architecture: Architecture,
    toolchain: Toolchain,
    /// The folder with the programs of [`ZIG`].
    zig: PathBuf,
}

/// Builds everything for the processors asked for and prints the sizes.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let all = Architecture::ALL;
    let architectures = if options.target.is_empty() { &all[..] } else { &options.target[..] };
    let mut built = Vec::new();
    for architecture in architectures {
        let builder = Builder::set_up(*architecture)?;
        for program in Program::ALL {
            built.push(builder.build(program)?);
        }
    }
    heading("Static, stripped binaries");
    built.iter().for_each(|built| println!("{built}"));
    Ok(ExitCode::SUCCESS)
}

/// Builds the binaries that tests emulate. Where the machine lacks something for that, tells what, and those tests are
/// named skips.
pub(crate) fn test_binaries(full: bool) -> Result<()> {
    let mut wanted = vec![(Architecture::Aarch64, vec![Program::Agent])];
    if full {
        wanted = [Architecture::Aarch64, Architecture::Armv7].map(|of| (of, Program::ALL.to_vec())).to_vec();
    }
    for (architecture, programs) in wanted {
        match Builder::set_up(architecture) {
            Ok(builder) => programs.into_iter().try_for_each(|program| builder.build(program).map(drop))?,
            Err(error) => {
                heading("Some tests will be skipped");
                println!("Binaries for {architecture} cannot be built here: {error:#}");
            }
        }
    }
    Ok(())
}

impl Builder {
    /// Sets up what building for a processor needs, or fails with the command that does.
    pub(crate) fn set_up(architecture: Architecture) -> Result<Self> {
        let toolchain = Toolchain::for_target(triple(architecture))?;
        let zig = setup::python_packages("zig", &ZIG)?;
        Ok(Self { architecture, toolchain, zig })
    }

    /// Builds one program into `dist` below the build folder.
    pub(crate) fn build(&self, program: Program) -> Result<Built> {
        let (package, name) = program.names();
        let (architecture, triple) = (self.architecture, triple(self.architecture));
        heading(&format!("Building {name} for {architecture}"));
        let mut build = self.toolchain.command(&self.zig.join("cargo-zigbuild"), "std");
        build.args(["zigbuild", "--profile", PROFILE, "--target", triple, "--package", package, "--bin", name]);
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(self.zig.clone()).chain(std::env::split_paths(&paths));
        build.env("PATH", std::env::join_paths(paths)?).env("CARGO_TARGET_DIR", build_folder());
        // What Zig and its caller keep belongs to this build folder, not to the user's home.
        for cache in ["ZIG_GLOBAL_CACHE_DIR", "CARGO_ZIGBUILD_CACHE_DIR"] {
            build.env(cache, build_folder().join("python/zig/cache"));
        }
        if self.toolchain == Toolchain::Debian {
            build.env("RUSTFLAGS", DEBIAN_FLAGS);
        }
        step(&mut build)?;
        let from = build_folder().join(triple).join(PROFILE).join(name);
        let folder = build_folder().join("dist").join(architecture.name());
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = folder.join(name);
        let len = std::fs::copy(&from, &file).with_context(|| format!("cannot copy {}", from.display()))?;
        is_static_and_stripped(&file)?;
        Ok(Built { file, len, architecture })
    }
}

/// Fails where a binary needs a dynamic linker, or still has symbols.
fn is_static_and_stripped(file: &Path) -> Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let parsed = object::File::parse(&*bytes).with_context(|| format!("{} is no binary", file.display()))?;
    ensure!(parsed.section_by_name(".interp").is_none(), "{} is not static", file.display());
    ensure!(parsed.symbols().next().is_none(), "{} is not stripped", file.display());
    Ok(())
}

fn architecture(name: &str) -> Result<Architecture, String> {
    Architecture::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| {
        let known: Vec<&str> = Architecture::ALL.iter().map(|known| known.name()).collect();
        format!("there are {}", known.join(", "))
    })
}

/// The name that Rust has for a processor with Linux and musl.
fn triple(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "x86_64-unknown-linux-musl",
        Architecture::Aarch64 => "aarch64-unknown-linux-musl",
        Architecture::Armv7 => "armv7-unknown-linux-musleabihf",
    }
}

impl Program {
    pub(crate) const ALL: [Self; 2] = [Self::Agent, Self::ControlServer];

    /// The package and the binary.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Agent => ("weft-agent", "weft"),
            Self::ControlServer => ("weft-control", "weft-control"),
        }
    }
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let size = format!("{:.2} MB", self.len as f64 / 1e6);
        write!(f, "{name:<13} {:<8} {size:>8}   {}", self.architecture.name(), self.file.display())
    }
}
