//! The command line of `weft-control`.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use weft_core::control::ServerAddress;

use crate::{
    admin::{Command, client, table},
    lock::DataLock,
    refusal::Refusal,
    server::{Server, ServerConfig},
    store::backup,
};

/// Weft's control server: who is in the network, with which address and name.
#[derive(Debug, Parser)]
#[command(name = "weft-control", version, about, arg_required_else_help = true)]
struct Cli {
    /// The server's data directory.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/weft-control")]
    data: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the server.
    Serve(Serve),
    /// Users: the people that nodes belong to.
    #[command(subcommand)]
    User(User),
    /// Join keys: one string that lets a machine join.
    #[command(subcommand)]
    Key(Key),
    /// Nodes: the machines of the network.
    #[command(subcommand)]
    Node(Node),
    /// Write a copy of everything to FILE; works while the server runs. The copy holds the server's secret key.
    Backup {
        /// The file, which must not exist yet.
        file: PathBuf,
    },
    /// Put the copy in FILE in place of what is there; the server must be stopped.
    Restore {
        /// A file that `backup` wrote.
        file: PathBuf,
    },
    /// Replace the server's key: announce the next one, and later switch to it.
    ///
    /// Without an option, makes the next key and tells it to every node that connects. With --switch, new join keys
    /// name that key; nodes that were away may still use the one before and are told then. With --retire, the one
    /// before is forgotten, and a node that has not connected since the announcement must join again.
    RotateKey(Rotate),
}

#[derive(Debug, Args)]
struct Serve {
    /// The address and port to listen on.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8080")]
    listen: SocketAddr,
    /// How nodes reach this server; may be repeated. It stands in every join key.
    #[arg(long, value_name = "http://HOST:PORT", required = true)]
    url: Vec<ServerAddress>,
    /// How long an ephemeral node stays after it went offline.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    ephemeral_grace: Duration,
    /// How long the node key of a node without tags is valid.
    #[arg(long, value_name = "TIME", default_value = "180d", value_parser = duration)]
    key_validity: Duration,
}

#[derive(Debug, Subcommand)]
enum User {
    /// Make a user.
    Create {
        /// Its name.
        name: String,
    },
    /// List the users.
    List,
}

#[derive(Debug, Subcommand)]
enum Key {
    /// Make a join key and print it.
    Create {
        /// The user whose nodes join with it.
        #[arg(long)]
        user: String,
        /// For any number of machines instead of one.
        #[arg(long)]
        reusable: bool,
        /// For machines that are removed some minutes after they went offline.
        #[arg(long)]
        ephemeral: bool,
        /// A tag of the machines, such as tag:server; may be repeated. Keys of tagged nodes do not expire.
        #[arg(long = "tag", value_name = "tag:NAME")]
        tags: Vec<String>,
        /// How long the join key is good for, such as 24h.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
    },
    /// List the join keys.
    List,
    /// Revoke a join key. Machines that joined with it stay.
    Revoke {
        /// Its id.
        id: u64,
    },
}

#[derive(Debug, Subcommand)]
enum Node {
    /// List the nodes.
    List,
    /// Give a node another name.
    Rename {
        /// Its id, name or address.
        node: String,
        /// The new name.
        name: String,
    },
    /// End a node's key: it must join again with a new join key, and keeps its name and address.
    Expire {
        /// Its id, name or address.
        node: String,
    },
    /// Remove a node from the network.
    Remove {
        /// Its id, name or address.
        node: String,
    },
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Rotate {
    /// Make the announced key the current one.
    #[arg(long)]
    switch: bool,
    /// Forget the key before the current one.
    #[arg(long)]
    retire: bool,
}

fn duration(text: &str) -> Result<Duration, Refusal> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| *duration >= Duration::from_secs(1))
        .ok_or_else(|| Refusal::BadDuration(text.to_owned()))
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    // Nobody is left to tell where this fails.
    let _ = writeln!(io::stderr(), "weft-control: {error}");
    ExitCode::FAILURE
}

async fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    let command = match cli.action {
        Action::Serve(options) => return serve(&cli.data, options).await,
        Action::Restore { file } => {
            let lock = DataLock::take(&cli.data)?;
            let former = backup::restore(&lock, &file).await?;
            let restored = serde_json::json!({ "restored": file, "former": former });
            let kept = former.map(|former| format!("; what was there is kept as {}", former.display()));
            let text =
                format!("restored from {}{}\nstart the server again\n", file.display(), kept.unwrap_or_default());
            return print(&if cli.json { format!("{restored:#}\n") } else { text });
        }
        Action::User(User::Create { name }) => Command::UserCreate { name },
        Action::User(User::List) => Command::UserList,
        Action::Key(Key::Create { user, reusable, ephemeral, tags, expires }) => {
            Command::KeyCreate { user, reusable, ephemeral, tags, valid_for: expires.map(|expires| expires.as_secs()) }
        }
        Action::Key(Key::List) => Command::KeyList,
        Action::Key(Key::Revoke { id }) => Command::KeyRevoke { id },
        Action::Node(Node::List) => Command::NodeList,
        Action::Node(Node::Rename { node, name }) => Command::NodeRename { node, name },
        Action::Node(Node::Expire { node }) => Command::NodeExpire { node },
        Action::Node(Node::Remove { node }) => Command::NodeRemove { node },
        Action::Backup { file } => Command::Backup { file: std::path::absolute(file)? },
        Action::RotateKey(Rotate { switch: true, .. }) => Command::RotateSwitch,
        Action::RotateKey(Rotate { retire: true, .. }) => Command::RotateRetire,
        Action::RotateKey(_) => Command::RotateAnnounce,
    };
    let outcome = client::run(&cli.data, command).await?;
    if cli.json { print(&format!("{:#}\n", outcome.json())) } else { print(&table::render(&outcome)) }
}

fn print(text: &str) -> Result<(), Box<dyn std::error::Error>> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

async fn serve(data: &Path, options: Serve) -> Result<(), Box<dyn std::error::Error>> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WEFT_LOG");
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")))
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .init();
    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    raise_descriptor_limit();
    let mut config = ServerConfig::new(options.listen, options.url);
    config.ephemeral_grace = options.ephemeral_grace;
    config.directory.policy.key_validity = options.key_validity.as_secs();
    let mut server = Server::start(DataLock::take(data)?, config).await?;
    tracing::info!("serving {} on {}", server.directory().data().display(), server.address());
    tokio::select! {
        _ = stop.recv() => {}
        _ = interrupt.recv() => {}
        () = server.failed() => return Err("the server cannot go on: see the log; what was acknowledged is stored".into()),
    }
    tracing::info!("stopping");
    server.stop().await;
    Ok(())
}

/// One descriptor a node: the usual soft limit of 1,024 is far below what the machine allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}
