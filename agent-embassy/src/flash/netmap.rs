//! Keeps a node's netmap and recent peers, and gives them back.
//!
//! Each record is an item of its own, so that a change of one peer writes one record. The item [`Key::NETMAP`] is written
//! last: which records there are, a digest over them, and the revision. Where the digest does not fit, since power
//! failed in between or a record was lost, the revision is not given back, and the server sends the whole netmap.

use embassy_futures::yield_now;
use embedded_storage_async::nor_flash::NorFlash;
use weft_core::{
    control::ServerRecord,
    crypto::{Crypto, hash},
    node::{Node, NodeStorage},
    time::Instant,
};

use super::{
    item::{Key, MAX_RECORDS},
    store::{Digest, FlashError, Store},
};

const DIGEST: usize = 8;
const SET: usize = MAX_RECORDS / 8;
/// The longest record of a revision in bytes.
const MAX_REVISION: usize = 32;

/// Writes the record at a cursor, moves the cursor behind it and returns the record's length; `None` after the last.
pub type Records<'f> = &'f dyn Fn(&mut usize, &mut [u8]) -> Option<usize>;

/// The content of [`Key::NETMAP`] before the revision.
#[derive(Clone, Default)]
struct Seal {
    digest: Digest,
    present: [u8; SET],
}

impl Seal {
    fn add(&mut self, number: usize, record: &Digest) {
        if let Some(byte) = self.present.get_mut(number / 8) {
            *byte |= 1 << (number % 8);
        }
        self.digest = hash::hash(&[&self.digest, &[number as u8], record]);
    }

    fn has(&self, number: usize) -> bool {
        self.present.get(number / 8).is_some_and(|byte| byte & (1 << (number % 8)) != 0)
    }
}

impl<F: NorFlash> Store<F> {
    /// Keeps a netmap, on [`Persist::Netmap`](weft_core::node::Persist::Netmap). `records` is
    /// [`netmap_record`](weft_core::node::Node::netmap_record); the node may change between two calls of it. What is
    /// unchanged is not written. Yields between records.
    ///
    /// # Errors
    /// [`FlashError`]; the next start may then ask the server for the whole netmap.
    pub async fn keep_netmap(&mut self, records: Records<'_>) -> Result<(), FlashError> {
        // The revision that is kept is the one before the first record is read: of what changes meanwhile the server tells
        // again.
        let mut revision = heapless::Vec::<u8, MAX_REVISION>::new();
        let (mut cursor, mut end) = (0, 0);
        while let Some(len) = records(&mut cursor, &mut self.buffer.0) {
            let record = self.buffer.0.get(..len).unwrap_or_default();
            if matches!(ServerRecord::decode(record), Ok((_, Some(ServerRecord::UpTo(_))))) {
                let _ = revision.extend_from_slice(record);
                break;
            }
            end = cursor;
        }
        let mut seal = Seal::default();
        cursor = 0;
        while cursor < end {
            // A place that is empty is passed over.
            let mut next = cursor;
            if records(&mut next, &mut self.buffer.0).is_none() || next > end {
                break;
            }
            let number = next - 1;
            cursor = next;
            match Key::record(number) {
                Some(key) => {
                    let digest = self.put(key, &|out| records(&mut { number }, out)).await?;
                    seal.add(number, &digest);
                }
                None => revision.clear(),
            }
            yield_now().await;
        }
        let sealed = |out: &mut [u8]| {
            let (digest, rest) = out.split_at_mut_checked(DIGEST)?;
            let (present, rest) = rest.split_at_mut_checked(SET)?;
            digest.copy_from_slice(seal.digest.get(..DIGEST)?);
            present.copy_from_slice(&seal.present);
            rest.get_mut(..revision.len())?.copy_from_slice(&revision);
            Some(DIGEST + SET + revision.len())
        };
        self.put(Key::NETMAP, &sealed).await.map(drop)
    }

    /// Gives the kept netmap to `node`, before it starts. False where the server has to send the whole netmap: none was
    /// kept, or not all of it can be read.
    ///
    /// # Errors
    /// [`FlashError`].
    pub async fn restore_netmap<S: NodeStorage, C: Crypto>(
        &mut self,
        node: &mut Node<S, C>,
        now: Instant,
    ) -> Result<bool, FlashError> {
        let mut kept = Seal::default();
        let mut revision = heapless::Vec::<u8, MAX_REVISION>::new();
        let read = |bytes: &[u8]| {
            let (digest, rest) = bytes.split_at_checked(DIGEST)?;
            let (present, rest) = rest.split_at_checked(SET)?;
            kept.digest.get_mut(..DIGEST)?.copy_from_slice(digest);
            kept.present.copy_from_slice(present);
            revision.extend_from_slice(rest).ok()
        };
        if self.read(Key::NETMAP, read).await?.is_none() {
            return Ok(false);
        }
        let mut found = Seal::default();
        for number in (0..MAX_RECORDS).filter(|number| kept.has(*number)) {
            let Some(key) = Key::record(number) else { break };
            let take = |bytes: &[u8]| (hash::hash(&[bytes]), node.restore_netmap_record(bytes, now));
            let (digest, restored) = self.read(key, take).await?;
            if restored.is_err() {
                return Ok(false);
            }
            found.add(number, &digest);
            yield_now().await;
        }
        let whole = found.digest.get(..DIGEST) == kept.digest.get(..DIGEST) && !revision.is_empty();
        Ok(whole && node.restore_netmap_record(&revision, now).is_ok())
    }

    /// Keeps the recent peers, on [`Persist::RecentPeers`](weft_core::node::Persist::RecentPeers). `recent` is
    /// [`recent_peers`](weft_core::node::Node::recent_peers). Where they are too many to fit (from 41 on), the former
    /// stay.
    ///
    /// # Errors
    /// [`FlashError`].
    pub async fn keep_recent_peers(&mut self, recent: &dyn Fn(&mut [u8]) -> usize) -> Result<(), FlashError> {
        let recent = |out: &mut [u8]| Some(recent(out)).filter(|len| *len > 0);
        match self.put(Key::RECENT, &recent).await {
            Ok(_) | Err(FlashError::TooLong) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives the kept recent peers to `node`, after the netmap. What cannot be read is left out.
    ///
    /// # Errors
    /// [`FlashError`].
    pub async fn restore_recent_peers<S: NodeStorage, C: Crypto>(
        &mut self,
        node: &mut Node<S, C>,
        now: Instant,
    ) -> Result<(), FlashError> {
        let take = |bytes: &[u8]| bytes.is_empty() || node.restore_recent_peers(bytes, now).is_ok();
        self.read(Key::RECENT, take).await.map(drop)
    }
}
