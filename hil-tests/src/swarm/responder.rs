//! The WireGuard side of a simulated node: it answers one peer's handshakes and takes its packets.

use std::{
    net::{IpAddr, SocketAddr},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, anyhow};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::net::UdpSocket;
use weft_core::{
    crypto::RustCrypto,
    ip::IpPrefix,
    keys::{NodeKey, NodeSecret},
    time::UnixTime,
    wireguard::{
        device::{Device, Received},
        storage::{Borrowed, FixedTables},
    },
};

use super::node::now;

/// The UDP port of every responder; the addresses differ.
pub(super) const PORT: u16 = 51_820;

/// Room for one peer.
type Tables = FixedTables<1, 1, 4, 4, 1, 1280, 4, 8>;

/// A device with one peer, and its socket.
pub(super) struct Responder {
    socket: UdpSocket,
    device: Device<Borrowed<'static, 8, 1280>>,
    datagram: Vec<u8>,
}

impl Responder {
    /// Listens on `address` for the peer with this key and mesh address.
    pub(super) async fn bind(
        address: IpAddr,
        secret: &NodeSecret,
        peer: &NodeKey,
        peer_address: IpAddr,
    ) -> Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(address, PORT)).await?;
        // A device borrows its tables for as long as it lives, here until the process ends.
        let tables: &'static mut Tables = Box::leak(Box::new(Tables::EMPTY));
        let mut device = Device::new(tables.tables(), &mut UnwrapErr(SysRng));
        device.set_private_key::<RustCrypto>(Some(secret.clone()), now());
        let peer = device.add_peer(peer).map_err(|error| anyhow!("{error}"))?;
        device.add_allowed_ip(peer, IpPrefix::host(peer_address)).map_err(|_| anyhow!("no room for an allowed IP"))?;
        Ok(Self { socket, device, datagram: vec![0; 2_048] })
    }

    /// Where it listens.
    pub(super) fn endpoint(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    /// Waits for a datagram and answers it where an answer is due. May be dropped at any time.
    pub(super) async fn serve(&mut self) -> Result<()> {
        let (len, source) = self.socket.recv_from(&mut self.datagram).await?;
        // An initiation is answered in its own buffer: a response is shorter.
        let datagram = self.datagram.get_mut(..len).unwrap_or_default();
        let mut rng = UnwrapErr(SysRng);
        if let Received::Transmit(answer) =
            self.device.receive::<RustCrypto>(datagram, source, now(), unix_now(), &mut rng)
        {
            let bytes = self.datagram.get(..answer.len).unwrap_or_default();
            self.socket.try_send_to(bytes, answer.endpoint)?;
        }
        Ok(())
    }
}

pub(crate) fn unix_now() -> UnixTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::new(now.as_secs(), now.subsec_nanos())
}
