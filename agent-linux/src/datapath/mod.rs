//! The data path: inner packets between the TUN device and the UDP sockets, through a WireGuard device.
//!
//! It runs to completion on the task that owns it, by batches: what one reading of the TUN device gives is sealed by
//! runs to one peer and sent with segmentation; what one receive call gives is opened by runs of one session and
//! written. No packet is copied in user space. Which peers there are and where they are is the business of the
//! [`Engine`]: `weft tunnel` has one that is nothing but the WireGuard device, the daemon's is the mesh node.
//!
//! The owner's loop is:
//!
//! ```text
//! loop {
//!     tokio::select! {
//!         result = path.ready() => { result?; path.turn(&mut engine)?; }
//!         result = timer.expired() => result?,
//!         // ... what else the owner waits for
//!     }
//!     path.transmit_due(&mut engine)?;
//!     while let Some(event) = engine.device_mut().poll_event() { /* ... */ }
//!     timer.set(engine.device_mut().poll_timeout())?;
//! }
//! ```

mod inbound;
mod outbound;
mod sources;
mod unreachable;

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use rand_core::UnwrapErr;
use weft_core::{
    ip::Ecn,
    keys::NodeKey,
    time::UnixTime,
    wireguard::{Device, PeerId, Transmit, TransmitKind, storage::Storage},
};

use self::{outbound::OutboundBatch, sources::SourceAddresses, unreachable::Unreachable};
use crate::{
    clock,
    crypto_ring::RingCrypto,
    tun_device::TunDevice,
    udp::{ReceiveBatch, Run, UdpSockets},
};

/// The longest inner packet in bytes: with header, padding and tag it is the largest UDP payload over either family.
pub const MAX_INNER_LEN: usize = 65_440;

/// Room for any message that the device transmits by itself: a staged packet, sealed.
const TRANSMIT_LEN: usize = MAX_INNER_LEN + 64;

/// How many messages that are due may be sent before packets get their turn again.
const TRANSMITS_A_TURN: usize = 256;

/// Randomness of the operating system, for everything that a device asks for.
pub type SystemRng = UnwrapErr<getrandom::SysRng>;

/// What holds the WireGuard device and knows where peers are.
pub trait Engine {
    /// The device's storage.
    type Storage: Storage;

    /// The device.
    fn device_mut(&mut self) -> &mut Device<Self::Storage>;

    /// Adds to `targets` where a message of the device goes.
    ///
    /// As the device knows it, unless an engine knows more: an initiation to a peer whose address is not confirmed
    /// may go to several.
    fn targets(&mut self, transmit: &Transmit, targets: &mut Vec<SocketAddr>) {
        targets.push(transmit.endpoint);
    }

    /// The wall-clock time that the device goes by.
    fn unix(&self) -> UnixTime {
        clock::unix()
    }

    /// An authentic message of a peer came from an address that it was not at before.
    fn moved(&mut self, _source: SocketAddr) {}

    /// Whether inner packets to a peer without endpoint may wait for one. Where not, they are answered with an ICMP
    /// error, so that their sender learns of it at once.
    fn may_wait(&mut self, _peer: PeerId) -> bool {
        false
    }

    /// No peer has this inner address. True where one that has it may come, so that the packet is not answered with an
    /// ICMP error.
    fn may_come(&mut self, _address: IpAddr) -> bool {
        false
    }

    /// An initiation came from a key that is no peer's.
    fn stranger(&mut self, _key: NodeKey, _message: &[u8], _source: SocketAddr) {}
}

/// What the data path itself dropped; what the device dropped is in the device's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// From the TUN device: not IP.
    pub not_ip: u64,
    /// From the TUN device: no peer has the destination.
    pub no_peer: u64,
    /// From the TUN device: nobody knows where the peer is.
    pub no_target: u64,
    /// From the TUN device: datagrams of ours, which the host's routing sends into the tunnel that they came from.
    pub looped: u64,
    /// From the TUN device: refused by the device, for instance since it has no private key.
    pub refused: u64,
    /// From the TUN device: longer than [`MAX_INNER_LEN`].
    pub too_big: u64,
    /// Datagrams that the kernel did not take, for instance since there is no route.
    pub not_sent: u64,
    /// To the TUN device: not taken by the kernel, for instance since the device is down.
    pub not_delivered: u64,
    /// To the TUN device: marked congested on the way, of a sender that does not take part in ECN (RFC 6040).
    pub congested: u64,
}

/// The data path of one TUN device.
#[derive(Debug)]
pub struct DataPath {
    tun: TunDevice,
    sockets: Option<UdpSockets>,
    outbound: OutboundBatch,
    inbound: ReceiveBatch,
    transmit: Box<[u8]>,
    targets: Vec<SocketAddr>,
    sources: SourceAddresses,
    unreachable: Unreachable,
    dropped: Dropped,
    rng: SystemRng,
}

impl DataPath {
    /// The data path between `tun`, whose MTU is `mtu` bytes, and no sockets yet. The device behind it must be told
    /// the same MTU, since padding depends on it.
    pub fn new(tun: TunDevice, mtu: usize) -> Self {
        Self {
            tun,
            sockets: None,
            outbound: OutboundBatch::new(mtu),
            inbound: ReceiveBatch::default(),
            transmit: vec![0; TRANSMIT_LEN].into_boxed_slice(),
            targets: Vec::new(),
            sources: SourceAddresses::default(),
            unreachable: Unreachable::new(),
            dropped: Dropped::default(),
            rng: UnwrapErr(getrandom::SysRng),
        }
    }

    /// The TUN device.
    pub const fn tun(&self) -> &TunDevice {
        &self.tun
    }

    /// The sockets, if there are any now.
    pub const fn sockets(&self) -> Option<&UdpSockets> {
        self.sockets.as_ref()
    }

    /// Sends and receives by these sockets from now on, or not at all.
    pub fn set_sockets(&mut self, sockets: Option<UdpSockets>) {
        self.sockets = sockets;
        self.sources.clear();
    }

    /// Follows a change of the TUN device's MTU, as the device behind must too.
    pub const fn set_mtu(&mut self, mtu: usize) {
        self.outbound.set_mtu(mtu);
    }

    /// What was dropped.
    pub const fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// Waits until there is something to move. Loses nothing where it is dropped.
    ///
    /// # Errors
    /// Where the runtime is shutting down.
    pub async fn ready(&self) -> io::Result<()> {
        match &self.sockets {
            Some(sockets) => tokio::select! {
                result = self.tun.readable() => result,
                result = sockets.readable() => result,
            },
            None => self.tun.readable().await,
        }
    }

    /// Moves what is there, up to a batch each way, so that the owner's other work gets its turn.
    ///
    /// # Errors
    /// Where the TUN device is gone ([`is_gone`](crate::tun_device::is_gone)) or a socket broke.
    pub fn turn<E: Engine>(&mut self, engine: &mut E) -> io::Result<()> {
        self.receive(engine)?;
        self.send(engine)
    }

    /// Sends what is due by the device's timers: handshakes, keepalives, packets that waited for a session.
    pub fn transmit_due<E: Engine>(&mut self, engine: &mut E) {
        for _ in 0..TRANSMITS_A_TURN {
            let (now, unix) = (clock::now(), engine.unix());
            let device = engine.device_mut();
            let Some(transmit) = device.poll_transmit::<RingCrypto>(now, unix, &mut self.rng, &mut self.transmit)
            else {
                return;
            };
            self.targets.clear();
            engine.targets(&transmit, &mut self.targets);
            let message = self.transmit.get(..transmit.len).unwrap_or_default();
            for &target in &self.targets {
                let result = match (&mut self.sockets, transmit.kind) {
                    (None, _) => Err(io::ErrorKind::NotConnected.into()),
                    (Some(sockets), TransmitKind::Data | TransmitKind::Keepalive) => {
                        let source = transmit.peer.and_then(|peer| self.sources.get(peer, target));
                        let ecn = Ecn::NotCapable;
                        let run = Run { destination: target, source, ecn, datagrams: message, segment: message.len() };
                        sockets.send(&run).error.map_or(Ok(()), Err)
                    }
                    // A handshake is begun anew since nothing came back, perhaps since the address that it left from
                    // before is the wrong one: the routing table says.
                    (Some(sockets), _) => sockets.send_handshake(message, target, None),
                };
                if let Err(error) = result {
                    self.dropped.not_sent += 1;
                    tracing::trace!("{:?} to {target} not sent: {error}", transmit.kind);
                }
            }
        }
    }
}
