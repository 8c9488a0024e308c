//! Macs and cookies (paper section 5.4.7): what a device checks before it spends a Diffie-Hellman on anybody.
//!
//! [`CookieChecker`] is the device's side: it checks both macs and, while loaded, demands by a cookie reply that a
//! sender prove its address. [`CookieMaker`] is a peer's side: it stamps the macs on what is sent and keeps the
//! cookie that the other side demanded. When a device counts as loaded is the device's decision.

use core::net::{IpAddr, SocketAddr};

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    constants::{COOKIE_SECRET_TIME, COOKIE_USE_TIME},
    message::{CookieReply, MAC_LEN},
};
use crate::{
    crypto::{Aead, hash, xchacha},
    keys::NodeKey,
    time::Instant,
};

const MAC1_LABEL: &[u8] = b"mac1----";
const COOKIE_LABEL: &[u8] = b"cookie--";

/// A proof that its holder receives what is sent to an address and port.
type Cookie = [u8; MAC_LEN];

/// The device's side. Depends on the device's public key only.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct CookieChecker {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    secret: [u8; 32],
    /// When `secret` was drawn; `None` before the first, so that an all-zero secret never validates.
    #[zeroize(skip)]
    secret_born: Option<Instant>,
}

impl core::fmt::Debug for CookieChecker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CookieChecker(..)")
    }
}

impl CookieChecker {
    /// A checker of messages to the device with this public key.
    pub fn new(own: &NodeKey) -> Self {
        Self {
            mac1_key: labelled(MAC1_LABEL, own),
            cookie_key: labelled(COOKIE_LABEL, own),
            secret: [0; 32],
            secret_born: None,
        }
    }

    /// Whether mac1 of an initiation or response is right: its sender knows the device's public key.
    #[must_use]
    pub fn check_mac1(&self, message: &[u8]) -> bool {
        Macs::of(message).is_some_and(|macs| hash::mac(&self.mac1_key, &[macs.body]).ct_eq(macs.mac1).into())
    }

    /// Whether mac2 of an initiation or response is right: its sender was lately sent a cookie at this address and
    /// port. To be asked only when mac1 is right and the device is loaded.
    #[must_use]
    pub fn check_mac2(&self, message: &[u8], source: SocketAddr, now: Instant) -> bool {
        let Some(macs) = Macs::of(message) else { return false };
        let fresh = self.secret_born.is_some_and(|born| now.saturating_since(born) < COOKIE_SECRET_TIME);
        let expected = hash::mac(&self.cookie(source), &[macs.body, macs.mac1]);
        fresh && expected.ct_eq(macs.mac2).into()
    }

    /// The answer to a message with a right mac1 and no right mac2. Draws a new secret where the old one is over
    /// its time. `None` where the message has no macs.
    pub fn reply<A: Aead>(
        &mut self,
        message: &[u8],
        source: SocketAddr,
        now: Instant,
        rng: &mut dyn rand_core::CryptoRng,
    ) -> Option<CookieReply> {
        let macs = Macs::of(message)?;
        let ([_, _, _, _, sender @ ..], _) = macs.body.split_first_chunk::<8>()?;
        if self.secret_born.is_none_or(|born| now.saturating_since(born) >= COOKIE_SECRET_TIME) {
            rng.fill_bytes(&mut self.secret);
            self.secret_born = Some(now);
        }
        let mut nonce = [0; xchacha::NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let mut sealed_cookie = self.cookie(source);
        let tag = xchacha::seal::<A>(&self.cookie_key, &nonce, macs.mac1, &mut sealed_cookie);
        Some(CookieReply { receiver: u32::from_le_bytes(*sender), nonce, sealed_cookie, tag })
    }

    /// The cookie of an address *and* port: behind one NAT address there are many senders.
    fn cookie(&self, source: SocketAddr) -> Cookie {
        let port = source.port().to_be_bytes();
        match source.ip() {
            IpAddr::V4(address) => hash::mac(&self.secret, &[&address.octets(), &port]),
            IpAddr::V6(address) => hash::mac(&self.secret, &[&address.octets(), &port]),
        }
    }
}

/// A peer's side: what was last sent to it, and the cookie that it demanded.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct CookieMaker {
    /// mac1 of the last message sent, until a cookie reply answers it.
    last_mac1: Option<[u8; MAC_LEN]>,
    cookie: Option<Cookie>,
    #[zeroize(skip)]
    cookie_born: Instant,
}

impl core::fmt::Debug for CookieMaker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("CookieMaker(..)")
    }
}

impl CookieMaker {
    /// No cookie, nothing sent.
    pub const fn new() -> Self {
        Self { last_mac1: None, cookie: None, cookie_born: Instant::ZERO }
    }

    /// Writes both macs of an initiation or response to the peer with this key: the last thing before it is sent.
    /// mac2 is zero where there is no fresh cookie. A message too short to have macs is left as it is.
    pub fn stamp(&mut self, peer: &NodeKey, message: &mut [u8], now: Instant) {
        let Some((rest, mac2)) = message.split_last_chunk_mut::<MAC_LEN>() else { return };
        let Some((body, mac1)) = rest.split_last_chunk_mut::<MAC_LEN>() else { return };
        *mac1 = hash::mac(&labelled(MAC1_LABEL, peer), &[body]);
        self.last_mac1 = Some(*mac1);
        *mac2 = match self.fresh_cookie(now) {
            Some(cookie) => hash::mac(&cookie, &[body, mac1]),
            None => [0; MAC_LEN],
        };
    }

    /// Takes the cookie out of a reply of the peer with this key: `true` where it answers the last message sent, and
    /// is the first to do so. The cookie serves the next handshake message; nothing is to be sent again for it.
    #[must_use]
    pub fn consume<A: Aead>(&mut self, peer: &NodeKey, reply: &CookieReply, now: Instant) -> bool {
        let Some(mac1) = self.last_mac1 else { return false };
        let mut cookie = reply.sealed_cookie;
        let key = labelled(COOKIE_LABEL, peer);
        if xchacha::open::<A>(&key, &reply.nonce, &mac1, &mut cookie, &reply.tag).is_err() {
            return false;
        }
        self.last_mac1 = None;
        self.cookie = Some(cookie);
        self.cookie_born = now;
        true
    }

    fn fresh_cookie(&mut self, now: Instant) -> Option<Cookie> {
        if now.saturating_since(self.cookie_born) >= COOKIE_USE_TIME {
            self.cookie.zeroize();
        }
        self.cookie
    }
}

/// An initiation or response, taken apart at its macs.
struct Macs<'a> {
    body: &'a [u8],
    mac1: &'a [u8; MAC_LEN],
    mac2: &'a [u8; MAC_LEN],
}

impl<'a> Macs<'a> {
    fn of(message: &'a [u8]) -> Option<Self> {
        let (rest, mac2) = message.split_last_chunk()?;
        let (body, mac1) = rest.split_last_chunk()?;
        Some(Self { body, mac1, mac2 })
    }
}

/// The key that a label and a public key stand for.
fn labelled(label: &[u8], key: &NodeKey) -> [u8; 32] {
    hash::hash(&[label, key.as_bytes()])
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{crypto::aead::ChaCha20Poly1305, wireguard::message::MessageKind};

    const SERVER: NodeKey = NodeKey::from_bytes([3; 32]);

    fn source(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn initiation() -> [u8; 148] {
        let mut message: [u8; 148] = core::array::from_fn(|i| i as u8);
        message[..4].copy_from_slice(&MessageKind::Initiation.header());
        message
    }

    /// A checker, and a maker that has been given a cookie for `source` at `now`.
    fn with_cookie(from: SocketAddr, now: Instant) -> (CookieChecker, CookieMaker) {
        let mut checker = CookieChecker::new(&SERVER);
        let mut maker = CookieMaker::new();
        let mut message = initiation();
        maker.stamp(&SERVER, &mut message, now);
        let mut rng = StdRng::seed_from_u64(1);
        let reply = checker.reply::<ChaCha20Poly1305>(&message, from, now, &mut rng).unwrap();
        assert_eq!(reply.receiver, u32::from_le_bytes([4, 5, 6, 7]));
        assert!(maker.consume::<ChaCha20Poly1305>(&SERVER, &reply, now));
        (checker, maker)
    }

    fn stamped(maker: &mut CookieMaker, now: Instant) -> [u8; 148] {
        let mut message = initiation();
        maker.stamp(&SERVER, &mut message, now);
        message
    }

    #[test]
    fn mac1_covers_everything_before_it_and_depends_on_the_receiver() {
        let checker = CookieChecker::new(&SERVER);
        let message = stamped(&mut CookieMaker::new(), Instant::ZERO);
        assert!(checker.check_mac1(&message));
        for position in 0..132 {
            let mut altered = message;
            altered[position] ^= 1;
            assert!(!checker.check_mac1(&altered), "byte {position}");
        }
        assert!(!CookieChecker::new(&NodeKey::from_bytes([4; 32])).check_mac1(&message));
        assert!(!checker.check_mac1(&message[..31]));
        assert_eq!(message[132..], [0; 16], "mac2 is zero without a cookie");
    }

    #[test]
    fn a_cookie_proves_an_address_and_a_port() {
        let now = Instant::from_secs(1_000);
        let from = source("192.0.2.1:51820");
        let (checker, mut maker) = with_cookie(from, now);
        let message = stamped(&mut maker, now);
        assert!(checker.check_mac2(&message, from, now));
        assert!(!checker.check_mac2(&message, source("192.0.2.1:51821"), now));
        assert!(!checker.check_mac2(&message, source("192.0.2.2:51820"), now));
        for position in 0..148 {
            let mut altered = message;
            altered[position] ^= 1;
            assert!(!checker.check_mac2(&altered, from, now), "byte {position}");
        }
    }

    #[test]
    fn a_cookie_is_used_for_115_seconds_and_its_secret_lives_for_120() {
        let from = source("[2001:db8::1]:51820");
        let (checker, mut maker) = with_cookie(from, Instant::ZERO);
        let last_use = Instant::from_millis(114_999);
        let message = stamped(&mut maker, last_use);
        assert!(checker.check_mac2(&message, from, last_use));
        assert!(checker.check_mac2(&message, from, Instant::from_millis(119_999)));
        assert!(!checker.check_mac2(&message, from, Instant::from_secs(120)));
        assert_eq!(stamped(&mut maker, Instant::from_secs(115))[132..], [0; 16]);
        assert_eq!(stamped(&mut maker, last_use)[132..], [0; 16], "an expired cookie is gone for good");
    }

    #[test]
    fn a_new_secret_ends_the_old_cookies() {
        let from = source("192.0.2.1:1");
        let (mut checker, mut maker) = with_cookie(from, Instant::ZERO);
        let message = stamped(&mut maker, Instant::from_secs(100));
        let rotated = Instant::ZERO + Duration::from_secs(120);
        let mut rng = StdRng::seed_from_u64(2);
        checker.reply::<ChaCha20Poly1305>(&message, from, rotated, &mut rng).unwrap();
        assert!(!checker.check_mac2(&message, from, rotated));
    }

    #[test]
    fn an_all_zero_secret_never_validates() {
        let checker = CookieChecker::new(&SERVER);
        let from = source("192.0.2.1:1");
        let mut maker = CookieMaker { cookie: Some(checker.cookie(from)), ..CookieMaker::new() };
        let message = stamped(&mut maker, Instant::ZERO);
        assert!(!checker.check_mac2(&message, from, Instant::ZERO));
    }

    #[test]
    fn a_cookie_reply_counts_once_and_only_for_the_last_message_sent() {
        let mut checker = CookieChecker::new(&SERVER);
        let mut rng = StdRng::seed_from_u64(1);
        let from = source("192.0.2.1:1");
        let mut reply_to =
            |message: &[u8]| checker.reply::<ChaCha20Poly1305>(message, from, Instant::ZERO, &mut rng).unwrap();
        let mut maker = CookieMaker::new();
        let first = stamped(&mut maker, Instant::ZERO);
        let mut message = initiation();
        message[8] ^= 1;
        maker.stamp(&SERVER, &mut message, Instant::ZERO);

        let (late, reply, again) = (reply_to(&first), reply_to(&message), reply_to(&message));
        assert_ne!(reply.nonce, again.nonce, "every reply has a nonce of its own");
        let forged = CookieReply { tag: [0; 16], ..reply.clone() };
        assert!(!CookieMaker::new().consume::<ChaCha20Poly1305>(&SERVER, &reply, Instant::ZERO), "nothing was sent");
        assert!(!maker.consume::<ChaCha20Poly1305>(&SERVER, &late, Instant::ZERO));
        assert!(!maker.consume::<ChaCha20Poly1305>(&SERVER, &forged, Instant::ZERO));
        assert!(maker.consume::<ChaCha20Poly1305>(&SERVER, &reply, Instant::ZERO));
        assert!(!maker.consume::<ChaCha20Poly1305>(&SERVER, &again, Instant::ZERO));
    }
}
