//! Who a node is: its secrets, its server, and the times that must survive a restart. Small, kept in one piece, and
//! kept before it is used.
//!
//! The encoding is a CBOR map with unsigned keys, of definite length. A reader skips keys that it does not know. It
//! holds secrets: the agent keeps it where only its own user reads, and wipes its buffer.

use core::fmt;

use minicbor::{Decoder, Encoder, encode::write::Cursor};
use rand_core::CryptoRng;

use super::wall_clock::KeptTime;
use crate::{
    control::{JoinKey, JoinSecret, NetworkId, ServerAddress},
    keys::{MachineSecret, NodeSecret, ServerKey},
    limits,
    time::UnixTime,
};

/// The longest encoded identity in bytes.
pub const MAX_IDENTITY: usize = 1_024;
/// Addresses of the server that are kept at most.
pub const MAX_SERVER_ADDRESSES: usize = limits::SERVER_ADDRESSES;

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The secret of the control channel, for the life of the machine.
    pub machine: MachineSecret,
    /// The secret of the WireGuard device.
    pub node: NodeSecret,
    /// The secret that is to replace `node`: kept before the server hears of it, in use once the server confirmed it.
    pub next_node: Option<NodeSecret>,
    /// The key that the server has to prove.
    pub server: ServerKey,
    /// The key that the server will have next, as it announced itself.
    pub next_server: Option<ServerKey>,
    /// Where the server is, in the order in which to try.
    pub addresses: heapless::Vec<ServerAddress, MAX_SERVER_ADDRESSES>,
    /// The secret of the join key, until the server has taken it.
    pub join_secret: Option<JoinSecret>,
    /// The network, once known.
    pub network: NetworkId,
    /// Floors of the wall clock.
    pub time: KeptTime,
}

impl Identity {
    /// A new machine and node that will join with `key`.
    pub fn new(key: &JoinKey, rng: &mut dyn CryptoRng) -> Self {
        Self {
            machine: MachineSecret::generate(rng),
            node: NodeSecret::generate(rng),
            next_node: None,
            server: *key.server_key(),
            next_server: None,
            addresses: key.addresses().take(MAX_SERVER_ADDRESSES).collect(),
            join_secret: Some(key.secret().clone()),
            network: NetworkId::UNKNOWN,
            time: KeptTime::default(),
        }
    }

    /// Writes the encoding to `out`, which has room for [`MAX_IDENTITY`] bytes, and returns its length; `None` where
    /// it does not fit.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut e = Encoder::new(Cursor::new(out));
        let fields = 6
            + u64::from(self.next_node.is_some())
            + u64::from(self.next_server.is_some())
            + u64::from(self.join_secret.is_some());
        e.map(fields).ok()?;
        e.u8(0).ok()?.bytes(self.machine.as_bytes()).ok()?;
        e.u8(1).ok()?.bytes(self.node.as_bytes()).ok()?;
        if let Some(next) = &self.next_node {
            e.u8(2).ok()?.bytes(next.as_bytes()).ok()?;
        }
        e.u8(3).ok()?.bytes(self.server.as_bytes()).ok()?;
        if let Some(next) = &self.next_server {
            e.u8(4).ok()?.bytes(next.as_bytes()).ok()?;
        }
        e.u8(5).ok()?.array(self.addresses.len() as u64).ok()?;
        for address in &self.addresses {
            e.str(address.as_str()).ok()?;
        }
        if let Some(secret) = &self.join_secret {
            e.u8(6).ok()?.bytes(secret.as_bytes()).ok()?;
        }
        e.u8(7).ok()?.u32(self.network.0).ok()?;
        e.u8(8).ok()?.array(2).ok()?;
        e.u64(self.time.stamp_floor.secs()).ok()?.u64(self.time.server_time.secs()).ok()?;
        Some(e.writer().position())
    }

    /// Reads what [`Identity::encode`] wrote.
    ///
    /// # Errors
    /// [`DamagedIdentity`] where the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DamagedIdentity> {
        Self::read(bytes).ok().flatten().ok_or(DamagedIdentity)
    }

    fn read(bytes: &[u8]) -> Result<Option<Self>, minicbor::decode::Error> {
        fn key(d: &mut Decoder<'_>) -> Result<[u8; 32], minicbor::decode::Error> {
            <[u8; 32]>::try_from(d.bytes()?).map_err(|_| minicbor::decode::Error::message("not a key"))
        }
        let mut d = Decoder::new(bytes);
        let Some(fields) = d.map()? else { return Ok(None) };
        let (mut machine, mut node, mut next_node, mut server, mut next_server) = (None, None, None, None, None);
        let (mut addresses, mut join_secret) = (heapless::Vec::new(), None);
        let (mut network, mut time) = (NetworkId::UNKNOWN, KeptTime::default());
        for _ in 0..fields {
            match d.u64()? {
                0 => machine = Some(MachineSecret::from_bytes(key(&mut d)?)),
                1 => node = Some(NodeSecret::from_bytes(key(&mut d)?)),
                2 => next_node = Some(NodeSecret::from_bytes(key(&mut d)?)),
                3 => server = Some(ServerKey::from_bytes(key(&mut d)?)),
                4 => next_server = Some(ServerKey::from_bytes(key(&mut d)?)),
                5 => {
                    for _ in 0..d.array()?.unwrap_or_default() {
                        if let Ok(address) = d.str()?.parse() {
                            let _ = addresses.push(address);
                        }
                    }
                }
                6 => {
                    let secret = d.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message("not a secret"))?;
                    join_secret = Some(JoinSecret::from_bytes(secret));
                }
                7 => network = NetworkId(d.u32()?),
                8 => {
                    d.array()?;
                    time =
                        KeptTime { stamp_floor: UnixTime::new(d.u64()?, 0), server_time: UnixTime::new(d.u64()?, 0) };
                }
                _ => d.skip()?,
            }
        }
        let (Some(machine), Some(node), Some(server)) = (machine, node, server) else { return Ok(None) };
        if d.position() != bytes.len() {
            return Ok(None);
        }
        Ok(Some(Self { machine, node, next_node, server, next_server, addresses, join_secret, network, time }))
    }
}

/// The bytes are not a kept identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DamagedIdentity;

impl fmt::Display for DamagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kept identity is damaged; restore it from a backup, or join again")
    }
}

impl core::error::Error for DamagedIdentity {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::test_rng::TestRng;

    fn identity() -> Identity {
        let mut rng = TestRng::new(5);
        Identity {
            machine: MachineSecret::generate(&mut rng),
            node: NodeSecret::generate(&mut rng),
            next_node: Some(NodeSecret::generate(&mut rng)),
            server: ServerKey::from_bytes([4; 32]),
            next_server: Some(ServerKey::from_bytes([5; 32])),
            addresses: ["http://192.0.2.1:8080", "http://control.example:80"]
                .iter()
                .map(|a| a.parse().unwrap())
                .collect(),
            join_secret: Some(JoinSecret::from_bytes([6; 16])),
            network: NetworkId(3),
            time: KeptTime {
                stamp_floor: UnixTime::new(1_800_000_000, 0),
                server_time: UnixTime::new(1_700_000_000, 0),
            },
        }
    }

    #[test]
    fn an_identity_reads_back_and_fits_its_buffer() {
        let mut buffer = [0; MAX_IDENTITY];
        for mut identity in
            [identity(), Identity { next_node: None, next_server: None, join_secret: None, ..identity() }]
        {
            for _ in identity.addresses.len()..MAX_SERVER_ADDRESSES {
                let long = std::format!("http://{}.example:8080", "a".repeat(100));
                identity.addresses.push(long.parse().unwrap()).unwrap();
            }
            let len = identity.encode(&mut buffer).unwrap();
            assert_eq!(Identity::decode(&buffer[..len]), Ok(identity));
        }
    }

    #[test]
    fn a_cut_or_lengthened_identity_is_damaged() {
        let mut buffer = [0; MAX_IDENTITY];
        let len = identity().encode(&mut buffer).unwrap();
        for cut in 0..len {
            assert_eq!(Identity::decode(&buffer[..cut]), Err(DamagedIdentity));
        }
        assert_eq!(Identity::decode(&buffer[..=len]), Err(DamagedIdentity));
    }
}
