//! Each new reading goes by UDP to the peer that was chosen.

use core::{fmt::Write as _, net::Ipv4Addr};

use defmt::{info, warn};
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_time::{Duration, Timer};
use heapless::String;

use crate::application::Application;

/// How often a reading is pushed.
const PERIOD: Duration = Duration::from_secs(5);
/// How long the name of a peer that is not known waits.
const RETRY: Duration = Duration::from_secs(10);
/// Longest datagram.
const DATAGRAM_LEN: usize = 96;

/// The buffers of the socket.
pub(crate) struct Buffers {
    rx: [u8; DATAGRAM_LEN],
    tx: [u8; 2 * DATAGRAM_LEN],
}

impl Buffers {
    pub(crate) const fn new() -> Self {
        Self { rx: [0; DATAGRAM_LEN], tx: [0; 2 * DATAGRAM_LEN] }
    }
}

/// Pushes readings to `to`, written as `name:port`, for ever.
pub(crate) async fn push(application: Application, to: &str, buffers: &mut Buffers) -> ! {
    let Some((name, port)) = to.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)))
    else {
        if !to.is_empty() {
            warn!("push_to is \"{=str}\": it has to be a name, a colon and a port", to);
        }
        core::future::pending().await
    };
    let (mut rx, mut tx) = ([PacketMetadata::EMPTY; 1], [PacketMetadata::EMPTY; 2]);
    let mut socket = UdpSocket::new(application.stack, &mut rx, &mut buffers.rx, &mut tx, &mut buffers.tx);
    if socket.bind(0).is_err() {
        warn!("push: no port is free");
    }
    let mut known: Option<Ipv4Addr> = None;
    loop {
        let address = match known {
            Some(address) => address,
            None => match application.resolve(name).await {
                Some(address) => {
                    info!("pushing readings to {=str} at {}:{=u16}", name, address, port);
                    *known.insert(address)
                }
                None => {
                    warn!("push: {=str} is not known; next try in {=u64} s", name, RETRY.as_secs());
                    Timer::after(RETRY).await;
                    continue;
                }
            },
        };
        let mut datagram: String<DATAGRAM_LEN> = String::new();
        if writeln!(datagram, "{}", application.latest.get()).is_ok()
            && socket.send_to(datagram.as_bytes(), (address, port)).await.is_err()
        {
            // Without a route the peer may have another address by now.
            known = None;
        }
        Timer::after(PERIOD).await;
    }
}
