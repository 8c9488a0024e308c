//! Nodes: reading them, and what an administrator or a node's own leaving does to them.

use sqlx::{Row, sqlite::SqliteRow};
use weft_core::{
    control::{NetworkId, NodeId},
    keys::{MachineKey, NodeKey},
};

use super::{Change, Effect, Store, Transaction, tags_from_text, tags_to_text};
use crate::{address::Host, name, node::Node, refusal::Refusal};

macro_rules! select_nodes {
    ($condition:literal) => {
        concat!(
            "SELECT n.*, u.name AS user_name FROM nodes n JOIN users u \
             ON u.network_id = n.network_id AND u.user_id = n.user_id WHERE n.network_id = $1",
            $condition
        )
    };
}

fn from_row(row: &SqliteRow) -> Result<Node, Refusal> {
    let machine_key: &str = row.try_get("machine_key")?;
    let node_key: &str = row.try_get("node_key")?;
    let broken = |error| Refusal::Storage(format!("a key in the table of nodes cannot be read: {error}"));
    Ok(Node {
        id: NodeId(row.try_get::<i64, _>("node_id")? as u32),
        user: row.try_get("user_name")?,
        join_key_id: row.try_get::<i64, _>("join_key_id")? as u64,
        machine_key: machine_key.parse().map_err(broken)?,
        node_key: node_key.parse().map_err(broken)?,
        name: row.try_get("name")?,
        base_name: row.try_get("base_name")?,
        suffix: row.try_get::<i64, _>("suffix")? as u32,
        name_fixed: row.try_get("name_fixed")?,
        hostname: row.try_get("hostname")?,
        os: row.try_get("os")?,
        agent: row.try_get("agent")?,
        host: Host(row.try_get::<i64, _>("host")? as u32),
        tags: tags_from_text(row.try_get("tags")?),
        ephemeral: row.try_get("ephemeral")?,
        created_at: row.try_get::<i64, _>("created_at")? as u64,
        key_expires_at: row.try_get::<Option<i64>, _>("key_expires_at")?.map(|at| at as u64),
        last_seen_at: row.try_get::<i64, _>("last_seen_at")? as u64,
        revision: row.try_get::<i64, _>("revision")? as u64,
    })
}

impl Store {
    /// Every node of a network.
    ///
    /// # Errors
    /// [`Refusal::Storage`].
    pub async fn nodes(&mut self, network: NetworkId) -> Result<Vec<Node>, Refusal> {
        let rows = sqlx::query(select_nodes!("")).bind(i64::from(network.0)).fetch_all(self.connection()).await?;
        rows.iter().map(from_row).collect()
    }
}

impl Transaction<'_> {
    /// The node of a machine.
    pub(crate) async fn node_of_machine(&mut self, machine: &MachineKey) -> Result<Option<Node>, Refusal> {
        let row = sqlx::query(select_nodes!(" AND n.machine_key = $2"))
            .bind(self.network())
            .bind(machine.to_string())
            .fetch_optional(&mut *self.connection)
            .await?;
        row.as_ref().map(from_row).transpose()
    }

    /// The node with this id, name or mesh address.
    pub(crate) async fn find_node(&mut self, which: &str) -> Result<Node, Refusal> {
        let number = match (which.parse::<u32>(), which.parse().ok().and_then(Host::of)) {
            (Ok(id), _) => Some(("n.node_id", i64::from(id))),
            (_, Some(host)) => Some(("n.host", i64::from(host.0))),
            _ => None,
        };
        let by_name = sqlx::query(select_nodes!(" AND n.name = $2"))
            .bind(self.network())
            .bind(which.to_ascii_lowercase())
            .fetch_optional(&mut *self.connection)
            .await?;
        let row = match (by_name, number) {
            (None, Some(("n.host", host))) => {
                let query = sqlx::query(select_nodes!(" AND n.host = $2")).bind(self.network()).bind(host);
                query.fetch_optional(&mut *self.connection).await?
            }
            (None, Some((_, id))) => {
                let query = sqlx::query(select_nodes!(" AND n.node_id = $2")).bind(self.network()).bind(id);
                query.fetch_optional(&mut *self.connection).await?
            }
            (Some(named), Some(("n.node_id", id))) if named.try_get::<i64, _>("node_id")? != id => {
                // A machine may call itself by a number; nobody's command shall hit it instead of the node of that id.
                let other = NodeId(id as u32);
                if self.node_exists(other).await? {
                    return Err(Refusal::AmbiguousNode(which.to_owned()));
                }
                Some(named)
            }
            (found, _) => found,
        };
        row.as_ref().map(from_row).transpose()?.ok_or_else(|| Refusal::NoSuchNode(which.to_owned()))
    }

    /// The node with this id.
    pub(crate) async fn node(&mut self, id: NodeId) -> Result<Node, Refusal> {
        let row = sqlx::query(select_nodes!(" AND n.node_id = $2"))
            .bind(self.network())
            .bind(i64::from(id.0))
            .fetch_optional(&mut *self.connection)
            .await?;
        row.as_ref().map(from_row).transpose()?.ok_or(Refusal::NodeRemoved)
    }

    /// A name that no other node has: `base`, or `base` with the next number.
    pub(crate) async fn free_name(&mut self, base: &str) -> Result<(String, u32), Refusal> {
        if !self.name_is_taken(base).await? {
            return Ok((base.to_owned(), 0));
        }
        let last: Option<i64> =
            sqlx::query_scalar("SELECT MAX(suffix) FROM nodes WHERE network_id = $1 AND base_name = $2")
                .bind(self.network())
                .bind(base)
                .fetch_one(&mut *self.connection)
                .await?;
        let mut suffix = last.map_or(0, |last| last as u32);
        loop {
            suffix += 1;
            let name = name::numbered(base, suffix);
            if !self.name_is_taken(&name).await? {
                return Ok((name, suffix));
            }
        }
    }

    async fn node_exists(&mut self, id: NodeId) -> Result<bool, Refusal> {
        match self.node(id).await {
            Ok(_) => Ok(true),
            Err(Refusal::NodeRemoved) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn name_is_taken(&mut self, name: &str) -> Result<bool, Refusal> {
        let taken: Option<i64> = sqlx::query_scalar("SELECT node_id FROM nodes WHERE network_id = $1 AND name = $2")
            .bind(self.network())
            .bind(name)
            .fetch_optional(&mut *self.connection)
            .await?;
        Ok(taken.is_some())
    }

    /// Writes a node that is not there yet.
    pub(crate) async fn insert_node(&mut self, node: &Node) -> Result<(), Refusal> {
        let user_id = self.user_id(&node.user).await?;
        sqlx::query(
            "INSERT INTO nodes (network_id, node_id, user_id, join_key_id, machine_key, node_key, name, base_name, \
             suffix, name_fixed, hostname, os, agent, host, tags, ephemeral, created_at, key_expires_at, \
             last_seen_at, revision) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        )
        .bind(self.network())
        .bind(i64::from(node.id.0))
        .bind(user_id)
        .bind(node.join_key_id as i64)
        .bind(node.machine_key.to_string())
        .bind(node.node_key.to_string())
        .bind(&node.name)
        .bind(&node.base_name)
        .bind(i64::from(node.suffix))
        .bind(node.name_fixed)
        .bind(&node.hostname)
        .bind(&node.os)
        .bind(&node.agent)
        .bind(i64::from(node.host.0))
        .bind(tags_to_text(&node.tags))
        .bind(node.ephemeral)
        .bind(node.created_at as i64)
        .bind(node.key_expires_at.map(|at| at as i64))
        .bind(node.last_seen_at as i64)
        .bind(node.revision as i64)
        .execute(&mut *self.connection)
        .await?;
        Ok(())
    }

    /// Writes what can change in a node that is there, and tells of it.
    pub(crate) async fn update_node(&mut self, node: Node) -> Result<Node, Refusal> {
        let user_id = self.user_id(&node.user).await?;
        sqlx::query(
            "UPDATE nodes SET user_id = $3, join_key_id = $4, node_key = $5, name = $6, base_name = $7, suffix = $8, \
             name_fixed = $9, hostname = $10, os = $11, agent = $12, tags = $13, ephemeral = $14, \
             key_expires_at = $15, revision = $16 WHERE network_id = $1 AND node_id = $2",
        )
        .bind(self.network())
        .bind(i64::from(node.id.0))
        .bind(user_id)
        .bind(node.join_key_id as i64)
        .bind(node.node_key.to_string())
        .bind(&node.name)
        .bind(&node.base_name)
        .bind(i64::from(node.suffix))
        .bind(node.name_fixed)
        .bind(&node.hostname)
        .bind(&node.os)
        .bind(&node.agent)
        .bind(tags_to_text(&node.tags))
        .bind(node.ephemeral)
        .bind(node.key_expires_at.map(|at| at as i64))
        .bind(node.revision as i64)
        .execute(&mut *self.connection)
        .await?;
        self.effects.push(Effect::NodeChanged(Box::new(node.clone())));
        Ok(node)
    }

    /// Makes `node_key` this machine's for life.
    pub(crate) async fn claim_node_key(&mut self, node_key: &NodeKey, machine: &MachineKey) -> Result<(), Refusal> {
        sqlx::query(
            "INSERT INTO node_keys (network_id, node_key, machine_key, claimed_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (network_id, node_key) DO NOTHING",
        )
        .bind(self.network())
        .bind(node_key.to_string())
        .bind(machine.to_string())
        .bind(self.now())
        .execute(&mut *self.connection)
        .await?;
        let owner: String =
            sqlx::query_scalar("SELECT machine_key FROM node_keys WHERE network_id = $1 AND node_key = $2")
                .bind(self.network())
                .bind(node_key.to_string())
                .fetch_one(&mut *self.connection)
                .await?;
        if owner == machine.to_string() { Ok(()) } else { Err(Refusal::NodeKeyTaken(*node_key)) }
    }

    async fn remove(&mut self, node: Node, because: Refusal) -> Result<Node, Refusal> {
        let revision = self.next_revision().await?;
        sqlx::query("DELETE FROM nodes WHERE network_id = $1 AND node_id = $2")
            .bind(self.network())
            .bind(i64::from(node.id.0))
            .execute(&mut *self.connection)
            .await?;
        sqlx::query(
            "INSERT INTO tombstones (network_id, revision, node_id, machine_key, removed_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(self.network())
        .bind(revision as i64)
        .bind(i64::from(node.id.0))
        .bind(node.machine_key.to_string())
        .bind(self.now())
        .execute(&mut *self.connection)
        .await?;
        sqlx::query("INSERT INTO released_hosts (network_id, host, revision) VALUES ($1, $2, $3)")
            .bind(self.network())
            .bind(i64::from(node.host.0))
            .bind(revision as i64)
            .execute(&mut *self.connection)
            .await?;
        self.effects.push(Effect::NodeRemoved { id: node.id, revision, because });
        Ok(node)
    }

    async fn end_key(&mut self, mut node: Node, because: Refusal) -> Result<Node, Refusal> {
        if !node.is_expired(self.now) {
            node.key_expires_at = Some(self.now);
            node.revision = self.next_revision().await?;
            node = self.update_node(node).await?;
        }
        self.effects.push(Effect::KeyEnded { id: node.id, because });
        Ok(node)
    }
}

/// Lists the nodes, by id.
#[derive(Debug)]
pub struct ListNodes;

impl Change for ListNodes {
    type Output = Vec<Node>;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<Vec<Node>, Refusal> {
        let query = sqlx::query(select_nodes!(" ORDER BY n.node_id")).bind(tx.network());
        query.fetch_all(&mut *tx.connection).await?.iter().map(from_row).collect()
    }
}

/// Gives a node another name, which it keeps whatever its hostname becomes.
#[derive(Debug)]
pub struct RenameNode {
    /// Its id, name or address.
    pub which: String,
    /// The new name.
    pub name: String,
}

impl Change for RenameNode {
    type Output = Node;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<Node, Refusal> {
        if !name::is_label(&self.name) {
            return Err(Refusal::BadNodeName(self.name));
        }
        let mut node = tx.find_node(&self.which).await?;
        if node.name == self.name && node.name_fixed {
            return Ok(node);
        }
        if node.name != self.name && tx.name_is_taken(&self.name).await? {
            return Err(Refusal::NameTaken(self.name));
        }
        node.base_name.clone_from(&self.name);
        node.name = self.name;
        node.suffix = 0;
        node.name_fixed = true;
        node.revision = tx.next_revision().await?;
        tx.update_node(node).await
    }
}

/// Ends a node's key now. The node stays known and keeps its name and address for when it joins again.
#[derive(Debug)]
pub struct ExpireNode {
    /// Its id, name or address.
    pub which: String,
}

impl Change for ExpireNode {
    type Output = Node;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<Node, Refusal> {
        let node = tx.find_node(&self.which).await?;
        tx.end_key(node, Refusal::NodeExpiredByAdmin).await
    }
}

/// Removes a node.
#[derive(Debug)]
pub struct RemoveNode {
    /// Its id, name or address.
    pub which: String,
}

impl Change for RemoveNode {
    type Output = Node;

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<Node, Refusal> {
        let node = tx.find_node(&self.which).await?;
        tx.remove(node, Refusal::NodeRemoved).await
    }
}

/// A node leaves by its own wish: an ephemeral one is removed, another's key ends.
#[derive(Debug)]
pub struct LogOut {
    /// The node.
    pub id: NodeId,
}

impl Change for LogOut {
    type Output = ();

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<(), Refusal> {
        let node = tx.node(self.id).await?;
        if node.ephemeral {
            tx.remove(node, Refusal::LoggedOut).await?;
        } else {
            tx.end_key(node, Refusal::LoggedOut).await?;
        }
        Ok(())
    }
}

/// Removes an ephemeral node that has been away for too long.
#[derive(Debug)]
pub struct RemoveEphemeral {
    /// The node.
    pub id: NodeId,
}

impl Change for RemoveEphemeral {
    type Output = ();

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<(), Refusal> {
        let node = tx.node(self.id).await?;
        if node.ephemeral {
            tx.remove(node, Refusal::NodeRemoved).await?;
        }
        Ok(())
    }
}

/// Stores when nodes were last connected. Not a change that anybody is told of.
#[derive(Debug)]
pub struct StoreLastSeen {
    /// Nodes and times in seconds since 1970.
    pub seen: Vec<(NodeId, u64)>,
}

impl Change for StoreLastSeen {
    type Output = ();

    async fn apply(self, tx: &mut Transaction<'_>) -> Result<(), Refusal> {
        for (id, at) in self.seen {
            sqlx::query("UPDATE nodes SET last_seen_at = $3 WHERE network_id = $1 AND node_id = $2")
                .bind(tx.network())
                .bind(i64::from(id.0))
                .bind(at as i64)
                .execute(&mut *tx.connection)
                .await?;
        }
        Ok(())
    }
}
