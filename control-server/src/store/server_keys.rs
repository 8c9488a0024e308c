//! The server's own keys: the one that join keys name, the next one while a rotation is announced, and the previous
//! one for nodes that were away during the rotation.

use weft_core::{
    control::NetworkId,
    crypto::{Crypto, RustCrypto},
    keys::{ServerKey, ServerSecret},
};
use zeroize::Zeroize;

use super::{Change, Effect, Store, Transaction};
use crate::{random, refusal::Refusal};

/// The keys that the server answers to.
#[derive(Clone, Debug)]
pub struct ServerKeys {
    /// The key in new join keys.
    pub current: ServerSecret,
    /// The key that was announced.
    pub next: Option<ServerSecret>,
    /// The key before the current one.
    pub previous: Option<ServerSecret>,
}

impl ServerKeys {
    /// Every key that the server answers to, the likeliest first.
    pub fn all(&self) -> impl Iterator<Item = &ServerSecret> {
        [Some(&self.current), self.next.as_ref(), self.previous.as_ref()].into_iter().flatten()
    }

    /// The key in new join keys.
    pub fn public(&self) -> ServerKey {
        public(&self.current)
    }

    /// The key that nodes should trust from now on, where it is not the one that they connected to.
    pub fn successor(&self) -> ServerKey {
        public(self.next.as_ref().unwrap_or(&self.current))
    }
}

/// The public key of a secret.
pub fn public(secret: &ServerSecret) -> ServerKey {
    secret.public::<<RustCrypto as Crypto>::Dh>()
}

const CURRENT: &str = "current";
const NEXT: &str = "next";
const PREVIOUS: &str = "previous";

impl Store {
    /// The server's keys; the first one is made where there is none yet.
    ///
    /// # Errors
    /// [`Refusal::Storage`] and [`Refusal::DiskFull`].
    pub async fn server_keys(&mut self, network: NetworkId, now: u64) -> Result<ServerKeys, Refusal> {
        let policy = super::Policy::default();
        let mut tx = Transaction { connection: self.connection(), network, now, policy: &policy, effects: Vec::new() };
        if tx.server_key(CURRENT).await?.is_none() {
            tx.insert_server_key(CURRENT).await?;
        }
        tx.server_keys().await
    }
}

impl Transaction<'_> {
    async fn server_keys(&mut self) -> Result<ServerKeys, Refusal> {
        let current = self.server_key(CURRENT).await?;
        Ok(ServerKeys {
            current: current.ok_or_else(|| Refusal::Storage("the server's key is missing".to_owned()))?,
            next: self.server_key(NEXT).await?,
            previous: self.server_key(PREVIOUS).await?,
        })
    }

    async fn server_key(&mut self, role: &str) -> Result<Option<ServerSecret>, Refusal> {
        let hex: Option<String> =
            sqlx::query_scalar("SELECT secret_key FROM server_keys WHERE network_id = $1 AND role = $2")
                .bind(self.network())
                .bind(role)
                .fetch_optional(&mut *self.connection)
                .await?;
        let Some(mut hex) = hex else { return Ok(None) };
        let secret = secret_of_hex(&hex).ok_or_else(|| Refusal::Storage("the server's key cannot be read".to_owned()));
        hex.zeroize();
        secret.map(Some)
    }

    async fn insert_server_key(&mut self, role: &str) -> Result<(), Refusal> {
        let secret = ServerSecret::generate(&mut random::system());
        let mut hex: String = secret.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let done = sqlx::query(
            "INSERT INTO server_keys (network_id, public_key, secret_key, role, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(self.network())
        .bind(public(&secret).to_string())
        .bind(&hex)
        .bind(role)
        .bind(self.now())
        .execute(&mut *self.connection)
        .await;
        hex.zeroize();
        done?;
        Ok(())
    }

    async fn change_role(&mut self, from: &str, to: &str) -> Result<u64, Refusal> {
        let done = sqlx::query("UPDATE server_keys SET role = $3 WHERE network_id = $1 AND role = $2")
            .bind(self.network())
            .bind(from)
            .bind(to)
            .execute(&mut *self.connection)
            .await?;
        Ok(done.rows_affected())
    }

    async fn delete_role(&mut self, role: &str) -> Result<u64, Refusal> {
        let done = sqlx::query("DELETE FROM server_keys WHERE network_id = $1 AND role = $2")
            .bind(self.network())
            .bind(role)
            .execute(&mut *self.connection)
            .await?;
        Ok(done.rows_affected())
    }
}

/// A step of replacing the server's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotateKey {
    /// Makes the next key and announces it. Both are answered to.
    Announce,
    /// Makes the announced key the current one, which new join keys name. The one before is still answered to.
    Switch,
    /// Forgets the key before: nodes that have not heard of the current one must join again.
    Retire,
}

impl Change for RotateKey {
    type Output = ServerKeys;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<ServerKeys, Refusal> {
        match self {
            Self::Announce => {
                if tx.server_key(NEXT).await?.is_some() {
                    return Err(Refusal::Rotation(
                        "a next key is announced already: `rotate-key --switch` makes it the current one",
                    ));
                }
                tx.insert_server_key(NEXT).await?;
            }
            Self::Switch => {
                if tx.server_key(NEXT).await?.is_none() {
                    return Err(Refusal::Rotation(
                        "no next key is announced: run `rotate-key`, wait until every node has heard of it, and then switch",
                    ));
                }
                tx.delete_role(PREVIOUS).await?;
                tx.change_role(CURRENT, PREVIOUS).await?;
                tx.change_role(NEXT, CURRENT).await?;
            }
            Self::Retire => {
                if tx.delete_role(PREVIOUS).await? == 0 {
                    return Err(Refusal::Rotation("there is no previous key to retire"));
                }
            }
        }
        let keys = tx.server_keys().await?;
        tx.effects.push(Effect::ServerKeys(keys.clone()));
        Ok(keys)
    }
}

fn secret_of_hex(hex: &str) -> Option<ServerSecret> {
    let mut bytes = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    let secret = ServerSecret::from_bytes(bytes);
    bytes.zeroize();
    Some(secret)
}
