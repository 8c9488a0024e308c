//! A mesh in a [`Lab`]: a control server and nodes, each on a host of its own, driven by their command lines.

use std::{
    fs::Permissions,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binaries,
    distribution::Program,
    lab::{Host, Lab},
    process::{Daemon, output},
    proxy::{self, Proxy},
    wait,
};

/// The control server's TCP port.
pub const CONTROL_PORT: u16 = 8080;
/// The TCP port of whoever stands between the nodes and the server.
const PROXY_PORT: u16 = 8081;
/// How long a daemon may take to answer its first call.
pub const START_LIMIT: Duration = Duration::from_secs(20);

/// A control server and the network that it and the nodes live in.
///
/// Drop the nodes before the mesh: their namespaces go with them.
#[derive(Debug)]
pub struct Mesh {
    /// The network.
    pub lab: Lab,
    host: Host,
    data: PathBuf,
    daemon: Option<Daemon>,
    folder: TempDir,
    proxy: Option<Proxy>,
    setup: Setup,
}

/// What is unusual about a mesh.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Further options of `weft-control serve`.
    pub serve: &'static [&'static str],
    /// Somebody between the nodes and the server, who changes what nodes send.
    pub proxy: Option<proxy::Edit>,
    /// A small disk for the server's folder, gone with the server.
    pub disk: Option<Disk>,
    /// A server of another processor.
    pub server: Option<Program>,
}

/// The size of a file system in memory, in kilobytes, that a daemon keeps its files on.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Kilobytes.
    pub kilobytes: u32,
}

/// A node: a host with a `weft` daemon.
#[derive(Debug)]
pub struct Node {
    /// The machine.
    pub host: Host,
    name: String,
    state: PathBuf,
    socket: PathBuf,
    daemon: Option<Daemon>,
    disk: Option<Disk>,
    resolv_conf: Option<PathBuf>,
    program: Program,
}

impl Mesh {
    /// A network with a running control server and the user `ada`.
    pub fn start() -> Result<Self> {
        Self::start_with(Setup::default())
    }

    /// The same, set up otherwise.
    pub fn start_with(setup: Setup) -> Result<Self> {
        let mut lab = Lab::new()?;
        let host = lab.host("control")?;
        // Not in the build folder: the path of a Unix socket has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("weft-").tempdir().context("cannot make a folder for the mesh")?;
        let data = folder.path().join("control");
        let proxy = setup.proxy.map(|edit| {
            let server = (host.ipv4(), CONTROL_PORT).into();
            Proxy::start(&host, (host.ipv4(), PROXY_PORT).into(), server, edit)
        });
        let mut mesh = Self { lab, host, data, daemon: None, folder, proxy: proxy.transpose()?, setup };
        mesh.start_server()?;
        mesh.admin(&["user", "create", "ada"])?;
        Ok(mesh)
    }

    /// The machine that the control server runs on.
    pub fn server_host(&self) -> &Host {
        &self.host
    }

    /// The server's folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A folder of this mesh, gone with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the server listens.
    pub fn server_address(&self) -> SocketAddr {
        (self.host.ipv4(), CONTROL_PORT).into()
    }

    /// Who stands between the nodes and the server, in a mesh that was started so.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_ref().ok_or_else(|| anyhow!("there is no proxy in this mesh"))
    }

    fn serve_command(&self) -> Result<Command> {
        let program = self.server_program()?;
        let mut command = command_on_disk(&self.host, &program.started(), &self.data, self.setup.disk)?;
        program
            .complete(&mut command)
            .args(["serve", "--data"])
            .arg(&self.data)
            .args(["--listen", &format!("0.0.0.0:{CONTROL_PORT}")]);
        let port = if self.proxy.is_some() { PROXY_PORT } else { CONTROL_PORT };
        command.args(["--url", &format!("http://{}:{port}", self.host.ipv4())]).args(self.setup.serve);
        Ok(command)
    }

    fn server_program(&self) -> Result<Program> {
        self.setup.server.clone().map_or_else(|| Ok(binaries::weft_control()?.into()), Ok)
    }

    /// Starts the control server and waits until it listens.
    pub fn start_server(&mut self) -> Result<()> {
        let mut daemon = Daemon::spawn("weft-control", &mut self.serve_command()?)?;
        let address = self.server_address();
        wait::for_ok("the control server to listen", START_LIMIT, || {
            if let Some(status) = daemon.exit_status()? {
                return Ok(Err(anyhow!("weft-control ended ({status}):\n{}", daemon.log())));
            }
            self.host.enter(move || TcpStream::connect_timeout(&address, Duration::from_secs(1)))??;
            Ok(Ok(()))
        })??;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// The running server.
    pub fn server(&mut self) -> Result<&mut Daemon> {
        self.daemon.as_mut().ok_or_else(|| anyhow!("the control server does not run"))
    }

    /// Hands the running server to the caller, who kills it while others use the mesh.
    pub fn take_server(&mut self) -> Result<Daemon> {
        self.daemon.take().ok_or_else(|| anyhow!("the control server does not run"))
    }

    /// `kill -9` of the server.
    pub fn kill_server(&mut self) -> Result<()> {
        self.server()?.kill()?;
        self.daemon = None;
        Ok(())
    }

    /// Runs the server's command line, which works while the server runs, and returns what it printed.
    pub fn admin(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.admin_command(arguments)?)
    }

    /// The same with `--json`, parsed.
    pub fn admin_json(&self, arguments: &[&str]) -> Result<Value> {
        let printed = output(self.admin_command(arguments)?.arg("--json"))?;
        serde_json::from_str(&printed)
            .with_context(|| format!("weft-control {arguments:?} printed no JSON:\n{printed}"))
    }

    /// A call of the server's command line.
    pub fn admin_command(&self, arguments: &[&str]) -> Result<Command> {
        let program = self.server_program()?;
        let mut command = match (&self.daemon, self.setup.disk) {
            (Some(daemon), Some(_)) => daemon.command_beside(program.started()),
            _ => self.host.command(program.started()),
        };
        program.complete(&mut command).arg("--data").arg(&self.data).args(arguments);
        Ok(command)
    }

    /// A new join key of the user `ada`; `options` are those of `key create`, for instance `--reusable`.
    pub fn join_key(&self, options: &[&str]) -> Result<String> {
        let arguments = [&["key", "create", "--user", "ada"], options].concat();
        let printed = self.admin(&arguments)?;
        let key = printed.split_whitespace().find(|word| word.starts_with("weft"));
        key.map(str::to_owned).ok_or_else(|| anyhow!("weft-control key create printed no key:\n{printed}"))
    }

    /// Adds a machine with a running daemon that has not joined yet.
    pub fn machine(&mut self, name: &str) -> Result<Node> {
        self.machine_on(name, None, binaries::weft()?.into())
    }

    /// The same with another agent.
    pub fn machine_with(&mut self, name: &str, program: Program) -> Result<Node> {
        self.machine_on(name, None, program)
    }

    /// The same with the daemon's state on a small disk of its own, which is gone with the daemon.
    pub fn machine_on_disk(&mut self, name: &str, disk: Disk) -> Result<Node> {
        self.machine_on(name, Some(disk), binaries::weft()?.into())
    }

    fn machine_on(&mut self, name: &str, disk: Option<Disk>, program: Program) -> Result<Node> {
        let host = self.lab.host(name)?;
        let folder = self.folder.path().join(name);
        let mut node = Node {
            host,
            name: name.into(),
            state: folder.join("state"),
            socket: folder.join("weft.sock"),
            daemon: None,
            disk,
            resolv_conf: None,
            program,
        };
        node.start()?;
        Ok(node)
    }

    /// Adds a machine and joins it with a key of its own.
    pub fn node(&mut self, name: &str) -> Result<Node> {
        let node = self.machine(name)?;
        node.join(&self.join_key(&[])?)?;
        Ok(node)
    }
}

impl Node {
    /// The name that it asks for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of the daemon's state.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The daemon's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The name servers that the daemon finds on its machine, from its next start on: a text as in `resolv.conf`.
    pub fn set_resolv_conf(&mut self, text: &str) -> Result<()> {
        let file = self.socket.with_file_name("resolv.conf");
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        self.resolv_conf = Some(file);
        Ok(())
    }

    /// Starts the daemon and waits until its socket answers.
    pub fn start(&mut self) -> Result<()> {
        for folder in [&self.state, &self.socket.parent().unwrap_or(&self.socket).to_path_buf()] {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        std::fs::set_permissions(&self.state, Permissions::from_mode(0o700))?;
        let program = self.program.started();
        let mut command = match &self.resolv_conf {
            Some(file) => command_with_resolv_conf(&self.host, &program, file),
            None => command_on_disk(&self.host, &program, &self.state, self.disk)?,
        };
        self.program
            .complete(&mut command)
            .args(["daemon", "--state"])
            .arg(&self.state)
            .arg("--socket")
            .arg(&self.socket);
        let mut daemon = Daemon::spawn(&format!("weft daemon on {}", self.name), &mut command)?;
        wait::for_ok(&format!("the daemon on {} to answer", self.name), START_LIMIT, || {
            if let Some(status) = daemon.exit_status()? {
                return Ok(Err(anyhow!("weft daemon on {} ended ({status}):\n{}", self.name, daemon.log())));
            }
            UnixStream::connect(&self.socket)?;
            Ok(Ok(()))
        })??;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// The running daemon.
    pub fn daemon(&mut self) -> Result<&mut Daemon> {
        self.daemon.as_mut().ok_or_else(|| anyhow!("no daemon runs on {}", self.name))
    }

    /// `kill -9` of the daemon.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon()?.kill()?;
        self.daemon = None;
        Ok(())
    }

    /// Joins the mesh and waits until it has.
    pub fn join(&self, key: &str) -> Result<String> {
        self.weft(&["up", "--join", key, "--hostname", &self.name])
    }

    /// Runs `weft` against this daemon and returns what it printed.
    pub fn weft(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.weft_command(arguments)?)
    }

    /// A call of `weft` against this daemon.
    pub fn weft_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.host.command(self.program.started());
        self.program.complete(&mut command).arg("--socket").arg(&self.socket).args(arguments);
        Ok(command)
    }

    /// `weft status --json`.
    pub fn status(&self) -> Result<Value> {
        let printed = self.weft(&["status", "--json"])?;
        serde_json::from_str(&printed).with_context(|| format!("weft status --json printed no JSON:\n{printed}"))
    }

    /// What this node's status says about a peer, by the first label of its name.
    pub fn peer(&self, name: &str) -> Result<Option<Value>> {
        let status = self.status()?;
        let peers = status.get("Peer").and_then(Value::as_object).into_iter().flatten();
        Ok(peers.map(|(_, peer)| peer).find(|peer| first_label(peer) == name).cloned())
    }

    /// The sentences that the owner of the machine should read.
    pub fn health(&self) -> Result<Vec<String>> {
        let status = self.status()?;
        let sentences = status.get("Health").and_then(Value::as_array).into_iter().flatten();
        Ok(sentences.filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Whether it has a connection to the control server.
    pub fn is_connected(&self) -> Result<bool> {
        Ok(self.status()?.pointer("/Control/Connected").and_then(Value::as_bool).unwrap_or(false))
    }

    /// The name that the mesh knows this node by.
    pub fn mesh_name(&self) -> Result<String> {
        let status = self.status()?;
        Ok(first_label(status.get("Self").unwrap_or(&Value::Null)).to_owned())
    }

    /// Its IPv4 address in the mesh.
    pub fn mesh_ipv4(&self) -> Result<Ipv4Addr> {
        let printed = self.weft(&["ip", "-4"])?;
        printed.trim().parse().with_context(|| format!("weft ip -4 on {} printed {printed:?}", self.name))
    }

    /// Whether one ping is answered within 300 ms.
    pub fn ping(&self, address: impl Into<IpAddr>) -> bool {
        self.host.run("ping", &["-n", "-c", "1", "-W", "0.3", &address.into().to_string()]).is_ok()
    }

    /// Sends pings to an address until one is answered.
    pub fn reaches(&self, address: impl Into<IpAddr>, limit: Duration) -> Result<()> {
        let address = address.into().to_string();
        wait::for_ok(&format!("an answer from {address} at {}", self.name), limit, || {
            self.host.run("ping", &["-n", "-c", "1", "-W", "0.5", &address]).map(drop)
        })
    }
}

/// A command whose files in `folder` are on a disk of their own, in memory, where one is asked for.
fn command_on_disk(host: &Host, program: &Path, folder: &Path, disk: Option<Disk>) -> Result<Command> {
    let Some(Disk { kilobytes }) = disk else { return Ok(host.command(program)) };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let script = format!("mount -t tmpfs -o size={kilobytes}k,mode=700 tmpfs \"$0\" && exec \"$@\"");
    let mut command = host.command("unshare");
    command.args(["--mount", "--", "sh", "-c", &script]).arg(folder).arg(program);
    Ok(command)
}

/// A command for which `file` is `/etc/resolv.conf`, and the rest of `/etc` is empty: the file itself may be a link that
/// leads nowhere.
fn command_with_resolv_conf(host: &Host, program: &Path, file: &Path) -> Command {
    let script = "mount -t tmpfs tmpfs /etc && cp \"$0\" /etc/resolv.conf && exec \"$@\"";
    let mut command = host.command("unshare");
    command.args(["--mount", "--", "sh", "-c", script]).arg(file).arg(program);
    command
}

fn first_label(node: &Value) -> &str {
    let name = node.get("DNSName").and_then(Value::as_str).unwrap_or_default();
    name.split('.').next().unwrap_or_default()
}
