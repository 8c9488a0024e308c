//! Join keys: who may join, as what, how often and until when. Only the hash of a secret is kept.

use serde::Serialize;
use sqlx::{Row, sqlite::SqliteRow};
use weft_core::{control::JoinSecret, crypto::hash};

use super::{Change, Transaction, tags_from_text, tags_to_text};
use crate::{name, refusal::Refusal};

/// The most bytes that the tags of a node may have together, so that they fit into one record of the protocol.
const MAX_TAGS: usize = 512;

/// A join key as the server keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JoinKeyEntry {
    /// Its id, by which it is revoked.
    pub id: u64,
    /// The user whose nodes join with it.
    pub user: String,
    /// Any number of nodes may join with it.
    pub reusable: bool,
    /// Nodes that join with it are removed some time after they went offline.
    pub ephemeral: bool,
    /// The tags of nodes that join with it.
    pub tags: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
    /// From when on it is refused, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// When it was revoked, in seconds since 1970.
    pub revoked_at: Option<u64>,
    /// How many nodes joined with it.
    pub use_count: u64,
}

/// The hash of a join secret. The secret has 128 random bits, so that a plain hash keeps it.
pub(crate) fn secret_hash(secret: &JoinSecret) -> String {
    hash::hash(&[b"weft join secret", secret.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a join key.
#[derive(Debug)]
pub struct CreateJoinKey {
    /// The name of the user whose nodes join with it.
    pub user: String,
    /// The secret, of which the hash is kept.
    pub secret: JoinSecret,
    /// For any number of nodes.
    pub reusable: bool,
    /// For nodes that are removed some time after they went offline.
    pub ephemeral: bool,
    /// The tags of nodes that join with it, each with its `tag:`.
    pub tags: Vec<String>,
    /// How long it is good for, in seconds.
    pub valid_for: Option<u64>,
}

impl Change for CreateJoinKey {
    type Output = JoinKeyEntry;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<JoinKeyEntry, Refusal> {
        let mut tags = self.tags;
        tags.sort();
        tags.dedup();
        if let Some(bad) = tags.iter().find(|tag| !name::is_tag(tag)) {
            return Err(Refusal::BadTag(bad.clone()));
        }
        if tags_to_text(&tags).len() > MAX_TAGS {
            return Err(Refusal::TooManyTags);
        }
        let user_id = tx.user_id(&self.user).await?;
        let id = tx.next_id().await?;
        let expires_at = self.valid_for.map(|seconds| tx.now.saturating_add(seconds).min(i64::MAX as u64));
        sqlx::query(
            "INSERT INTO join_keys (network_id, join_key_id, user_id, secret_hash, reusable, ephemeral, tags, \
             created_at, expires_at, use_count) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)",
        )
        .bind(tx.network())
        .bind(i64::from(id))
        .bind(user_id)
        .bind(secret_hash(&self.secret))
        .bind(self.reusable)
        .bind(self.ephemeral)
        .bind(tags_to_text(&tags))
        .bind(tx.now())
        .bind(expires_at.map(|at| at as i64))
        .execute(&mut *tx.connection)
        .await?;
        Ok(JoinKeyEntry {
            id: id.into(),
            user: self.user,
            reusable: self.reusable,
            ephemeral: self.ephemeral,
            tags,
            created_at: tx.now,
            expires_at,
            revoked_at: None,
            use_count: 0,
        })
    }
}

macro_rules! select_join_keys {
    ($condition:literal) => {
        concat!(
            "SELECT k.join_key_id, u.name AS user_name, k.reusable, k.ephemeral, k.tags, k.created_at, k.expires_at, \
             k.revoked_at, k.use_count FROM join_keys k JOIN users u \
             ON u.network_id = k.network_id AND u.user_id = k.user_id WHERE k.network_id = $1",
            $condition
        )
    };
}

impl JoinKeyEntry {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get::<i64, _>("join_key_id")? as u64,
            user: row.try_get("user_name")?,
            reusable: row.try_get("reusable")?,
            ephemeral: row.try_get("ephemeral")?,
            tags: tags_from_text(row.try_get("tags")?),
            created_at: row.try_get::<i64, _>("created_at")? as u64,
            expires_at: row.try_get::<Option<i64>, _>("expires_at")?.map(|at| at as u64),
            revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.map(|at| at as u64),
            use_count: row.try_get::<i64, _>("use_count")? as u64,
        })
    }
}

/// Lists the join keys, oldest first.
#[derive(Debug)]
pub struct ListJoinKeys;

impl Change for ListJoinKeys {
    type Output = Vec<JoinKeyEntry>;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<Vec<JoinKeyEntry>, Refusal> {
        let rows = sqlx::query(select_join_keys!(" ORDER BY k.join_key_id"))
            .bind(tx.network())
            .fetch_all(&mut *tx.connection)
            .await?;
        Ok(rows.iter().map(JoinKeyEntry::from_row).collect::<Result<_, _>>()?)
    }
}

/// Revokes a join key. Nodes that joined with it stay.
#[derive(Debug)]
pub struct RevokeJoinKey {
    /// The key's id.
    pub id: u64,
}

impl Change for RevokeJoinKey {
    type Output = ();

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<(), Refusal> {
        let id = i64::try_from(self.id).map_err(|_| Refusal::NoSuchJoinKey(self.id))?;
        let revoked = sqlx::query(
            "UPDATE join_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE network_id = $1 AND join_key_id = $2",
        )
        .bind(tx.network())
        .bind(id)
        .bind(tx.now())
        .execute(&mut *tx.connection)
        .await?;
        if revoked.rows_affected() == 0 { Err(Refusal::NoSuchJoinKey(self.id)) } else { Ok(()) }
    }
}

impl Transaction<'_> {
    /// The join key with this secret, where it is still good but for its uses.
    pub(crate) async fn good_join_key(&mut self, secret_hash: &str) -> Result<JoinKeyEntry, Refusal> {
        let row = sqlx::query(select_join_keys!(" AND k.secret_hash = $2"))
            .bind(self.network())
            .bind(secret_hash)
            .fetch_optional(&mut *self.connection)
            .await?
            .ok_or(Refusal::JoinKeyUnknown)?;
        let key = JoinKeyEntry::from_row(&row)?;
        if key.revoked_at.is_some() {
            return Err(Refusal::JoinKeyRevoked);
        }
        if key.expires_at.is_some_and(|expiry| expiry <= self.now) {
            return Err(Refusal::JoinKeyExpired);
        }
        Ok(key)
    }

    /// Uses the join key: of all who try at once with a key for one use, one succeeds.
    pub(crate) async fn use_join_key(&mut self, key: &JoinKeyEntry) -> Result<(), Refusal> {
        let used = sqlx::query(
            "UPDATE join_keys SET use_count = use_count + 1 \
             WHERE network_id = $1 AND join_key_id = $2 AND (reusable OR use_count = 0)",
        )
        .bind(self.network())
        .bind(key.id as i64)
        .execute(&mut *self.connection)
        .await?;
        if used.rows_affected() == 0 { Err(Refusal::JoinKeyUsed) } else { Ok(()) }
    }
}
