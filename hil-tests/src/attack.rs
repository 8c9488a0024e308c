//! Somebody who floods a node's UDP port with datagrams that are worth nothing: noise, things that begin like WireGuard,
//! and handshakes of strangers that the node has to work on before it can tell.

use std::{
    cell::Cell,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use weft_core::{
    crypto::{Crypto, DiffieHellman, LowOrderPoint, RustCrypto, SharedSecret},
    keys::{NodeKey, NodeSecret},
    time::{Instant, UnixTime},
    wireguard::{
        cookie::CookieMaker,
        handshake::{CreateInitiation, EphemeralSecret, Progress, StaticKeys},
        message::INITIATION_LEN,
        tai64n::Tai64n,
    },
};

use crate::swarm::unix_now;

type Dh = <RustCrypto as Crypto>::Dh;

/// Different datagrams of each kind. The victim keeps none of them, so that it cannot know one when it comes again.
const VARIETY: usize = 32;
/// Datagrams that are sent at once.
const BURST: u64 = 20;

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weapon {
    /// Noise of any length, and noise behind the first bytes of each WireGuard message.
    Garbage,
    /// Initiations that pass the check of their first mac: half of them noise, half made by strangers who follow the
    /// protocol to its last step.
    ForgedHandshakes,
}

/// A flood that goes on until it is dropped.
#[derive(Debug)]
pub struct Flood {
    stopping: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Floods `victim`, whose public key is `key`, through `socket` with `rate` datagrams a second.
    pub fn start(socket: UdpSocket, victim: SocketAddr, key: &NodeKey, weapon: Weapon, rate: u64) -> Result<Self> {
        let datagrams = datagrams(key, weapon)?;
        let (stopping, sent) = (Arc::new(AtomicBool::default()), Arc::new(AtomicU64::default()));
        let (stop, count) = (stopping.clone(), sent.clone());
        let pause = Duration::from_secs(BURST) / u32::try_from(rate).context("such a rate")?.max(1);
        let thread = std::thread::spawn(move || {
            for (datagram, number) in datagrams.iter().cycle().zip(1_u64..) {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                // A full queue, or a victim that is just starting again, is no reason to stop.
                if socket.send_to(datagram, victim).is_ok() {
                    count.fetch_add(1, Ordering::AcqRel);
                }
                if number.is_multiple_of(BURST) {
                    std::thread::sleep(pause);
                }
            }
        });
        Ok(Self { stopping, sent, thread: Some(thread) })
    }

    /// How many datagrams were sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn datagrams(victim: &NodeKey, weapon: Weapon) -> Result<Vec<Vec<u8>>> {
    (0..VARIETY)
        .flat_map(|number| match weapon {
            Weapon::Garbage => [Ok(noise(number * 47)), Ok(wireguard_like(number))],
            Weapon::ForgedHandshakes => [Ok(stamped(victim, noise(INITIATION_LEN))), strangers_initiation(victim)],
        })
        .collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    UnwrapErr(SysRng).fill_bytes(&mut bytes);
    bytes
}

/// Noise that begins like one of the four messages, with a length that fits or does not.
fn wireguard_like(number: usize) -> Vec<u8> {
    let kind = number % 4 + 1;
    let len = [INITIATION_LEN, 92, 64, 1_300].get(kind - 1).copied().unwrap_or_default() + number / 16;
    with_kind(noise(len), kind)
}

fn with_kind(mut message: Vec<u8>, kind: usize) -> Vec<u8> {
    message.iter_mut().zip([kind.to_le_bytes()[0], 0, 0, 0]).for_each(|(byte, header)| *byte = header);
    message
}

/// Makes noise an initiation whose first mac is right: whoever knows the victim's public key can do that.
fn stamped(victim: &NodeKey, message: Vec<u8>) -> Vec<u8> {
    let mut message = with_kind(message, 1);
    CookieMaker::new().stamp(victim, &mut message, Instant::ZERO);
    message
}

/// The initiation of a node that the victim has never heard of.
fn strangers_initiation(victim: &NodeKey) -> Result<Vec<u8>> {
    initiation(&StaticKeys::new::<Dh>(NodeSecret::generate(&mut UnwrapErr(SysRng))), victim, UnixTime::default())
}

/// An initiation of somebody who claims to be another and does not have that one's secret. It is of now, so that nobody
/// can tell it from a real one by its time.
pub fn impostors_initiation(claimed: &NodeKey, victim: &NodeKey) -> Result<Vec<u8>> {
    CLAIMED.set(*claimed.as_bytes());
    let keys = StaticKeys::new::<Impostor>(NodeSecret::generate(&mut UnwrapErr(SysRng)));
    initiation(&keys, victim, unix_now())
}

thread_local! {
    /// The key that an [`Impostor`] says is its own.
    static CLAIMED: Cell<[u8; 32]> = const { Cell::new([0; 32]) };
}

/// Diffie-Hellman of somebody who lies about his public key.
struct Impostor;

impl DiffieHellman for Impostor {
    fn public_key(_: &[u8; 32]) -> [u8; 32] {
        CLAIMED.get()
    }

    fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<SharedSecret, LowOrderPoint> {
        Dh::agree(secret, public)
    }
}

fn initiation(keys: &StaticKeys, victim: &NodeKey, time: UnixTime) -> Result<Vec<u8>> {
    let mut rng = UnwrapErr(SysRng);
    let timestamp = Tai64n::from_unix(time);
    let mut initiation = CreateInitiation::new(keys, *victim, None, timestamp, EphemeralSecret::generate(&mut rng));
    while initiation.step::<RustCrypto>().map_err(|error| anyhow!("{error:?}"))? == Progress::Again {}
    let (message, _) = initiation.finish(rng.next_u32()).context("an initiation that is not done")?;
    let mut message = message.emit().to_vec();
    CookieMaker::new().stamp(victim, &mut message, Instant::ZERO);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use weft_core::wireguard::{
        cookie::CookieChecker,
        handshake::ConsumeInitiation,
        message::{Initiation, MessageKind},
    };

    use super::*;

    #[test]
    fn forged_handshakes_pass_the_first_check_and_half_of_them_all_others() {
        let secret = NodeSecret::generate(&mut UnwrapErr(SysRng));
        let keys = StaticKeys::new::<Dh>(secret);
        let checker = CookieChecker::new(keys.public());
        let forged = datagrams(keys.public(), Weapon::ForgedHandshakes).unwrap();
        assert!(forged.iter().all(|message| checker.check_mac1(message)));
        let whole = forged.iter().filter(|message| reads_to_the_end::<RustCrypto>(&keys, message)).count();
        assert_eq!(whole, VARIETY);
    }

    fn reads_to_the_end<C: Crypto>(keys: &StaticKeys, message: &[u8]) -> bool {
        let mut reading = ConsumeInitiation::new(keys, Initiation::parse(message).unwrap());
        loop {
            match reading.step::<C>() {
                Ok(Progress::Again) => {}
                outcome => return outcome == Ok(Progress::Done),
            }
        }
    }

    #[test]
    fn garbage_has_every_kind_of_message_in_it() {
        let victim = NodeSecret::generate(&mut UnwrapErr(SysRng)).public::<Dh>();
        let garbage = datagrams(&victim, Weapon::Garbage).unwrap();
        let kinds: std::collections::HashSet<_> =
            garbage.iter().filter_map(|datagram| MessageKind::of(datagram)).map(|kind| kind.header()).collect();
        assert_eq!(kinds.len(), 4);
    }
}
