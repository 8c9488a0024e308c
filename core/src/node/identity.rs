//! Who a node is: its secrets, its server, and the times that must survive a restart. Small, kept in one piece, and
//! kept before it is used.
//!
//! The encoding is a CBOR map with unsigned keys, of definite length. A reader skips keys that it does not know. It
//! holds secrets: the agent keeps it where only its own user reads, and wipes its buffer.

use core::fmt;

use rand_core::CryptoRng;

use super::wall_clock::KeptTime;
use crate::{
    control::{
        JoinKey, JoinSecret, NetworkId, ServerAddress,
        cbor::{Malformed, Reader, Writer},
        record::{List, Text},
    },
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
        let mut writer = Writer::new(out);
        let given = |secret: bool| usize::from(secret);
        writer.map(
            6 + given(self.next_node.is_some()) + given(self.next_server.is_some()) + given(self.join_secret.is_some()),
        );
        let mut field = |key: u64, bytes: Option<&[u8]>| {
            if let Some(bytes) = bytes {
                writer.unsigned(key);
                writer.bytes(bytes);
            }
        };
        field(0, Some(self.machine.as_bytes()));
        field(1, Some(self.node.as_bytes()));
        field(2, self.next_node.as_ref().map(|next| next.as_bytes().as_slice()));
        field(3, Some(self.server.as_bytes()));
        field(4, self.next_server.as_ref().map(|next| next.as_bytes().as_slice()));
        writer.unsigned(5);
        writer.array(self.addresses.len());
        self.addresses.iter().for_each(|address| writer.text(address.as_str()));
        if let Some(secret) = &self.join_secret {
            writer.unsigned(6);
            writer.bytes(secret.as_bytes());
        }
        writer.field(7, &self.network);
        writer.unsigned(8);
        writer.array(2);
        writer.unsigned(self.time.stamp_floor.secs());
        writer.unsigned(self.time.server_time.secs());
        writer.finish()
    }

    /// Reads what [`Identity::encode`] wrote.
    ///
    /// # Errors
    /// [`DamagedIdentity`] where the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DamagedIdentity> {
        Self::read(bytes).map_err(|Malformed| DamagedIdentity)
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let fields = reader.fields()?;
        if !reader.is_at_end() {
            return Err(Malformed);
        }
        let mut addresses = heapless::Vec::new();
        for text in fields.get::<List<'_, Text<'_>>>(5)? {
            if let Ok(address) = text.as_str().parse() {
                let _ = addresses.push(address);
            }
        }
        let secret = |key| fields.get::<Option<[u8; 32]>>(key);
        let time = fields.get::<Option<[u64; 2]>>(8)?.map(|times| times.map(|secs| UnixTime::new(secs, 0)));
        Ok(Self {
            machine: secret(0)?.map(MachineSecret::from_bytes).ok_or(Malformed)?,
            node: secret(1)?.map(NodeSecret::from_bytes).ok_or(Malformed)?,
            next_node: secret(2)?.map(NodeSecret::from_bytes),
            server: fields.get(3)?,
            next_server: fields.get(4)?,
            addresses,
            join_secret: fields.get(6)?,
            network: fields.get::<Option<NetworkId>>(7)?.unwrap_or(NetworkId::UNKNOWN),
            time: time.map(|[stamp_floor, server_time]| KeptTime { stamp_floor, server_time }).unwrap_or_default(),
        })
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
