//! What a node keeps for its next start, and how it takes it back.
//!
//! | piece | in what form | when |
//! |---|---|---|
//! | identity | [`Identity::encode`] | before a new secret is used; a floor of stamps about once an hour |
//! | netmap | records of the control protocol: this node, each peer, then the revision | at once when a peer is gone, at the end of a snapshot and with the recent peers, else some time after a change |
//! | recent peers | a CBOR array of pairs: id, endpoint or null | when a peer joins the set or answers elsewhere, once a second at most, once in five minutes on a chip and where peers come on demand |
//!
//! The last two hold no secret, and a node that lost them gets them again from the server.

use core::{fmt, net::SocketAddr, time::Duration};

use super::{
    Identity, Member, Node, NodeStorage, Unkept, netmap::SelfRecord, steps::PublicKeys, wall_clock::WallClock,
};
use crate::{
    control::{
        NodeId, ServerRecord,
        cbor::{Item, Malformed, Reader, Writer},
        record::{Endpoint, Kept as _, UpTo},
    },
    crypto::Crypto,
    limits,
    time::Instant,
};

/// Recent peers that are kept at most.
pub const MAX_RECENT_PEERS: usize = limits::RECENT_PEERS;
/// The longest encoding of the recent peers in bytes.
pub const MAX_RECENT_LEN: usize = 3 + MAX_RECENT_PEERS * (1 + 5 + 1 + 18);
/// From a change of the netmap until it is kept, and a second more for so many peers.
const NETMAP_DELAY: Duration = Duration::from_millis(500);
const PEERS_PER_SECOND_OF_DELAY: usize = 500;
/// Neither is kept more often where peers come on demand, and so come and go: the server can be asked for one that is not
/// kept.
const ON_DEMAND_DELAY: Duration = Duration::from_secs(300);

/// The bytes are not what this node keeps. Nothing has changed; what is missing comes from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DamagedRecord;

impl fmt::Display for DamagedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kept netmap is damaged; the server will send it again")
    }
}

impl core::error::Error for DamagedRecord {}

impl<S: NodeStorage, C: Crypto> Node<S, C> {
    /// Who this node is; `None` before it joins. To be kept on
    /// [`Persist::Identity`](super::Persist::Identity).
    pub const fn identity(&self) -> Option<&Identity> {
        self.member.identity.as_ref()
    }

    /// What [`identity`](Self::identity) gives now is kept. Until this is said, a new secret is not used.
    pub fn identity_kept(&mut self) {
        // What is not even collected cannot be kept.
        if !self.member.events.persist_identity {
            self.member.unkept = Unkept::default();
        }
    }

    /// Takes a kept identity back, before [`start`](Self::start).
    pub fn restore_identity(&mut self, identity: Identity, now: Instant) {
        self.member.clock = WallClock::new(identity.time);
        self.member.device.set_timestamp_floor(identity.time.stamp_floor);
        self.member.identity = Some(identity);
        self.member.keys = PublicKeys::default();
        self.member.put_key(now);
    }

    /// Writes the record at `cursor` of what is kept of the netmap to `out`, which has room for
    /// [`MAX_RECORD`](crate::control::MAX_RECORD) bytes, moves the cursor behind it, and returns its length. The first
    /// cursor is zero; `None` after the last record.
    pub fn netmap_record(&self, cursor: &mut usize, out: &mut [u8]) -> Option<usize> {
        let netmap = &self.member.netmap;
        let network = netmap.own()?.network();
        loop {
            let at = *cursor;
            *cursor += 1;
            let written = match at.checked_sub(1) {
                None => netmap.own()?.with_info(|info| info.encode_alone(network, out)),
                Some(slot) if slot < netmap.capacity() => match netmap.at(slot) {
                    Some(peer) if self.member.newcomers.contains(peer.id()) => continue,
                    Some(peer) => peer.with_peer(|peer| peer.encode_alone(network, out)),
                    None => continue,
                },
                Some(slot) if slot == netmap.capacity() => {
                    let revision = netmap.revision()?;
                    UpTo { revision }.encode_alone(network, out)
                }
                Some(_) => return None,
            };
            // A compact record is always smaller than the record that it was made of.
            return written;
        }
    }

    /// Takes a record of [`netmap_record`](Self::netmap_record) back, in their order, before [`start`](Self::start).
    ///
    /// # Errors
    /// [`DamagedRecord`]; the agent then gives no further records.
    pub fn restore_netmap_record(&mut self, bytes: &[u8], now: Instant) -> Result<(), DamagedRecord> {
        let member = &mut self.member;
        match ServerRecord::decode(bytes) {
            Ok((network, Some(ServerRecord::SelfChanged(info)))) => {
                member.netmap.set_own(SelfRecord::new(network, &info));
            }
            Ok((_, Some(ServerRecord::PeerUpsert(peer)))) => member.upsert_peer(&peer, now),
            Ok((_, Some(ServerRecord::UpTo(up_to)))) => member.netmap.set_revision(Some(up_to.revision)),
            _ => return Err(DamagedRecord),
        }
        // What was just read need not be written.
        member.deadlines.keep_netmap = None;
        while member.events.poll().is_some() {}
        Ok(())
    }

    /// Writes the peers that this node has or lately had a session with, and where they answered, to `out`, which has
    /// room for [`MAX_RECENT_LEN`] bytes, and returns the length.
    pub fn recent_peers(&self, out: &mut [u8]) -> usize {
        self.member.write_recent(out).unwrap_or_default()
    }

    /// Takes [`recent_peers`](Self::recent_peers) back, after the netmap and before [`start`](Self::start).
    ///
    /// # Errors
    /// [`DamagedRecord`] from the first pair on that is none.
    pub fn restore_recent_peers(&mut self, bytes: &[u8], now: Instant) -> Result<(), DamagedRecord> {
        let mut reader = Reader::new(bytes);
        for _ in 0..reader.array().map_err(|Malformed| DamagedRecord)? {
            let (id, endpoint) = read_pair(&mut reader).map_err(|Malformed| DamagedRecord)?;
            self.member.restore_recent(id, endpoint, now);
        }
        Ok(())
    }
}

fn read_pair(reader: &mut Reader<'_>) -> Result<(NodeId, Option<SocketAddr>), Malformed> {
    reader.array()?;
    let id = Item::read(reader)?;
    let endpoint: Option<Endpoint> = Item::read(reader)?;
    Ok((id, endpoint.map(|endpoint| endpoint.0)))
}

impl<S: NodeStorage, C: Crypto> Member<S, C> {
    fn write_recent(&self, out: &mut [u8]) -> Option<usize> {
        let recent = || self.contacts.iter().filter(|contact| contact.had_session).take(MAX_RECENT_PEERS);
        let mut writer = Writer::new(out);
        writer.array(recent().count());
        for contact in recent() {
            writer.array(2);
            contact.id.write(&mut writer);
            contact.answered().map(Endpoint).write(&mut writer);
        }
        writer.finish()
    }

    fn restore_recent(&mut self, id: NodeId, endpoint: Option<SocketAddr>, now: Instant) {
        if self.netmap.by_id(id).is_none() {
            return;
        }
        if let Some(contact) = self.touch(id, now) {
            contact.had_session = true;
            contact.set_answered(endpoint);
        }
    }

    /// Recent peers are not kept more often.
    pub(super) fn recent_interval(&self) -> Duration {
        if self.is_on_demand() { ON_DEMAND_DELAY } else { limits::RECENT_INTERVAL }
    }

    /// The netmap changed: it is kept some time from now, together with what changes until then.
    pub(super) fn keep_netmap_soon(&mut self, now: Instant) {
        let more = Duration::from_secs((self.netmap.len() / PEERS_PER_SECOND_OF_DELAY) as u64);
        let delay = if self.is_on_demand() { ON_DEMAND_DELAY } else { NETMAP_DELAY + more };
        self.deadlines.keep_netmap.get_or_insert(now + delay);
    }
}
