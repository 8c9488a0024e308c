//! A machine registers: it joins, comes back, renews its node key or its membership.

use weft_core::{
    control::{JoinSecret, NodeId},
    keys::{MachineKey, NodeKey},
};

use super::{Change, Effect, Transaction, join_keys::secret_hash};
use crate::{name, node::Node, refusal::Refusal};

/// The longest hostname, system and agent version that are kept, in bytes.
const MAX_TEXT: usize = 64;

/// What a machine says of itself, after both of its keys were proven.
#[derive(Clone, Debug)]
pub struct RegisterNode {
    /// The key that the connection proved.
    pub machine_key: MachineKey,
    /// The WireGuard key that it proved to hold.
    pub node_key: NodeKey,
    /// The secret of a join key.
    pub join_secret: Option<JoinSecret>,
    /// What it calls itself.
    pub hostname: String,
    /// Its operating system.
    pub os: String,
    /// The version of its agent.
    pub agent: String,
}

impl RegisterNode {
    /// Whether `node` already is all that this asks for, so that nothing has to be written.
    pub fn is_already(&self, node: &Node, now: u64) -> bool {
        self.join_secret.is_none()
            && !node.is_expired(now)
            && node.machine_key == self.machine_key
            && node.node_key == self.node_key
            && node.hostname == cut(&self.hostname)
            && node.os == cut(&self.os)
            && node.agent == cut(&self.agent)
    }
}

impl Change for RegisterNode {
    type Output = Node;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<Node, Refusal> {
        match tx.node_of_machine(&self.machine_key).await? {
            None => self.join(tx).await,
            Some(node) => self.come_back(tx, node).await,
        }
    }
}

impl RegisterNode {
    async fn join(self, tx: &mut Transaction<'_>) -> Result<Node, Refusal> {
        let Some(secret) = &self.join_secret else {
            return Err(tx.why_unknown(&self.machine_key).await?);
        };
        let key = tx.good_join_key(&secret_hash(secret)).await?;
        tx.use_join_key(&key).await?;
        tx.claim_node_key(&self.node_key, &self.machine_key).await?;
        let base_name = name::label_of_hostname(&self.hostname);
        let (name, suffix) = tx.free_name(&base_name).await?;
        let node = Node {
            id: NodeId(tx.next_id().await?),
            user: key.user,
            join_key_id: key.id,
            machine_key: self.machine_key,
            node_key: self.node_key,
            name,
            base_name,
            suffix,
            name_fixed: false,
            hostname: cut(&self.hostname).to_owned(),
            os: cut(&self.os).to_owned(),
            agent: cut(&self.agent).to_owned(),
            host: tx.allocate_host().await?,
            key_expires_at: tx.fresh_expiry(&key.tags),
            tags: key.tags,
            ephemeral: key.ephemeral,
            created_at: tx.now,
            last_seen_at: tx.now,
            revision: tx.next_revision().await?,
        };
        tx.insert_node(&node).await?;
        tx.effects.push(Effect::NodeChanged(Box::new(node.clone())));
        Ok(node)
    }

    async fn come_back(self, tx: &mut Transaction<'_>, old: Node) -> Result<Node, Refusal> {
        let mut node = old.clone();
        tx.renew(&mut node, self.node_key, self.join_secret.as_ref()).await?;
        node.hostname = cut(&self.hostname).to_owned();
        node.os = cut(&self.os).to_owned();
        node.agent = cut(&self.agent).to_owned();
        if node.hostname != old.hostname && !node.name_fixed {
            let base_name = name::label_of_hostname(&self.hostname);
            if base_name != node.base_name {
                (node.name, node.suffix) = tx.free_name(&base_name).await?;
                node.base_name = base_name;
            }
        }
        tx.update_if_changed(&old, node).await
    }
}

/// A connected node replaces its node key.
#[derive(Debug)]
pub struct RenewKey {
    /// The node.
    pub id: NodeId,
    /// The key that it proved to hold.
    pub node_key: NodeKey,
    /// The secret of a join key, which lets the expiry begin anew.
    pub join_secret: Option<JoinSecret>,
}

impl Change for RenewKey {
    type Output = Node;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<Node, Refusal> {
        let old = tx.node(self.id).await?;
        let mut node = old.clone();
        tx.renew(&mut node, self.node_key, self.join_secret.as_ref()).await?;
        tx.update_if_changed(&old, node).await
    }
}

impl Transaction<'_> {
    /// Renews `node` by another node key, by a join key, or both.
    async fn renew(&mut self, node: &mut Node, key: NodeKey, secret: Option<&JoinSecret>) -> Result<(), Refusal> {
        let expired = node.is_expired(self.now);
        match secret {
            None if expired => return Err(Refusal::NodeKeyExpired),
            None => {}
            Some(secret) => {
                let hash = secret_hash(secret);
                // A machine that never heard that it is registered repeats itself, and uses nothing up.
                let repeats = !expired && self.join_key_has_secret(node.join_key_id, &hash).await?;
                if !repeats {
                    let join_key = self.good_join_key(&hash).await?;
                    self.use_join_key(&join_key).await?;
                    node.key_expires_at = self.fresh_expiry(&join_key.tags);
                    node.join_key_id = join_key.id;
                    node.user = join_key.user;
                    node.tags = join_key.tags;
                    node.ephemeral = join_key.ephemeral;
                }
            }
        }
        if key != node.node_key {
            self.claim_node_key(&key, &node.machine_key).await?;
            node.node_key = key;
        }
        Ok(())
    }

    async fn update_if_changed(&mut self, old: &Node, mut node: Node) -> Result<Node, Refusal> {
        if node == *old {
            return Ok(node);
        }
        let told = |node: &Node| {
            let Node { node_key, name, os, user, tags, key_expires_at, .. } = node.clone();
            (node_key, name, os, user, tags, key_expires_at)
        };
        if told(&node) != told(old) {
            node.revision = self.next_revision().await?;
        }
        self.update_node(node).await
    }

    /// When a node key that becomes valid now expires. That of a tagged node does not.
    fn fresh_expiry(&self, tags: &[String]) -> Option<u64> {
        tags.is_empty().then(|| self.now.saturating_add(self.policy.key_validity))
    }

    async fn join_key_has_secret(&mut self, join_key_id: u64, secret_hash: &str) -> Result<bool, Refusal> {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT join_key_id FROM join_keys WHERE network_id = $1 AND join_key_id = $2 AND secret_hash = $3",
        )
        .bind(self.network())
        .bind(join_key_id as i64)
        .bind(secret_hash)
        .fetch_optional(&mut *self.connection)
        .await?;
        Ok(found.is_some())
    }

    async fn why_unknown(&mut self, machine: &MachineKey) -> Result<Refusal, Refusal> {
        let removed: Option<i64> =
            sqlx::query_scalar("SELECT node_id FROM tombstones WHERE network_id = $1 AND machine_key = $2 LIMIT 1")
                .bind(self.network())
                .bind(machine.to_string())
                .fetch_optional(&mut *self.connection)
                .await?;
        Ok(if removed.is_some() { Refusal::NodeRemoved } else { Refusal::UnknownMachine })
    }
}

/// The beginning of a text, as much as is kept of it.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or(text)
}
