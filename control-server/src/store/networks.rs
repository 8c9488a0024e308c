//! The row of a network: its epoch, its revision, and the counters that ids and addresses come from.

use sqlx::Row;
use weft_core::control::{NetworkId, NodeId};

use super::{Change, Effect, Store, Transaction};
use crate::{address::Host, refusal::Refusal};

/// What a network is as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRow {
    /// The history that its revisions count in.
    pub epoch: u64,
    /// The last revision.
    pub revision: u64,
    /// Removals up to this revision are forgotten.
    pub compacted: u64,
    /// The domain that names stand under.
    pub domain: String,
}

impl Store {
    /// The network, made where it is not there yet.
    ///
    /// # Errors
    /// [`Refusal::Storage`] and [`Refusal::DiskFull`].
    pub async fn network(&mut self, network: NetworkId, domain: &str, now: u64) -> Result<NetworkRow, Refusal> {
        sqlx::query(
            "INSERT INTO networks (network_id, domain, urls, epoch, revision, compacted_revision, last_id, next_host, created_at) \
             VALUES ($1, $2, '', $3, 0, 0, 0, 0, $4) ON CONFLICT (network_id) DO NOTHING",
        )
        .bind(i64::from(network.0))
        .bind(domain)
        .bind(fresh_epoch())
        .bind(now as i64)
        .execute(self.connection())
        .await?;
        let row = sqlx::query("SELECT epoch, revision, compacted_revision, domain FROM networks WHERE network_id = $1")
            .bind(i64::from(network.0))
            .fetch_one(self.connection())
            .await?;
        Ok(NetworkRow {
            epoch: row.try_get::<i64, _>(0)? as u64,
            revision: row.try_get::<i64, _>(1)? as u64,
            compacted: row.try_get::<i64, _>(2)? as u64,
            domain: row.try_get(3)?,
        })
    }

    /// Begins a new history, so that nobody resumes from a revision of the old one.
    ///
    /// # Errors
    /// [`Refusal::Storage`] and [`Refusal::DiskFull`].
    pub async fn begin_epoch(&mut self) -> Result<(), Refusal> {
        sqlx::query("UPDATE networks SET epoch = $1").bind(fresh_epoch()).execute(self.connection()).await?;
        Ok(())
    }

    /// The removals that are remembered, with their revisions.
    ///
    /// # Errors
    /// [`Refusal::Storage`].
    pub async fn tombstones(&mut self, network: NetworkId) -> Result<Vec<(u64, NodeId)>, Refusal> {
        let rows = sqlx::query_as::<_, (i64, i64)>("SELECT revision, node_id FROM tombstones WHERE network_id = $1")
            .bind(i64::from(network.0))
            .fetch_all(self.connection())
            .await?;
        Ok(rows.into_iter().map(|(revision, id)| (revision as u64, NodeId(id as u32))).collect())
    }
}

impl Transaction<'_> {
    /// The next revision.
    pub(crate) async fn next_revision(&mut self) -> Result<u64, Refusal> {
        let revision: i64 =
            sqlx::query_scalar("UPDATE networks SET revision = revision + 1 WHERE network_id = $1 RETURNING revision")
                .bind(self.network())
                .fetch_one(&mut *self.connection)
                .await?;
        Ok(revision as u64)
    }

    /// The next id, for a user, join key or node.
    pub(crate) async fn next_id(&mut self) -> Result<u32, Refusal> {
        let id: i64 =
            sqlx::query_scalar("UPDATE networks SET last_id = last_id + 1 WHERE network_id = $1 RETURNING last_id")
                .bind(self.network())
                .fetch_one(&mut *self.connection)
                .await?;
        u32::try_from(id).map_err(|_| Refusal::Storage("every id has been used".to_owned()))
    }

    /// A host that nobody has: a fresh one, or where there is none left, the one whose node is gone longest.
    pub(crate) async fn allocate_host(&mut self) -> Result<Host, Refusal> {
        let fresh: Option<i64> = sqlx::query_scalar(
            "UPDATE networks SET next_host = next_host + 1 WHERE network_id = $1 AND next_host < $2 RETURNING next_host",
        )
        .bind(self.network())
        .bind(i64::from(self.policy.address_limit.min(Host::COUNT)))
        .fetch_optional(&mut *self.connection)
        .await?;
        if let Some(next) = fresh {
            return Ok(Host((next - 1) as u32));
        }
        let released: Option<i64> = sqlx::query_scalar(
            "DELETE FROM released_hosts WHERE network_id = $1 AND host = \
             (SELECT host FROM released_hosts WHERE network_id = $1 ORDER BY revision LIMIT 1) RETURNING host",
        )
        .bind(self.network())
        .fetch_optional(&mut *self.connection)
        .await?;
        released.map(|host| Host(host as u32)).ok_or(Refusal::AddressesExhausted)
    }
}

impl Store {
    /// The addresses that join keys name.
    ///
    /// # Errors
    /// [`Refusal::Storage`].
    pub async fn urls(&mut self, network: NetworkId) -> Result<Vec<String>, Refusal> {
        let urls: String = sqlx::query_scalar("SELECT urls FROM networks WHERE network_id = $1")
            .bind(i64::from(network.0))
            .fetch_one(self.connection())
            .await?;
        Ok(urls.split_whitespace().map(str::to_owned).collect())
    }
}

/// Sets the addresses that join keys name.
#[derive(Debug)]
pub struct SetUrls {
    /// The addresses, in the order in which nodes try them.
    pub urls: Vec<String>,
}

impl Change for SetUrls {
    type Output = ();

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<(), Refusal> {
        sqlx::query("UPDATE networks SET urls = $2 WHERE network_id = $1")
            .bind(tx.network())
            .bind(self.urls.join(" "))
            .execute(&mut *tx.connection)
            .await?;
        Ok(())
    }
}

/// Forgets the removals that are too old or too many.
#[derive(Debug)]
pub struct CompactTombstones;

impl Change for CompactTombstones {
    type Output = ();

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<(), Refusal> {
        let by_count: Option<i64> = sqlx::query_scalar(
            "SELECT revision FROM tombstones WHERE network_id = $1 ORDER BY revision DESC LIMIT 1 OFFSET $2",
        )
        .bind(tx.network())
        .bind(tx.policy.tombstone_count as i64)
        .fetch_optional(&mut *tx.connection)
        .await?;
        let by_age: Option<i64> =
            sqlx::query_scalar("SELECT MAX(revision) FROM tombstones WHERE network_id = $1 AND removed_at < $2")
                .bind(tx.network())
                .bind(tx.now.saturating_sub(tx.policy.tombstone_age) as i64)
                .fetch_one(&mut *tx.connection)
                .await?;
        let Some(up_to) = by_count.max(by_age) else { return Ok(()) };
        sqlx::query("DELETE FROM tombstones WHERE network_id = $1 AND revision <= $2")
            .bind(tx.network())
            .bind(up_to)
            .execute(&mut *tx.connection)
            .await?;
        sqlx::query("UPDATE networks SET compacted_revision = $2 WHERE network_id = $1")
            .bind(tx.network())
            .bind(up_to)
            .execute(&mut *tx.connection)
            .await?;
        tx.effects.push(Effect::Compacted(up_to as u64));
        Ok(())
    }
}

/// A random epoch that a signed 64-bit column holds and that is never zero.
fn fresh_epoch() -> i64 {
    (crate::random::number() >> 1 | 1) as i64
}
