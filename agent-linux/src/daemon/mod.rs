//! `weft daemon`: one task that owns the node, its data path, the connection to the control server and the host's
//! routes, and that answers the local API.
//!
//! Everything here is carrying: events go to core's node, and what the node wants is done. Rules that could be
//! tested without a socket are not here but in core, or in the pure functions of [`crate::host`].
//!
//! | module | holds |
//! |---|---|
//! | `mesh_node` | core's node on the heap, and what is kept of it |
//! | `control_link` | the TCP connection to the control server |
//! | `wire` | TUN device, UDP sockets, addresses and routes while the node is up |
//! | `keeper` | writes the files |
//! | `requests` | what the local API asks |
//! | `describe` | the status document |

mod control_link;
mod describe;
mod keeper;
mod mesh_node;
mod requests;
mod wire;

use std::{
    cell::Cell,
    io::{self, IsTerminal as _},
    path::Path,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use rand_core::UnwrapErr;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::LocalSet,
};
use weft_core::{
    control::{MAX_FRAME, Retry},
    node::{ControlState, NodeEvent, Persist, Skew},
    time::Instant,
    wireguard::message::INITIATION_LEN,
};

use self::{
    control_link::{ControlLink, LinkEvent},
    keeper::Keeper,
    mesh_node::{MeshNode, SystemRng},
    requests::{Pinged, Waiting},
    wire::{Refreshed, Wire},
};
use crate::{
    cli,
    clock::{self, DeadlineTimer},
    host::{netlink::Netlink, routes::Mesh, tailscale},
    local_api::{
        Refusal, RefusalKind,
        server::{Call, LocalApi},
    },
    state::{File, Prefs, StateDirectory},
    status::BackendState,
};

/// MTU of the mesh in bytes: goes over any path.
const MTU: u16 = 1_280;
/// Several changes of the host's network come at once, for instance a link and its addresses.
const HOST_SETTLES: Duration = Duration::from_millis(200);
/// Bytes from the control server that are taken at a time.
const RECEIVE_LEN: usize = 16 * 1024;

/// Runs the node until it is told to stop.
///
/// # Errors
/// Where it cannot begin: its state or socket is in use or cannot be read.
pub fn run(settings: &cli::Daemon, socket: &Path) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let ansi = io::stderr().is_terminal();
    // A second subscriber can only be a test's; its output serves as well.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi).try_init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(settings, socket))
}

async fn serve(settings: &cli::Daemon, socket: &Path) -> anyhow::Result<()> {
    let directory = Arc::new(StateDirectory::open(&settings.state)?);
    let api = LocalApi::bind(socket)?;
    let mut daemon = Daemon::new(settings.clone(), directory, api.operator())?;
    let (calls, queue) = mpsc::channel(16);
    let api = tokio::task::spawn_local(async move { api.serve(calls).await });
    tracing::info!("weft {} listens on {}", crate::status::VERSION, socket.display());
    let result = daemon.run(queue).await;
    api.abort();
    // The socket's file goes with the task.
    let _ = api.await;
    result
}

/// The node and everything around it.
struct Daemon {
    settings: cli::Daemon,
    prefs: Prefs,
    operator: Rc<Cell<Option<u32>>>,
    keeper: Rc<Keeper>,
    netlink: Rc<Netlink>,
    node: MeshNode,
    link: ControlLink,
    /// While the node is up.
    wire: Option<Wire>,
    refresh: Option<Pin<Box<dyn Future<Output = Refreshed>>>>,
    refresh_at: Option<Instant>,
    timer: DeadlineTimer,
    rng: SystemRng,
    waiting: Waiting,
    pinged: (mpsc::Sender<Pinged>, mpsc::Receiver<Pinged>),
    notes: Notes,
}

/// What the owner of the machine should know, by source.
#[derive(Debug, Default)]
struct Notes {
    /// Why there is no connection to the control server.
    link: Option<String>,
    /// Why this machine is no member any more.
    left: Option<String>,
    /// What of the host is in the way.
    host: Vec<String>,
    /// This node's own key expired.
    expired: bool,
}

impl Daemon {
    fn new(
        settings: cli::Daemon,
        directory: Arc<StateDirectory>,
        operator: Rc<Cell<Option<u32>>>,
    ) -> anyhow::Result<Self> {
        let prefs = directory.load_prefs()?;
        let mut node = mesh_node::new(&hostname(&prefs), MTU);
        mesh_node::restore(&mut node, &directory)?;
        if let Some(name) = settings.operator.as_ref().or(prefs.operator.as_ref()) {
            match requests::user_id(name) {
                Ok(id) => operator.set(id),
                Err(refusal) => tracing::warn!("{refusal}"),
            }
        }
        Ok(Self {
            settings,
            prefs,
            operator,
            keeper: Rc::new(Keeper::start(directory)),
            netlink: Rc::new(Netlink::open().context("cannot talk to the kernel's network (netlink)")?),
            node,
            link: ControlLink::new(),
            wire: None,
            refresh: None,
            refresh_at: None,
            timer: DeadlineTimer::new()?,
            rng: UnwrapErr(getrandom::SysRng),
            waiting: Waiting::default(),
            pinged: mpsc::channel(16),
            notes: Notes::default(),
        })
    }

    async fn run(&mut self, mut calls: mpsc::Receiver<Call>) -> anyhow::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        if self.prefs.want_running && self.node.identity().is_some() {
            self.bring_up()?;
        }
        let mut buffer = vec![0; RECEIVE_LEN];
        loop {
            self.settle()?;
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                Some(call) = calls.recv() => self.call(call),
                event = self.link.event(&mut buffer) => self.link_event(&event, &buffer),
                result = wire::ready(self.wire.as_ref()) => {
                    result?;
                    self.move_packets()?;
                }
                result = self.timer.expired() => result?,
                () = self.netlink.changed() => self.refresh_within(HOST_SETTLES),
                refreshed = wire::refreshed(self.refresh.as_mut()) => self.refreshed(refreshed)?,
                () = self.keeper.changed() => self.kept(),
                Some(pinged) = self.pinged.1.recv() => self.ping_ended(pinged),
            }
        }
        tracing::info!("stopping");
        self.take_down();
        self.collect_events();
        if let Err(sentence) = self.keeper.flush().await {
            tracing::warn!("{sentence}");
        }
        Ok(())
    }

    /// Does what is due after anything happened: bytes to the server, the node's events, packets, the next deadline.
    fn settle(&mut self) -> anyhow::Result<()> {
        let (now, wall) = (clock::now(), clock::unix());
        if self.node.poll_timeout().is_some_and(|due| due <= now) {
            self.node.handle_timeout(now, wall, &mut self.rng);
        }
        if let Some(wire) = &mut self.wire {
            wire.path.transmit_due(&mut self.node);
            self.node.device_changed(now);
            let heard = self.node.take_moved();
            if heard.iter().filter(|from| wire.note_underlay(from.ip())).count() > 0 {
                self.refresh_at = Some(now);
            }
        }
        self.collect_events();
        self.waiting_due(now);
        if self.refresh.is_none() && self.refresh_at.is_some_and(|due| due <= now) {
            self.refresh_at = None;
            self.refresh = self.wire.as_ref().map(|wire| wire.refresh(&self.netlink, self.mesh()));
        }
        let connect = self.node.next_connect().map(|(due, address)| (due, address.clone()));
        let connect_due = match connect {
            Some((due, address)) if self.link.is_idle() && due <= now => {
                self.node.control_connecting();
                self.link.connect(&address);
                None
            }
            Some((due, _)) if self.link.is_idle() => Some(due),
            _ => None,
        };
        let refresh_due = self.refresh_at.filter(|_| self.refresh.is_none());
        let deadlines = [self.node.poll_timeout(), connect_due, refresh_due, self.waiting.deadline()];
        self.timer.set(deadlines.into_iter().flatten().min())?;
        Ok(())
    }

    /// Sends what the node has for the server and does what its events ask for, until there is nothing left.
    fn collect_events(&mut self) {
        let mut frames = [0; 4 * MAX_FRAME];
        loop {
            while self.link.has_room() {
                let len = self.node.control_transmit(&mut frames, clock::now(), &mut self.rng);
                if len == 0 {
                    break;
                }
                self.link.send(frames.get(..len).unwrap_or_default());
            }
            let Some(event) = self.node.poll_event() else { return };
            self.node_event(event);
        }
    }

    fn node_event(&mut self, event: NodeEvent) {
        tracing::debug!("{event:?}");
        match event {
            NodeEvent::Persist(Persist::Identity) => {
                if let Some(identity) = mesh_node::identity(&self.node) {
                    self.keeper.save(File::Identity, identity);
                }
            }
            NodeEvent::Persist(Persist::Netmap) => self.keeper.save(File::Netmap, mesh_node::netmap(&self.node)),
            NodeEvent::Persist(Persist::RecentPeers) => {
                self.keeper.save(File::RecentPeers, mesh_node::recent_peers(&self.node));
            }
            NodeEvent::CloseControl => self.link.close(),
            NodeEvent::Registered => {
                self.notes.link = None;
                tracing::info!("registered at the control server");
                self.refresh_within(Duration::ZERO);
                self.registered();
            }
            NodeEvent::SelfChanged => {
                self.notes.expired = false;
                self.refresh_within(Duration::ZERO);
            }
            NodeEvent::KeyExpired => self.notes.expired = true,
            NodeEvent::PeerUpserted(_) | NodeEvent::PeerRemoved(_) | NodeEvent::PeersChanged
                if self.wire.as_ref().is_some_and(Wire::depends_on_peers) =>
            {
                self.refresh_within(HOST_SETTLES);
            }
            NodeEvent::StatusDone => self.answer_statuses(),
            NodeEvent::Left => self.left(),
            NodeEvent::ServerError(_) | NodeEvent::ConnectionFailed => self.connection_failed(),
            _ => {}
        }
    }

    fn link_event(&mut self, event: &LinkEvent, buffer: &[u8]) {
        let now = clock::now();
        match event {
            LinkEvent::Connected(peer) => {
                if let Some(wire) = &mut self.wire
                    && wire.note_underlay(peer.ip())
                {
                    self.refresh_within(Duration::ZERO);
                }
                self.node.control_connected(now, &mut self.rng);
            }
            LinkEvent::Received(len) => {
                let bytes = buffer.get(..*len).unwrap_or_default();
                self.node.control_receive(bytes, now, clock::unix(), &mut self.rng);
                let mut message = [0; INITIATION_LEN];
                while let (Some(wire), Some((len, source))) = (&mut self.wire, self.node.take_stranger(&mut message)) {
                    wire.path.receive_late(&mut self.node, message.get_mut(..len).unwrap_or_default(), source);
                }
            }
            LinkEvent::Closed(sentence) => {
                tracing::info!("{sentence}");
                self.notes.link = Some(sentence.clone());
                self.node.control_closed(now, &mut self.rng);
            }
        }
    }

    fn move_packets(&mut self) -> anyhow::Result<()> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        match wire.path.turn(&mut self.node) {
            Ok(()) => Ok(()),
            Err(error) => self.remake(&error.to_string()),
        }
    }

    /// Somebody deleted the device, or it broke: with a new one the node goes on.
    fn remake(&mut self, why: &str) -> anyhow::Result<()> {
        tracing::warn!("the network device {} failed ({why}); it is made anew", self.settings.tun);
        self.take_down();
        Ok(self.bring_up()?)
    }

    /// Makes the device and starts the node.
    fn bring_up(&mut self) -> Result<(), Refusal> {
        if self.wire.is_some() {
            return Ok(());
        }
        let host = |error: io::Error, what: String| Refusal::new(RefusalKind::Host, format!("{what}: {error}"));
        let wire =
            Wire::open(&self.settings.tun, self.settings.port, MTU).map_err(|(error, what)| host(error, what))?;
        tracing::info!("{} is up, UDP port {}", wire.path.tun().name(), wire.port());
        self.wire = Some(wire);
        self.node.start(clock::now(), clock::unix(), &mut self.rng);
        self.refresh_at = Some(clock::now());
        Ok(())
    }

    /// Stops the node. The kernel drops addresses and routes with the device.
    fn take_down(&mut self) {
        self.node.stop(clock::now(), &mut self.rng);
        self.link.close();
        self.wire = None;
        (self.refresh, self.refresh_at) = (None, None);
        self.notes.host.clear();
        self.notes.link = None;
    }

    fn refresh_within(&mut self, delay: Duration) {
        if self.wire.is_some() {
            let due = clock::now() + delay;
            self.refresh_at = Some(self.refresh_at.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// The host's network was looked at and the device's addresses and routes are set.
    fn refreshed(&mut self, refreshed: Refreshed) -> anyhow::Result<()> {
        self.refresh = None;
        let Some(wire) = &mut self.wire else { return Ok(()) };
        if wire.is_gone(&refreshed.host) {
            return self.remake("it is gone");
        }
        self.notes.host = match &refreshed.result {
            Ok(()) => refreshed.plan.sentences.clone(),
            Err(error) => {
                let name = wire.path.tun().name();
                let mut sentences = refreshed.plan.sentences.clone();
                sentences.push(format!("Not every address and route of {name} could be set: {error}."));
                sentences
            }
        };
        self.notes.host.extend(tailscale::sentence(&refreshed.host).map(str::to_owned));
        let endpoints = wire.take(refreshed);
        self.node.set_local_endpoints(&endpoints, clock::now());
        self.answer_ups();
        Ok(())
    }

    /// What of the mesh is to be routed.
    fn mesh(&self) -> Mesh {
        let netmap = self.node.netmap();
        let names =
            netmap.peers().flat_map(|peer| peer.addresses().map(move |address| (address, peer.name().to_owned())));
        Mesh {
            own: netmap.own().map(|own| own.addresses().collect()).unwrap_or_default(),
            peers: names.collect(),
            underlay: Vec::new(),
        }
    }

    /// An attempt to write has ended.
    fn kept(&mut self) {
        match self.keeper.failure() {
            _ if self.keeper.has_identity() => self.node.identity_kept(),
            // Without a place for its secrets a machine joins no mesh; one that is in it goes on.
            Some(sentence) if !self.is_member() => self.refuse_ups(&Refusal::new(RefusalKind::Host, sentence)),
            None | Some(_) => {}
        }
    }

    fn backend_state(&self) -> BackendState {
        match () {
            () if self.node.identity().is_none() || self.is_logged_out() => BackendState::NeedsLogin,
            () if !self.prefs.want_running => BackendState::Stopped,
            () if self.wire.is_some() && self.node.netmap().own().is_some() => BackendState::Running,
            () => BackendState::Starting,
        }
    }

    /// What the owner of the machine should know.
    fn health(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        sentences.extend(self.notes.left.clone());
        sentences.extend(self.keeper.failure());
        if self.wire.is_some() {
            let last_error = self.node.last_error();
            if self.node.control_state() != ControlState::Registered {
                let refused = last_error.and_then(|(code, _)| code).is_some_and(|code| code.retry() == Retry::NewKey);
                let why = last_error.map(|(_, sentence)| sentence.to_owned()).or_else(|| self.notes.link.clone());
                // Peers have been told to refuse a node whose key the server refuses.
                let kept = !refused && self.node.netmap().own().is_some();
                let goes_on = if kept { " Until then the last netmap serves." } else { "" };
                sentences.extend(why.map(|why| format!("Not connected to the control server: {why}.{goes_on}")));
            }
            if self.notes.expired {
                sentences.push("This node's key has expired, so it reaches no peer: join again with a new key.".into());
            }
            match self.node.clock_skew() {
                Skew::Near => {}
                Skew::Behind(by) => sentences.push(skew("behind", by)),
                Skew::Ahead(by) => sentences.push(skew("ahead of", by)),
            }
            sentences.extend(self.notes.host.iter().cloned());
        }
        sentences.extend(self.node.health().map(str::to_owned));
        sentences
    }
}

fn skew(how: &str, by: Duration) -> String {
    let by = humantime::format_duration(Duration::from_secs(by.as_secs()));
    format!("This machine's clock is {by} {how} the control server's; set it, or expiry is judged wrongly.")
}

/// The name to ask for.
fn hostname(prefs: &Prefs) -> String {
    let own = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    prefs.hostname.clone().unwrap_or_else(own)
}
