//! The command line of `weft`: what can be asked, and what is printed.
//!
//! Every verb but `daemon` and `tunnel` asks the daemon over its local socket and prints the answer. Exit codes: 0
//! done, 1 not done (one sentence on standard error says why), 2 not understood.

mod join;
mod table;
mod verbs;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weft/weft.sock";
/// Where the daemon keeps its state unless told otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/weft";

/// A node of a private WireGuard mesh.
#[derive(Debug, Parser)]
#[command(name = "weft", version, max_term_width = 100)]
pub struct Cli {
    /// The daemon's socket
    #[arg(long, global = true, value_name = "PATH", env = "WEFT_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node: what a service manager starts
    Daemon(Daemon),
    /// Join a mesh, or go on after `weft down`
    Up(Up),
    /// Leave the network for now; the identity stays and `weft up` resumes
    Down,
    /// Leave the mesh: the server is told, and to come back takes another join key
    Logout,
    /// Show this node and its peers
    Status {
        /// Print JSON, with the field names of `tailscale status --json`
        #[arg(long)]
        json: bool,
    },
    /// Print mesh addresses
    Ip(Ip),
    /// Send echo requests to a node through the mesh
    Ping(Ping),
    /// Show whose a mesh address is
    Whois {
        /// A mesh address, such as 100.64.0.2, with a port or without
        #[arg(value_name = "ADDR", value_parser = mesh_address)]
        address: IpAddr,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the versions of this command and of the daemon
    Version {
        /// Print JSON; the daemon's is null where none answers
        #[arg(long)]
        json: bool,
    },
    /// Run a userspace WireGuard on a network device, configured by wg(8)
    Tunnel(crate::tunnel::Args),
}

/// The settings of `weft daemon`.
#[derive(Clone, Debug, Args)]
pub struct Daemon {
    /// Directory for the node's keys and its last netmap
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE)]
    pub state: PathBuf,
    /// Name of the network device
    #[arg(long, value_name = "NAME", default_value = "weft0", value_parser = device_name)]
    pub tun: String,
    /// UDP port for WireGuard; another free one is taken where it is in use
    #[arg(long, value_name = "N", default_value_t = 41641)]
    pub port: u16,
    /// User who may change things besides root
    #[arg(long, value_name = "USER")]
    pub operator: Option<String>,
}

#[derive(Debug, Args)]
struct Up {
    /// The join key, `file:PATH` to read it from a file, or `-` from standard input (a key on the command line is
    /// visible to every user of the machine while the command runs)
    #[arg(long, value_name = "KEY|file:PATH|-")]
    join: Option<String>,
    /// The name to ask for instead of the machine's own; an empty one for the machine's own again
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// User who may change things besides root; an empty name takes the right away
    #[arg(long, value_name = "USER")]
    operator: Option<String>,
    /// How long to wait for the server before giving up, such as 30s or 2m; the daemon goes on trying
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Debug, Args)]
struct Ip {
    /// The IPv4 address only
    #[arg(short = '4', conflicts_with = "v6")]
    v4: bool,
    /// The IPv6 address only
    #[arg(short = '6')]
    v6: bool,
    /// A node's name, address or key; this node where none is given
    node: Option<String>,
}

#[derive(Debug, Args)]
struct Ping {
    /// How many requests to send [default: until the first answer, at most 10]
    #[arg(short = 'c', value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    count: Option<u16>,
    /// How long to wait for each answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// A node's name, address or key
    node: String,
}

/// An address as logs show it: `100.64.0.2`, `100.64.0.2:22`, `[fd7a:115c:a1e0::6440:2]:22`.
fn mesh_address(text: &str) -> Result<IpAddr, String> {
    let with_port = |_| text.parse::<SocketAddr>().map(|address| address.ip());
    text.parse()
        .or_else(with_port)
        .map_err(|_| format!("it is no IP address; `weft ip {text}` prints those of a node of that name"))
}

/// The kernel's rules for names of network devices.
fn device_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if (1..=15).contains(&text.len()) && text != "." && text != ".." && text.chars().all(allowed) {
        Ok(text.into())
    } else {
        Err("the name of a network device has 1 to 15 characters, without spaces, slashes and colons".into())
    }
}

/// Runs what the command line asks for.
#[expect(clippy::print_stderr, reason = "a command line says its errors on standard error")]
pub fn run(cli: Cli) -> ExitCode {
    let socket = cli.socket;
    let result = match cli.command {
        Command::Daemon(settings) => crate::daemon::run(&settings, &socket),
        Command::Tunnel(args) => crate::tunnel::run(&args),
        Command::Up(up) => verbs::up(&socket, up),
        Command::Down => verbs::down(&socket),
        Command::Logout => verbs::logout(&socket),
        Command::Status { json } => verbs::status(&socket, json),
        Command::Ip(ip) => verbs::ip(&socket, &ip),
        Command::Ping(ping) => verbs::ping(&socket, &ping),
        Command::Whois { address, json } => verbs::whois(&socket, address, json),
        Command::Version { json } => verbs::version(&socket, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn verbs_are_read_as_documented() {
        for line in [
            "weft daemon --state /tmp/s --socket /tmp/x --tun weft7 --port 5000 --operator pi",
            "weft --socket /tmp/x up --join file:/root/key --hostname nas",
            "weft --socket /tmp/x up --join -",
            "weft up",
            "weft down",
            "weft logout",
            "weft status --json",
            "weft ip -4 nas",
            "weft ping -c 3 nas",
            "weft whois 100.64.0.2",
            "weft whois 100.64.0.2:22",
            "weft whois [fd7a:115c:a1e0::6440:2]:22",
            "weft version",
            "weft version --json",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
        for line in
            ["weft", "weft ping", "weft ping -c 0 nas", "weft whois nas", "weft ip -4 -6", "weft daemon --tun a/b"]
        {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
