//! A WireGuard device in a namespace, of whichever implementation, configured and watched by `wg(8)` alone.

use std::{
    fmt,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    binaries,
    lab::Host,
    netns::{Netns, unique_device_name},
    process::{Daemon, output},
    wait,
};

/// How long a device may take to be ready, and a packet to come back, on a busy machine. wireguard-go alone takes
/// over 15 s where its own address went: it sends from the old one until it gives its session up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Who implements the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// `weft tunnel`.
    Weft,
    /// wireguard-go.
    WireguardGo,
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weft => "weft",
            Self::WireguardGo => "wireguard-go",
        })
    }
}

/// A device that is up, with its key and its inner addresses, and no peers.
#[derive(Debug)]
pub struct Device {
    netns: Arc<Netns>,
    name: String,
    daemon: Daemon,
    public_key: String,
    port: u16,
    inner: [IpAddr; 2],
}

impl Device {
    /// Starts a device on `host` that listens on `port`. Its inner addresses are `10.77.0.N` and `fd77::N`.
    pub fn start(host: &Host, implementation: Implementation, port: u16, number: u8) -> Result<Self> {
        let (netns, name) = (host.namespace(), unique_device_name("wg"));
        let mut command = match implementation {
            Implementation::Weft => {
                let mut command = netns.command(binaries::weft()?);
                command.args(["tunnel", "--foreground", &name]).env("RUST_LOG", "debug");
                command
            }
            Implementation::WireguardGo => {
                let mut command = netns.command("wireguard-go");
                command.args(["--foreground", &name]).env("LOG_LEVEL", "debug");
                command
            }
        };
        let mut daemon = Daemon::spawn(&format!("{implementation} {name}"), &mut command)?;
        wait::for_ok(&format!("{implementation} to answer wg"), PATIENCE, || {
            if let Some(status) = daemon.exit_status()? {
                bail!("{implementation} ended ({status})");
            }
            wg(&["show", &name, "listen-port"], None)
        })?;

        let private_key = wg(&["genkey"], None)?;
        let public_key = wg(&["pubkey"], Some(&private_key))?.trim().to_owned();
        let port_text = port.to_string();
        wg(&["set", &name, "listen-port", &port_text, "private-key", "/dev/stdin"], Some(&private_key))?;
        let inner = inner_addresses(number)?;
        for (address, len) in inner.iter().zip([24, 64]) {
            let no_dad = if address.is_ipv6() { "nodad" } else { "" };
            netns.ip(&format!("addr add {address}/{len} dev {name} {no_dad}"))?;
        }
        netns.ip(&format!("link set {name} up"))?;
        Ok(Self { netns, name, daemon, public_key, port, inner })
    }

    /// The name of the network device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process behind the device.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// The public key, as `wg` writes it.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The inner addresses, IPv4 and IPv6.
    pub fn inner(&self) -> [IpAddr; 2] {
        self.inner
    }

    /// `wg set` on this device, with arguments separated by spaces.
    pub fn set(&self, arguments: &str) -> Result<()> {
        self.set_with_input(arguments, None)
    }

    /// `wg set`, with a key on its standard input for arguments such as `preshared-key /dev/stdin`.
    pub fn set_with_input(&self, arguments: &str, input: Option<&str>) -> Result<()> {
        let arguments: Vec<&str> = ["set", &self.name].into_iter().chain(arguments.split_whitespace()).collect();
        wg(&arguments, input).map(drop)
    }

    /// Adds `peer`, at `endpoint` if it is told, with its inner addresses allowed.
    pub fn add_peer(&self, peer: &Device, endpoint: Option<IpAddr>) -> Result<()> {
        let [v4, v6] = peer.inner;
        let endpoint = endpoint.map(|address| format!("endpoint {}", SocketAddr::new(address, peer.port)));
        self.set(&format!("peer {} allowed-ips {v4}/32,{v6}/128 {}", peer.public_key, endpoint.unwrap_or_default()))
    }

    /// What `wg show` says of `peer` under `column`: `endpoints`, `latest-handshakes`, `transfer` and so on.
    pub fn show(&self, column: &str, peer: &Device) -> Result<String> {
        let table = wg(&["show", &self.name, column], None)?;
        let line = table.lines().find_map(|line| line.strip_prefix(&peer.public_key));
        let value = line.with_context(|| format!("{} has no peer {}:\n{table}", self.name, peer.public_key))?;
        Ok(value.trim().to_owned())
    }

    /// When the last handshake with `peer` was, in seconds since 1970; `None` for never.
    pub fn latest_handshake(&self, peer: &Device) -> Result<Option<u64>> {
        let secs = self.show("latest-handshakes", peer)?.parse()?;
        Ok((secs != 0).then_some(secs))
    }

    /// Bytes received from and sent to `peer`.
    pub fn transfer(&self, peer: &Device) -> Result<(u64, u64)> {
        let transfer = self.show("transfer", peer)?;
        let (received, sent) = transfer.split_once('\t').context("two numbers")?;
        Ok((received.parse()?, sent.parse()?))
    }

    /// Pings `address` from this device's namespace until an answer comes.
    pub fn ping_until_answered(&self, address: IpAddr) -> Result<()> {
        wait::for_ok(&format!("an answer of {address} to {}", self.name), PATIENCE, || {
            self.ping(address, 1, Duration::from_secs(2))
        })
    }

    /// Pings `address` as often as `count` says, five times a second; every one must be answered within `limit`.
    pub fn ping(&self, address: IpAddr, count: u32, limit: Duration) -> Result<()> {
        let (count, limit) = (count.to_string(), limit.as_secs().to_string());
        let address = address.to_string();
        let printed = self.netns.run("ping", &["-c", &count, "-i", "0.2", "-W", &limit, &address])?;
        if !printed.contains(" 0% packet loss") {
            bail!("not every ping was answered:\n{printed}");
        }
        Ok(())
    }
}

/// Two devices that are peers of each other. The first knows where the second is, and so is the one to initiate.
pub fn connect(initiator: &Device, responder: &Device, endpoint: IpAddr) -> Result<()> {
    responder.add_peer(initiator, None)?;
    initiator.add_peer(responder, Some(endpoint))
}

/// Runs `wg` and returns what it printed.
pub fn wg(arguments: &[&str], input: Option<&str>) -> Result<String> {
    let mut command = Command::new("wg");
    command.args(arguments);
    let Some(input) = input else { return output(&mut command) };
    let said = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {said}"))?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{said} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn inner_addresses(number: u8) -> Result<[IpAddr; 2]> {
    Ok([format!("10.77.0.{number}").parse()?, format!("fd77::{number:x}").parse()?])
}
