//! `weft tunnel DEV`: the core's WireGuard and the agent's data path standing alone, as a userspace WireGuard.
//!
//! It creates `DEV` and obeys `wg(8)` through the cross-platform socket, as wireguard-go does, so that every tool made
//! for WireGuard can use and test us. Addresses and routes are left to whoever uses it. Knows nothing of the mesh.
//!
//! The sockets stay in the network namespace that the program was started in, also when the device is moved to
//! another one.

mod background;
mod configure;
mod control_socket;
mod link;
pub mod uapi;

use std::{io, path::Path};

use anyhow::Context as _;
use rand_core::UnwrapErr;
use tokio::signal::unix::{SignalKind, signal};
use weft_core::wireguard::{Device, Event, PeerId};

use self::{
    control_socket::{Call, ControlSocket},
    link::LinkMonitor,
    uapi::{DeviceChange, Request, UapiError},
};
use crate::{
    clock::{self, DeadlineTimer},
    datapath::{DataPath, Engine},
    storage::{self, HeapStorage},
    tun_device::{self, TunDevice},
    udp::UdpSockets,
};

/// The inner MTU in bytes that a new device has: 1,500 less the 80 that WireGuard over IPv6 adds.
const MTU: u16 = 1_420;

/// The command line of `weft tunnel`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Stay in the foreground instead of going to the background once the device is ready
    #[arg(short, long)]
    pub foreground: bool,
    /// Say on standard output when the device is ready
    #[arg(long, hide = true, requires = "foreground")]
    pub report_ready: bool,
    /// The name of the network device to create, for instance wg0
    #[arg(value_name = "DEV")]
    pub device: String,
}

/// Runs `weft tunnel` until the device is deleted, its socket removed, or a signal to end arrives.
///
/// Without [`Args::foreground`] it returns as soon as a process in the background has the device ready.
///
/// # Errors
/// Where the device cannot be created, or its socket not be bound.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if !args.foreground {
        return background::start(&["tunnel", "--foreground", "--report-ready", &args.device]);
    }
    if args.report_ready {
        background::leave_session();
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // Fails only where somebody has set the log up already.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let tunnel = Tunnel::create(&args.device)?;
        if args.report_ready {
            background::report_ready()?;
        }
        tunnel.run().await
    });
    if let (true, Err(error)) = (args.report_ready, &result) {
        let _ = background::report_failure(error);
    }
    result
}

/// A running device.
struct Tunnel {
    wireguard: WireGuard,
    path: DataPath,
    control: ControlSocket,
    link: LinkMonitor,
    timer: DeadlineTimer,
    up: bool,
    /// The port that was asked for, or that was picked when none was.
    listen_port: u16,
    fwmark: u32,
}

/// The engine of the data path: a WireGuard device and nothing else.
struct WireGuard(Device<HeapStorage>);

impl Engine for WireGuard {
    type Storage = HeapStorage;

    fn device_mut(&mut self) -> &mut Device<HeapStorage> {
        &mut self.0
    }
}

impl Tunnel {
    fn create(name: &str) -> anyhow::Result<Self> {
        let tun = TunDevice::create(name, MTU).with_context(|| format!("cannot create the network device {name}"))?;
        let link = LinkMonitor::new(tun.index()).context("cannot listen for events of network devices")?;
        let directory = Path::new(control_socket::DIRECTORY);
        let control = ControlSocket::bind(directory, tun.name())
            .with_context(|| format!("cannot listen on {}/{}.sock", directory.display(), tun.name()))?;
        let mut device = Device::new(storage::tables(), &mut UnwrapErr(getrandom::SysRng));
        device.set_mtu(MTU.into());
        let mut tunnel = Self {
            wireguard: WireGuard(device),
            path: DataPath::new(tun, MTU.into()),
            control,
            link,
            timer: DeadlineTimer::new()?,
            up: false,
            listen_port: 0,
            fwmark: 0,
        };
        // Events from before the monitor began are not heard.
        tunnel.follow_link()?;
        Ok(tunnel)
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tracing::info!("{} is ready", self.path.tun().name());
        loop {
            let result = tokio::select! {
                result = self.path.ready() => result.and_then(|()| self.path.turn(&mut self.wireguard)),
                result = self.timer.expired() => result,
                result = self.control.call() => match result? {
                    Some(call) => {
                        self.answer(call);
                        Ok(())
                    }
                    None => return Ok(()),
                },
                () = self.link.changed() => self.follow_link(),
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            };
            match result {
                Ok(()) => self.follow_timers()?,
                Err(error) if tun_device::is_gone(&error) => {
                    tracing::info!("{} was deleted", self.path.tun().name());
                    return Ok(());
                }
                Err(error) => return Err(error).context("the data path broke"),
            }
        }
    }

    /// Sends what is due, and waits for what is due next.
    fn follow_timers(&mut self) -> io::Result<()> {
        if !self.up {
            return self.timer.set(None);
        }
        self.path.transmit_due(&mut self.wireguard);
        while let Some(event) = self.wireguard.0.poll_event() {
            self.log(event);
        }
        self.timer.set(self.wireguard.0.poll_timeout())
    }

    fn log(&self, event: Event) {
        let name = |peer: PeerId| {
            let view = self.wireguard.0.peer(peer, clock::now());
            view.map_or_else(|| "a removed peer".into(), |view| view.key.to_string())
        };
        match event {
            Event::Established(peer) => tracing::debug!("session with {}", name(peer)),
            Event::Roamed(peer) => tracing::debug!("{} has another endpoint", name(peer)),
            Event::NeedsEndpoint(peer) => tracing::debug!("{} has no endpoint", name(peer)),
            Event::GaveUp(peer) => tracing::debug!("no answer from {}", name(peer)),
            _ => {}
        }
    }

    /// Goes up or down with the device, and follows its MTU.
    fn follow_link(&mut self) -> io::Result<()> {
        if let Some(mtu) = self.link.mtu() {
            let mtu = usize::try_from(mtu).unwrap_or(usize::MAX);
            self.wireguard.0.set_mtu(mtu);
            self.path.set_mtu(mtu);
        }
        let up = self.path.tun().is_up()?;
        if up == self.up {
            return Ok(());
        }
        self.up = up;
        if up {
            if let Err(error) = self.bind(self.listen_port) {
                tracing::error!("cannot listen on UDP port {}: {error}", self.listen_port);
            }
            configure::restart_keepalives(&mut self.wireguard.0, clock::now());
        } else {
            self.path.set_sockets(None);
            self.wireguard.0.deactivate_all();
        }
        Ok(())
    }

    fn bind(&mut self, port: u16) -> io::Result<()> {
        let sockets = UdpSockets::bind(port, self.fwmark)?;
        self.listen_port = sockets.port();
        self.path.set_sockets(Some(sockets));
        Ok(())
    }

    fn answer(&mut self, call: Call) {
        let outcome = match call.request {
            Request::Get => Ok(configure::report(&self.wireguard.0, self.listen_port, self.fwmark, clock::now())),
            Request::Set(change) => self.change(change).map(|()| Default::default()),
        };
        // Where nobody waits for the answer any more, it is carried out all the same.
        let _ = call.reply.send(outcome);
    }

    fn change(&mut self, change: DeviceChange) -> Result<(), UapiError> {
        // First what the system may refuse, so that nothing else has changed then.
        if let Some(fwmark) = change.fwmark {
            if let Some(sockets) = self.path.sockets() {
                sockets.set_fwmark(fwmark)?;
            }
            self.fwmark = fwmark;
        }
        match change.listen_port {
            Some(port) if !self.up => self.listen_port = port,
            // The same port is bound again only where that failed before.
            Some(port) if port != self.listen_port || port == 0 || self.path.sockets().is_none() => self.bind(port)?,
            _ => {}
        }
        configure::apply(&mut self.wireguard.0, change, clock::now())
    }
}
